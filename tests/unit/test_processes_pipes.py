"""Messages between siblings, and the hint that one may be dead.

What lives here: mailboxes and peers within one process, on a loop that is turned by hand. What
does not: real deaths and real loops, which are in tests/crash. Run by pytest.
"""

from __future__ import annotations

import os
import select
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedded_tasks.errors import ConfigurationError, NotStartedError
from embedded_tasks.processes import NOBODY, Kind, Mailbox, Peers, list_processes
from embedded_tasks.processes.layout import fifo_path, lock_path
from embedded_tasks.processes.messages import encode

ANNA, BERT, CARL = "a" * 32, "b" * 32, "c" * 32


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class HandLoop:
    """A loop that looks at its descriptors when it is turned, and whose time passes when told."""

    def __init__(self) -> None:
        self.readers: dict[int, Callable[[], object]] = {}
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.time = 0.0

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: int, /) -> bool:
        return self.readers.pop(fd, None) is not None

    def call_later(self, delay: float, callback: Callable[[], object], /) -> HandTimer:
        entry = (self.time + delay, callback)
        self.timers.append(entry)
        return HandTimer(self, entry)

    def turn(self) -> None:
        poll = select.poll()
        for number in self.readers:
            poll.register(number, select.POLLIN)
        for number, _ in poll.poll(0):
            self.readers[number]()

    def pass_time(self, seconds: float) -> None:
        end = self.time + seconds
        while due := [entry for entry in self.timers if entry[0] <= end]:
            entry = min(due, key=lambda timer: timer[0])
            self.timers.remove(entry)
            self.time = entry[0]
            entry[1]()
        self.time = end


class HandTimer:
    def __init__(self, loop: HandLoop, entry: tuple[float, Callable[[], object]]) -> None:
        self.loop, self.entry = loop, entry

    def cancel(self) -> None:
        self.loop.timers.remove(self.entry)


class Process:
    """One process's ends: what it got, and whom it was told may be dead."""

    def __init__(self, folder: Path, process_id: str, loop: HandLoop) -> None:
        self.got: list[tuple[Kind, str]] = []
        self.hints: list[str] = []
        self.mailbox = Mailbox.create(folder, process_id)
        self.mailbox.listen(loop, lambda kind, sender: self.got.append((kind, sender)))
        self.peers = Peers(folder, process_id, self.hints.append, loop)

    def close(self) -> None:
        self.peers.close()
        self.mailbox.close()


@pytest.fixture
def loop() -> HandLoop:
    return HandLoop()


@pytest.fixture
def anna(tmp_path: Path, loop: HandLoop) -> Iterator[Process]:
    process = Process(tmp_path, ANNA, loop)
    yield process
    process.close()


@pytest.fixture
def bert(tmp_path: Path, loop: HandLoop) -> Iterator[Process]:
    process = Process(tmp_path, BERT, loop)
    yield process
    process.close()


def test_a_mailbox_is_private_and_removed_when_it_is_closed(tmp_path: Path, loop: HandLoop) -> None:
    process = Process(tmp_path, ANNA, loop)
    info = fifo_path(tmp_path, ANNA).stat()
    assert stat.S_ISFIFO(info.st_mode)
    assert stat.S_IMODE(info.st_mode) == 0o600
    with pytest.raises(ConfigurationError, match="fresh id"):
        Mailbox.create(tmp_path, ANNA)
    process.close()
    process.close()
    assert names_in(tmp_path) == []
    assert loop.readers == {}
    with pytest.raises(NotStartedError):
        process.mailbox.listen(loop, lambda kind, sender: None)


def test_every_kind_of_message_arrives_with_its_sender(
    anna: Process, bert: Process, loop: HandLoop
) -> None:
    anna.peers.refresh()
    assert anna.peers.ids == {BERT}
    for kind in Kind:
        assert anna.peers.send(BERT, kind)
    loop.turn()
    assert bert.got == [(kind, ANNA) for kind in Kind]
    assert anna.got == []


def test_a_new_process_is_met_by_its_hello(anna: Process, tmp_path: Path, loop: HandLoop) -> None:
    anna.peers.refresh()
    bert = Process(tmp_path, BERT, loop)
    bert.peers.refresh()
    bert.peers.broadcast(Kind.HELLO)
    loop.turn()
    assert anna.got == [(Kind.HELLO, BERT)]
    anna.peers.refresh()
    assert anna.peers.send(BERT, Kind.WORK)
    loop.turn()
    assert bert.got == [(Kind.WORK, ANNA)]
    bert.close()


def test_a_broadcast_reaches_all_but_oneself(
    anna: Process, bert: Process, tmp_path: Path, loop: HandLoop
) -> None:
    carl = Process(tmp_path, CARL, loop)
    anna.peers.refresh()
    anna.peers.broadcast(Kind.WORK)
    loop.turn()
    assert (anna.got, bert.got, carl.got) == ([], [(Kind.WORK, ANNA)], [(Kind.WORK, ANNA)])
    carl.close()


def test_what_many_say_in_one_round_of_the_loop_is_written_once_and_at_once(
    anna: Process, bert: Process, loop: HandLoop
) -> None:
    anna.peers.refresh()
    for _ in (1, 2):
        for _ in range(100):
            anna.peers.broadcast_once(Kind.WORK)
        assert os.read(bert.mailbox._descriptor.number, 65536) == encode(Kind.WORK, ANNA)
        loop.pass_time(0.0)


def test_an_unknown_peer_is_not_there(anna: Process) -> None:
    assert not anna.peers.send(CARL, Kind.WORK)


def test_nothing_is_heard_when_nothing_was_said(
    anna: Process, bert: Process, loop: HandLoop
) -> None:
    anna.peers.refresh()
    bert.peers.refresh()
    loop.turn()
    assert anna.got == bert.got == []
    assert anna.hints == bert.hints == []


def test_garbage_wakes_and_the_next_message_is_understood(
    anna: Process, bert: Process, tmp_path: Path, loop: HandLoop
) -> None:
    anna.peers.refresh()
    with fifo_path(tmp_path, BERT).open("wb", buffering=0) as pipe:
        pipe.write(b"garbage")
    loop.turn()
    anna.peers.send(BERT, Kind.CANCEL)
    loop.turn()
    assert bert.got == [(Kind.WORK, NOBODY), (Kind.CANCEL, ANNA)]


def test_a_full_pipe_blocks_nobody_and_loses_no_last_word(
    anna: Process, bert: Process, loop: HandLoop
) -> None:
    anna.peers.refresh()
    for _ in range(5000):  # more than a pipe of 64 KiB takes
        assert anna.peers.send(BERT, Kind.WORK)
    for kind in (Kind.WAITING, Kind.CANCEL, Kind.NOT_WAITING, Kind.CANCEL):
        assert anna.peers.send(BERT, kind)
    loop.turn()
    loop.turn()
    assert bert.got == [(Kind.WORK, ANNA)]
    anna.peers.refresh()
    loop.turn()
    assert bert.got[1:] == [
        (Kind.WORK, ANNA),
        (Kind.WAITING, ANNA),
        (Kind.NOT_WAITING, ANNA),
        (Kind.CANCEL, ANNA),
    ]
    assert anna.hints == []


def test_the_end_of_a_reader_is_a_hint_repeated_until_its_files_are_gone(
    anna: Process, tmp_path: Path, loop: HandLoop
) -> None:
    bert = Process(tmp_path, BERT, loop)
    anna.peers.refresh()
    assert anna.peers.hints_available
    lock_path(tmp_path, BERT).touch()  # what a killed process leaves
    bert.close()
    loop.turn()
    assert anna.hints == [BERT]
    anna.peers.refresh()
    loop.turn()
    assert anna.hints == [BERT]
    for seconds, hints in [(0.002, 2), (0.01, 3), (0.05, 4), (0.25, 5), (1, 6), (5, 7), (5, 8)]:
        loop.pass_time(seconds)
        assert anna.hints == [BERT] * hints
    lock_path(tmp_path, BERT).unlink()
    loop.pass_time(60)
    assert len(anna.hints) == 8
    assert loop.timers == []


def test_one_hint_is_enough_for_a_process_that_closed(
    anna: Process, tmp_path: Path, loop: HandLoop
) -> None:
    bert = Process(tmp_path, BERT, loop)
    anna.peers.refresh()
    bert.close()
    loop.turn()
    loop.pass_time(60)
    assert anna.hints == [BERT]
    assert anna.peers.ids == frozenset()


def test_sending_to_the_dead_is_a_hint_and_no_error(
    anna: Process, tmp_path: Path, loop: HandLoop
) -> None:
    bert = Process(tmp_path, BERT, loop)
    anna.peers.refresh()
    bert.close()
    assert not anna.peers.send(BERT, Kind.WORK)
    anna.peers.broadcast(Kind.WORK)
    assert anna.hints == [BERT]


def test_a_pipe_that_nobody_reads_is_a_hint(anna: Process, tmp_path: Path) -> None:
    os.mkfifo(fifo_path(tmp_path, BERT))
    anna.peers.refresh()
    anna.peers.refresh()
    assert anna.hints == [BERT]
    assert anna.peers.ids == frozenset()


def test_a_hint_may_recover_and_refresh_at_once(tmp_path: Path, loop: HandLoop) -> None:
    hints: list[str] = []

    def recover(peer_id: str) -> None:
        hints.append(peer_id)
        fifo_path(tmp_path, peer_id).unlink()
        peers.refresh()

    peers = Peers(tmp_path, ANNA, recover, loop)
    for dead in (BERT, CARL):
        os.mkfifo(fifo_path(tmp_path, dead))
    peers.refresh()
    loop.pass_time(60)
    assert hints == [BERT, CARL]
    peers.close()


def test_without_a_loop_messages_are_sent_and_refresh_gives_the_hints(
    tmp_path: Path, loop: HandLoop
) -> None:
    hints: list[str] = []
    bert = Process(tmp_path, BERT, loop)
    peers = Peers(tmp_path, ANNA, hints.append)
    peers.refresh()
    assert not peers.hints_available
    assert peers.send(BERT, Kind.WORK)
    loop.turn()
    assert bert.got == [(Kind.WORK, ANNA)]
    lock_path(tmp_path, BERT).touch()
    bert.close()
    peers.refresh()
    assert hints == [BERT]
    peers.close()


def test_a_process_whose_files_were_removed_is_let_go(
    anna: Process, bert: Process, tmp_path: Path
) -> None:
    anna.peers.refresh()
    fifo_path(tmp_path, BERT).unlink()
    assert list_processes(tmp_path) == [ANNA]
    anna.peers.refresh()
    assert anna.peers.ids == frozenset()
    assert anna.hints == []


def test_a_mailbox_kept_until_exit_says_that_its_process_lives(
    anna: Process, bert: Process, loop: HandLoop
) -> None:
    anna.peers.refresh()
    bert.mailbox.keep_until_exit()
    assert anna.peers.send(BERT, Kind.WORK)
    loop.turn()
    assert bert.got == []
    assert anna.hints == []


def test_a_program_that_dies_of_sigpipe_does_not_die_of_a_sibling(
    anna: Process, tmp_path: Path, loop: HandLoop
) -> None:
    bert = Process(tmp_path, BERT, loop)
    anna.peers.refresh()
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        assert anna.peers.send(BERT, Kind.WORK)
        bert.close()
        assert not anna.peers.send(BERT, Kind.WORK)
        assert signal.SIGPIPE not in signal.sigpending()
        assert signal.SIGPIPE not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.signal(signal.SIGPIPE, before)
