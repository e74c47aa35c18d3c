"""The pipes of the sibling processes.

What lives here: sending them messages, and noticing that one may be dead. What does not: whether
it is dead (`probing.py`), and reading messages (`mailbox.py`). Called by the runner.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from embedded_tasks.processes.descriptors import Descriptor
from embedded_tasks.processes.layout import fifo_path, list_processes, lock_path
from embedded_tasks.processes.messages import Kind, encode

__all__ = ["Loop", "Peers", "Timer"]

_REPEAT_AFTER = (0.002, 0.01, 0.05, 0.25, 1.0)
_REPEAT_EVERY = 5.0


class Timer(Protocol):
    """What `call_later` returns."""

    def cancel(self) -> object:
        """Do not call back."""
        ...


class Loop(Protocol):
    """The part of an event loop that this module needs."""

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> object:
        """Call back when the descriptor can be read or has an error."""
        ...

    def remove_reader(self, fd: int, /) -> bool:
        """Stop calling back."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Timer:
        """Call back once, after some seconds."""
        ...


class _Peer:
    """A sibling's pipe, and what did not fit into it."""

    __slots__ = ("pipe", "unsent", "watched")

    def __init__(self, pipe: Descriptor) -> None:
        self.pipe = pipe
        self.unsent: dict[Kind, None] = {}
        self.watched = False


class Peers:
    """The siblings of this process. Use it in one thread, with a loop in the loop's thread.

    A hint means that nobody reads a sibling's pipe any more: it is dead, or about to be, or
    closing. The kernel may say so before it frees the sibling's lock (usual, and measured), so the
    hint is repeated, with growing pauses, until the sibling's files are gone.

    Hints come from the loop, on Linux: epoll, poll and select report an error on a pipe that has
    lost its last reader, under asyncio's loops and uvloop. kqueue (macOS, BSD) is not asked: by
    its documents the read filter would report the data in the pipe, again and again, and only
    the write filter, ready nearly always, the reader's end. There `hints_available` is false,
    hints come only from sending and `refresh`, and callers probe every 30 s.

    Args:
        folder: The folder of the processes.
        own_id: The id of this process, the sender of its messages.
        on_hint: Called with a sibling's id; it shall probe, and recover if that says so.
        loop: The running loop; None in a program that only sends.
    """

    def __init__(
        self,
        folder: Path,
        own_id: str,
        on_hint: Callable[[str], object],
        loop: Loop | None = None,
    ) -> None:
        self._folder = folder
        self._own_id = own_id
        self._on_hint = on_hint
        self._loop = loop
        self._peers: dict[str, _Peer] = {}
        self._suspects: dict[str, Timer] = {}
        self._said: set[Kind] = set()
        self._messages = {kind: encode(kind, own_id) for kind in Kind}

    @property
    def hints_available(self) -> bool:
        """Whether a sibling's death is noticed at once; if not, probe regularly."""
        return self._loop is not None and sys.platform == "linux"

    @property
    def ids(self) -> frozenset[str]:
        """The siblings that can be sent messages."""
        return frozenset(self._peers)

    def refresh(self) -> None:
        """Open the pipes of new siblings, let go of those whose files are gone.

        Call it at the start, when a sibling says HELLO, and now and then (30 s).
        """
        listed = set(list_processes(self._folder)) - {self._own_id}
        for peer_id, peer in list(self._peers.items()):
            if peer_id not in listed:
                self._drop(peer_id)
            elif not self.hints_available and not self._is_read(peer_id):
                self._lost(peer_id)
            else:
                self._send_unsent(peer_id, peer)
        for peer_id in sorted(listed - self._peers.keys() - self._suspects.keys()):
            self._connect(peer_id)

    def send(self, peer_id: str, kind: Kind) -> bool:
        """Send a message without waiting; return whether the sibling is there to get it.

        What does not fit into a full pipe (the sibling is stopped, or stuck) is remembered and
        sent later, each kind once.
        """
        peer = self._peers.get(peer_id)
        if peer is None:
            return False
        if peer.unsent and not self._send_unsent(peer_id, peer):
            return False
        return self._write(peer_id, peer, kind)

    def broadcast(self, kind: Kind) -> None:
        """Send a message to all siblings without waiting."""
        for peer_id in list(self._peers):
            self.send(peer_id, kind)

    def broadcast_once(self, kind: Kind) -> None:
        """Send a message to all siblings, unless one was sent in this round of the loop.

        Who asks in one round tells of what was stored before it began: one message says it all,
        and at once, as the round may be a long one.
        """
        if kind in self._said:
            return
        self.broadcast(kind)
        if self._peers and self._loop is not None:
            self._said.add(kind)
            self._loop.call_later(0.0, lambda: self._said.discard(kind))

    def close(self) -> None:
        """Close all pipes and stop hinting."""
        for peer_id in list(self._peers):
            self._drop(peer_id)
        for timer in self._suspects.values():
            timer.cancel()
        self._suspects.clear()

    def _connect(self, peer_id: str) -> None:
        """Open a sibling's pipe, if it has one that is read."""
        path = fifo_path(self._folder, peer_id)
        try:
            pipe = Descriptor.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno == errno.ENXIO:
                self._lost(peer_id)
            return
        peer = self._peers[peer_id] = _Peer(pipe)
        if self._loop is not None and self.hints_available:
            self._loop.add_reader(pipe.number, lambda: self._lost(peer_id))
            peer.watched = True

    def _is_read(self, peer_id: str) -> bool:
        path = fifo_path(self._folder, peer_id)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
        except OSError as error:
            return error.errno not in (errno.ENXIO, errno.ENOENT)
        return True

    def _send_unsent(self, peer_id: str, peer: _Peer) -> bool:
        kinds = list(peer.unsent)
        peer.unsent.clear()
        return all(self._write(peer_id, peer, kind) for kind in kinds)

    def _write(self, peer_id: str, peer: _Peer, kind: Kind) -> bool:
        number = peer.pipe.number
        try:
            _write_without_signal(number, self._messages[kind])
        except BlockingIOError:
            # The last state is what counts: of WAITING and NOT_WAITING the later one.
            peer.unsent.pop(kind, None)
            peer.unsent[kind] = None
        except OSError:
            self._lost(peer_id)
            return False
        return True

    def _lost(self, peer_id: str) -> None:
        """Nobody reads this pipe: give the hint, and repeat it until the files are gone."""
        self._drop(peer_id)
        if peer_id not in self._suspects:
            self._hint(peer_id, 0)

    def _hint(self, peer_id: str, times: int) -> None:
        if self._loop is None:
            self._on_hint(peer_id)
            return
        pause = _REPEAT_AFTER[times] if times < len(_REPEAT_AFTER) else _REPEAT_EVERY
        again = self._loop.call_later(pause, lambda: self._again(peer_id, times + 1))
        self._suspects[peer_id] = again
        self._on_hint(peer_id)

    def _again(self, peer_id: str, times: int) -> None:
        self._suspects.pop(peer_id, None)
        files = (lock_path(self._folder, peer_id), fifo_path(self._folder, peer_id))
        if any(os.path.lexists(path) for path in files):
            self._hint(peer_id, times)

    def _drop(self, peer_id: str) -> None:
        peer = self._peers.pop(peer_id, None)
        # A forked child shares the parent's epoll: there, nothing must be taken out of it.
        if peer is None or not peer.pipe.is_open():
            return
        if peer.watched and self._loop is not None:
            self._loop.remove_reader(peer.pipe.number)
        peer.pipe.close()


def _write_without_signal(number: int, data: bytes) -> None:
    """Write; a pipe without a reader is an error, also where the program wants SIGPIPE to kill."""
    if signal.getsignal(signal.SIGPIPE) is not signal.SIG_DFL:
        os.write(number, data)
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        os.write(number, data)
    except BrokenPipeError:
        if signal.SIGPIPE not in before:
            signal.sigwait({signal.SIGPIPE})  # it is pending for this thread: take it away
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
