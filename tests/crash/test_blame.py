"""What a job's attempt tells of the death of its process, and deaths that are none.

What lives here: real ends, seen by a sibling or by the next start, and files that were tampered
with. What does not: the words (`tests/unit/test_processes_deaths.py`).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from embedded_tasks.processes import WritersLock, processes_folder
from embedded_tasks.processes.layout import lock_path
from tests.crash.harness import Child, Place, Worker, wait_until

POISON = "tests.crash.poison:"
UID = 12_345
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of it")


def crashed(place: Place) -> list[tuple[str, str, str | None]]:
    """What the attempts that crashed say: key, message, stack."""
    return place.rows(
        "SELECT json_extract(args, '$[1][0]'), error_message, traceback FROM attempts "
        "JOIN jobs ON jobs.seq = attempts.job WHERE outcome = 'crashed' ORDER BY 1"
    )


def enqueue(worker: Worker, task: str, *keys: str, on_crash: str = "hold") -> None:
    args = [30] if task in ("work", "work_sync") else []
    worker.ask("enqueue", task=task, keys=keys, args=args, options={"on_crash": on_crash})


@linux
@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("kill_itself", "killed by SIGKILL"),
        ("abort", "killed by SIGABRT"),
        ("exit_at_once", "exit code 3"),
    ],
)
def test_a_sibling_tells_how_a_process_ended_while_its_parent_has_not_asked(
    place: Place, task: str, words: str
) -> None:
    doomed = place.worker()
    enqueue(doomed, "work", "a", "b")
    place.wait_for("started", ["a", "b"])
    sibling = place.worker(concurrency=0)
    # Nobody waits for the dead one, so the system keeps how it ended.
    doomed.begin("enqueue", task=f"{POISON}{task}", keys=["p"], args=[])
    wait_until(lambda: place.lines("process.recovered", sibling.pid), "the sibling has seen it")
    rows = crashed(place)
    assert [key for key, _, _ in rows] == ["a", "b", "p"]
    for _, message, _ in rows:
        start = f"Its process (pid {doomed.pid}) died while it ran, with 2 others: {words}. It "
        assert message.startswith(start)
    assert "memory" not in rows[0][1]


@pytest.mark.parametrize(("task", "name"), [("abort", "Aborted"), ("segfault", "Segmentation")])
def test_the_next_start_finds_the_stack_of_a_crash_on_every_job_that_ran(
    place: Place, task: str, name: str
) -> None:
    doomed = place.worker()
    enqueue(doomed, "work", "a")
    enqueue(doomed, "work_sync", "b")
    place.wait_for("started", ["a", "b"])
    doomed.begin("enqueue", task=f"{POISON}{task}", keys=["p"], args=[])
    doomed.wait()
    worker = place.worker(concurrency=0)
    rows = crashed(place)
    assert [key for key, _, _ in rows] == ["a", "b", "p"]
    for _, message, stack in rows:
        assert f"with 2 others: {name}" in message
        assert "It died at " in message
        head, current = (stack or "").split("\n\n")[:2]
        assert head.startswith(f"Fatal Python error: {name}")
        assert current.startswith("Current thread")
        assert f"in {task}" in current
        assert "in work_sync" in (stack or "")
    (line,) = place.lines("process.died")
    assert line["stack"] == rows[0][2]
    worker.leave()
    assert list(processes_folder(place.file).glob("*.trace")) == []


def test_a_sigkill_leaves_no_stack_and_nothing_is_made_up(place: Place) -> None:
    doomed = place.worker()
    enqueue(doomed, "work", "a")
    place.wait_for("started", ["a"])
    doomed.kill()  # and waited for: nobody can know the signal any more
    place.worker().leave()
    ((_, message, stack),) = crashed(place)
    assert message.startswith(f"Its process (pid {doomed.pid}) died while it ran. It was found ")
    assert stack is None


def test_a_child_that_crashes_writes_nothing_into_its_parent_s_file(place: Place) -> None:
    worker = place.worker()
    enqueue(worker, f"{POISON}fork_and_abort", "f")
    place.wait_for("ended", ["f"])
    (trace,) = processes_folder(place.file).glob("*.trace")
    assert "Fatal" not in trace.read_text()
    worker.leave()


def test_a_process_whose_file_was_removed_by_hand_is_not_robbed_and_says_so(place: Place) -> None:
    owner = place.worker()
    owner.ask("enqueue", task="work", keys=["a"], args=[2.0])
    place.wait_for("started", ["a"])
    (process_id,) = place.process_files()
    Path(lock_path(processes_folder(place.file), process_id)).unlink()
    other = place.worker()
    assert any("The process file was removed" in problem for problem in owner.ask("health"))
    assert any("was removed while in use" in problem for problem in other.ask("health"))
    place.wait_for("ended", ["a"])
    wait_until(lambda: place.states() == {"succeeded": 1})
    assert place.keys("started") == {"a": 1}
    owner.leave()
    other.leave()
    assert place.process_files() == []


@linux
def test_a_process_whose_folder_was_removed_by_hand_is_not_robbed_and_takes_turns(
    place: Place,
) -> None:
    """As a file cannot be removed from it alone: whoever starts next makes the folder anew."""
    owner = place.worker()
    owner.ask("enqueue", task="work", keys=["a"], args=[3.0])
    place.wait_for("started", ["a"])
    folder = processes_folder(place.file)
    shutil.rmtree(folder)
    other = place.worker()
    assert any("The process file was removed" in problem for problem in owner.ask("health"))
    assert any("were removed while in use" in problem for problem in other.ask("health"))
    # Both write, and both lock the same file, although that of the first one was removed.
    for worker in (owner, other, owner):
        worker.ask("enqueue", task="work", keys=[f"b{worker.pid}"], args=[0.0])
    with WritersLock(folder):
        tokens = [
            worker.begin("enqueue", task="work", keys=[f"c{worker.pid}"], args=[0.0])
            for worker in (owner, other)
        ]
        time.sleep(0.3)
        assert not {f"c{owner.pid}", f"c{other.pid}"} & set(place.keys("enqueued"))
    assert [len(owner.reply(tokens[0])), len(other.reply(tokens[1]))] == [1, 1]
    place.wait_for("ended", ["a"])
    wait_until(lambda: place.states() == {"succeeded": 6})
    assert place.keys("started")["a"] == 1
    owner.leave()
    other.leave()
    assert place.is_sound()


# Another user.

VISIT = """
import asyncio, codecs, os, sys
from embedded_tasks import TaskRunner
from embedded_tasks.errors import ConfigurationError

async def main():
    async with TaskRunner(os.environ["CRASH_FILE"], modules=["tests"]):
        print("open", flush=True)
        sys.stdin.read()

# Everything is imported, so that another user need not be able to read it.
codecs.lookup("ascii")
os.setgroups([])
os.setgid(int(os.environ["VISITOR"]))
os.setuid(int(os.environ["VISITOR"]))
try:
    asyncio.run(main())
except ConfigurationError as error:
    print(error, flush=True)
    sys.exit(77 if "belongs to user" in str(error) and "sudo -u" in str(error) else 78)
"""


@pytest.fixture
def app_s_place() -> Iterator[Place]:
    """A place in a folder of an app's own user, which that user can reach."""
    if os.geteuid() != 0:
        reason = "only root can be another user"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        Path(name).chmod(0o755)
        place = Place(Path(name), stack)
        os.chown(place.folder, UID, UID)
        yield place


def visit(place: Place, uid: int) -> Child:
    return place.script(VISIT, VISITOR=str(uid))


def is_open(child: Child) -> None:
    stream = child.popen.stdout
    assert stream is not None
    assert b"open\n" in iter(stream.readline, b"")  # after lines of the log


def leave(child: Child) -> None:
    stream = child.popen.stdin
    assert stream is not None
    stream.close()
    assert child.wait() == 0


def test_root_is_refused_on_an_app_s_file_and_leaves_nothing_there(app_s_place: Place) -> None:
    place = app_s_place
    app = visit(place, UID)
    is_open(app)
    before = sorted(place.folder.rglob("*"))
    assert visit(place, 0).wait() == 77
    assert sorted(place.folder.rglob("*")) == before
    assert {path.lstat().st_uid for path in before} == {UID}
    leave(app)


def test_a_folder_that_the_app_may_not_write_is_refused_and_left_as_it_was(
    app_s_place: Place,
) -> None:
    place = app_s_place
    place.folder.chmod(0o555)
    child = visit(place, UID)
    assert child.wait() == 78
    assert b"correct the permissions" in all_of(child)
    assert list(place.folder.iterdir()) == []
    place.folder.chmod(0o755)
    app = visit(place, UID)
    is_open(app)
    leave(app)


def all_of(child: Child) -> bytes:
    assert child.popen.stdout is not None
    return bytes(child.popen.stdout.read())


def test_root_leaves_nothing_beside_a_file_that_the_app_has_not_opened_yet(
    app_s_place: Place,
) -> None:
    place = app_s_place
    place.file.touch()
    os.chown(place.file, UID, UID)
    assert visit(place, 0).wait() == 77
    assert list(place.folder.iterdir()) == [place.file]
