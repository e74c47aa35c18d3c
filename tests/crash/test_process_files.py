"""Process files, pipes and locks when processes really die, stop and fork.

What lives here: child processes that do only that; real time, and the measured figures printed.
What does not: jobs and SQLite. Run by pytest; `-s` shows the figures.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import random
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from embedded_tasks.processes import (
    INTERRUPTED,
    Kind,
    Mark,
    Peers,
    WritersLock,
    list_processes,
    probe,
)
from embedded_tasks.processes.layout import fifo_path, lock_path
from embedded_tasks.processes.records import FIRST_SLOTS
from tests.crash.process_children import OWN, Child, on_loop, open_files_in, watch_death

LOOPS = ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]
HINT_LIMIT = 0.05  # seconds from a death to its discovery; measured 0.0005 to 0.005

Start = Callable[..., Child]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start children that are ended with the test."""
    with ExitStack() as stack:
        numbers = iter(range(1, 100))

        def start_one(code: str) -> Child:
            child = Child(tmp_path, f"{next(numbers):032x}", code)
            stack.callback(child.end)
            return child

        yield start_one


LIVE = """
    be_born()
    say("ready")
    sys.stdin.read()
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_killed_process_is_found_dead_at_once(tmp_path: Path, start: Start, loop: str) -> None:
    seconds: list[float] = []
    hints: list[int] = []
    for _ in range(5):
        child = start(LIVE)
        assert child.hear() == "ready"
        found, count, _ = on_loop(loop, watch_death(tmp_path, child.popen.kill))
        seconds.append(found)
        hints.append(count)
        assert list(tmp_path.iterdir()) == []
    print(f"\n{loop}: found dead after {[round(s * 1000, 2) for s in seconds]} ms, hints {hints}")
    assert statistics.median(seconds) < HINT_LIMIT


def test_a_hint_that_comes_before_the_lock_is_free_is_repeated(
    tmp_path: Path, start: Start
) -> None:
    child = start("""
        be_born()
        say("ready")
        sys.stdin.readline()
        mailbox.close()
        time.sleep(0.03)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    assert child.hear() == "ready"
    seconds, hints, _ = asyncio.run(watch_death(tmp_path, lambda: child.tell("close")))
    assert hints > 1
    assert 0.03 < seconds < 0.03 + 0.3


def test_marks_survive_sigkill_and_are_read_by_another_process(
    tmp_path: Path, start: Start
) -> None:
    child = start("""
        be_born()
        for number in range(300):
            slot = file.mark(number.to_bytes(16, "big"), number + 1)
            if number % 3 == 0:
                file.clear(slot)
            elif number % 3 == 1:
                file.annotate(slot, INTERRUPTED)
        say("ready")
        sys.stdin.read()
    """)
    assert child.hear() == "ready"
    assert FIRST_SLOTS < 200  # so the file has grown
    child.kill()
    with probe(tmp_path, child.id) as corpse:
        assert corpse is not None
        assert corpse.readable
        assert corpse.same_boot
        assert corpse.pid == child.popen.pid
        assert sorted(corpse.marks) == [
            Mark(number.to_bytes(16), number + 1, INTERRUPTED if number % 3 == 1 else 0)
            for number in range(300)
            if number % 3
        ]


def test_a_kill_in_the_middle_of_marking_leaves_a_readable_file(
    tmp_path: Path, start: Start
) -> None:
    for seed in range(5):
        child = start("""
            be_born()
            say("ready")
            number = 0
            while True:
                number += 1
                slots = [file.mark(number.to_bytes(16, "big"), number) for _ in range(200)]
                for slot in slots:
                    file.clear(slot)
        """)
        assert child.hear() == "ready"
        time.sleep(random.Random(seed).uniform(0.0, 0.02))
        child.kill()
        with probe(tmp_path, child.id) as corpse:
            assert corpse is not None
            assert corpse.readable
            assert all(int.from_bytes(mark.job_id) == mark.attempt for mark in corpse.marks)
            assert len(corpse.marks) <= 200
            corpse.remove()


def test_a_stopped_process_is_alive(tmp_path: Path, start: Start) -> None:
    child = start("""
        be_born()
        loop = asyncio.new_event_loop()
        mailbox.listen(loop, lambda kind, sender: say(kind.name, sender))
        say("ready")
        loop.run_forever()
    """)
    assert child.hear() == "ready"
    child.popen.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, child.popen.pid, os.WSTOPPED | os.WNOWAIT)

    async def stay() -> list[str]:
        hints: list[str] = []
        peers = Peers(tmp_path, OWN, hints.append, asyncio.get_running_loop())
        peers.refresh()
        assert peers.send(child.id, Kind.CANCEL)
        await asyncio.sleep(0.1)
        assert probe(tmp_path, child.id).alive
        peers.close()
        return hints

    assert asyncio.run(stay()) == []
    child.popen.send_signal(signal.SIGCONT)
    assert child.hear() == f"CANCEL {OWN}"


FORKED = """
    be_born()
    file.mark(b"j" * 16, 1)
    child = os.fork()
    if child == 0:
        say("ready", os.getpid())
        sys.stdin.read()  # outlives its parent
        os._exit(0)
    signal.pause()
"""
POOLED = """
    import multiprocessing

    def outlive():
        say("ready", os.getpid())
        os.read(0, 1)

    be_born()
    file.mark(b"j" * 16, 1)
    multiprocessing.get_context("fork").Process(target=outlive).start()
    signal.pause()
"""
EXECED = """
    be_born()
    file.mark(b"j" * 16, 1)
    writers = WritersLock(folder)
    child = subprocess.Popen(["cat"], stdin=0, close_fds=False)
    say("ready", child.pid)
    signal.pause()
"""


@pytest.mark.parametrize("code", [FORKED, POOLED, EXECED], ids=["fork", "multiprocessing", "exec"])
def test_a_child_that_outlives_its_parent_does_not_keep_it_alive(
    tmp_path: Path, start: Start, code: str
) -> None:
    parent = start(code)
    grandchild = int(parent.hear().split()[1])
    assert probe(tmp_path, parent.id).alive
    seconds, _, marks = asyncio.run(watch_death(tmp_path, parent.popen.kill))
    assert marks == [Mark(b"j" * 16, 1)]
    os.kill(grandchild, 0)  # it is still there
    assert open_files_in(tmp_path, grandchild) == []
    os.kill(grandchild, signal.SIGKILL)
    print(f"\nfound dead after {seconds * 1000:.2f} ms")


FORKING = """
    be_born()
    slot = file.mark(b"j" * 16, 1)
    writers = WritersLock(folder)
    writers.acquire()
    loop = asyncio.new_event_loop()
    mailbox.listen(loop, lambda kind, sender: say(kind.name))
    peers = Peers(folder, own_id, lambda peer_id: say("hint"), loop)
    peers.refresh()
    if os.fork() == 0:
        for use in (
            lambda: file.mark(b"j" * 16, 2), lambda: file.clear(slot), file.marks,
            lambda: file.annotate(slot, 1), file.in_place, writers.acquire,
            writers.try_acquire, writers.release, lambda: mailbox.listen(loop, print),
            lambda: peers.broadcast(Kind.WORK),
        ):
            try:
                use()
            except NotStartedError as error:
                assert "runner of the parent process" in str(error)
            else:
                say("used")
        for close in (
                mailbox.deafen, file.close, mailbox.close, peers.close, writers.close
            ):
            close()
        say("tried")
        os._exit(0)
    os.wait()
    say("waited")
    loop.run_forever()
"""


def test_a_forked_child_can_use_nothing_and_harms_nothing(tmp_path: Path, start: Start) -> None:
    dead = start(LIVE)
    assert dead.hear() == "ready"
    parent = start(FORKING)
    assert parent.hear() == "tried"
    assert parent.hear() == "waited"
    assert probe(tmp_path, parent.id).alive
    assert lock_path(tmp_path, parent.id).exists()
    assert fifo_path(tmp_path, parent.id).exists()
    writers = WritersLock(tmp_path)
    assert not writers.try_acquire()
    peers = Peers(tmp_path, OWN, lambda peer_id: None)
    peers.refresh()
    assert peers.send(parent.id, Kind.WAITING)
    assert parent.hear() == "WAITING"
    dead.kill()
    assert parent.hear() == "hint"
    parent.kill()
    assert writers.try_acquire()
    with probe(tmp_path, parent.id) as corpse:
        assert corpse is not None
        assert corpse.marks == (Mark(b"j" * 16, 1),)
    writers.close()
    peers.close()


def test_of_many_finders_exactly_one_recovers(tmp_path: Path, start: Start) -> None:
    corpses = [start(LIVE) for _ in range(2)]
    finders = [
        start("""
            say("ready")
            for process_id in sys.stdin.readline().split():
                got = False
                while True:
                    with probe(folder, process_id) as corpse:
                        if corpse is None:
                            continue
                        if corpse.gone:
                            break
                        got = True
                        assert corpse.readable
                        time.sleep(0.005)
                        corpse.remove()
                say("got" if got else "gone")
        """)
        for _ in range(3)
    ]
    for child in (*corpses, *finders):
        assert child.hear() == "ready"
    for child in corpses:
        child.kill()
    for finder in finders:
        finder.tell(" ".join(child.id for child in corpses))
    for _ in corpses:
        assert sorted(finder.hear() for finder in finders) == ["gone", "gone", "got"]
    assert list_processes(tmp_path) == []


def test_processes_that_start_together_all_meet(tmp_path: Path, start: Start) -> None:
    children = [
        start("""
            loop = asyncio.new_event_loop()
            be_born()

            def got(kind, sender):
                peers.refresh()
                if len(peers.ids) == 3:
                    say("met")
                    mailbox.deafen()

            mailbox.listen(loop, got)
            peers = Peers(folder, own_id, lambda peer_id: None, loop)
            say("ready")
            sys.stdin.readline()
            peers.refresh()
            peers.broadcast(Kind.HELLO)
            loop.run_forever()
        """)
        for _ in range(4)
    ]
    for child in children:
        assert child.hear() == "ready"
    for child in children:
        child.tell("go")
    assert [child.hear() for child in children] == ["met"] * 4


def test_writers_of_several_processes_exclude_each_other(tmp_path: Path, start: Start) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    children = [
        start("""
            lock = WritersLock(folder)
            counter = folder / "counter"
            say("ready")
            sys.stdin.readline()
            for _ in range(200):
                with lock:
                    counter.write_text(str(int(counter.read_text()) + 1))
            say("done")
        """)
        for _ in range(3)
    ]
    for child in children:
        assert child.hear() == "ready"
    for child in children:
        child.tell("go")
    for child in children:
        assert child.hear() == "done"
    assert counter.read_text() == "600"


def test_a_killed_writer_lets_the_next_one_write(tmp_path: Path, start: Start) -> None:
    child = start("""
        lock = WritersLock(folder)
        lock.acquire()
        say("ready")
        sys.stdin.read()
    """)
    assert child.hear() == "ready"
    lock = WritersLock(tmp_path)
    assert not lock.try_acquire()
    child.popen.kill()
    begun = time.perf_counter()
    lock.acquire()
    print(f"\nnext writer after {(time.perf_counter() - begun) * 1000:.2f} ms")
    lock.close()


def test_a_file_that_may_not_be_read_makes_nobody_dead(tmp_path: Path, start: Start) -> None:
    dead = start(LIVE)
    assert dead.hear() == "ready"
    dead.kill()
    if os.geteuid() != 0:  # root may read everything; its child becomes somebody else
        lock_path(tmp_path, dead.id).chmod(0)
    other = start("""
        if os.geteuid() == 0:
            os.setuid(65534)
        found = probe(folder, sys.stdin.readline().strip())
        say(found.alive, found.undecided)
    """)
    other.tell(dead.id)
    assert other.hear() == (
        f"True {lock_path(tmp_path, dead.id)} cannot be examined: Permission denied"
    )


def test_a_kept_process_file_is_locked_until_the_process_ends(tmp_path: Path, start: Start) -> None:
    child = start("""
        import gc
        be_born()
        file.annotate(file.mark(b"j" * 16, 1), INTERRUPTED)
        mailbox.keep_until_exit()
        file.keep_until_exit()
        del mailbox, file
        gc.collect()
        say("ready")
        sys.stdin.readline()
    """)
    assert child.hear() == "ready"
    assert probe(tmp_path, child.id).alive
    _, _, marks = asyncio.run(watch_death(tmp_path, lambda: child.tell("end")))
    assert marks == [Mark(b"j" * 16, 1, INTERRUPTED)]
