"""The named pipe by which siblings wake this process.

What lives here: making it, reading it. What does not: sending (`peers.py`) and what is done about
a message. Called by the runner.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.processes.descriptors import Descriptor
from embedded_tasks.processes.layout import fifo_path, publish
from embedded_tasks.processes.messages import MESSAGE_SIZE, Kind, decode

__all__ = ["Mailbox", "Reader"]

_READ_BYTES = (64 * 1024 // MESSAGE_SIZE) * MESSAGE_SIZE  # whole messages, about a full pipe


class Reader(Protocol):
    """The part of an event loop that tells when a descriptor can be read."""

    def add_reader(self, fd: int, callback: Callable[[], object], /) -> object:
        """Call back whenever the descriptor can be read."""
        ...

    def remove_reader(self, fd: int, /) -> bool:
        """Stop calling back."""
        ...


class Mailbox:
    """The pipe that this process reads; it is the only reader, so its end is its death."""

    def __init__(self, path: Path, descriptor: Descriptor) -> None:
        self._path = path
        self._descriptor = descriptor
        self._loop: Reader | None = None
        self._callback: Callable[[Kind, str], object] | None = None

    @classmethod
    def create(cls, folder: Path, process_id: str) -> Mailbox:
        """Create the pipe of this process; others see it only when it is read.

        Raises:
            ConfigurationError: The id is in use.
            StoreUnavailableError: The pipe cannot be made.
        """
        path = fifo_path(folder, process_id)
        try:
            return cls(path, publish(path, _make))
        except OSError as error:
            raise StoreUnavailableError(f"The pipe {path} cannot be made: {error}.") from error

    def listen(self, loop: Reader, callback: Callable[[Kind, str], object]) -> None:
        """Call `callback(kind, sender_id)` in the loop for each message from now on."""
        self._callback = callback
        self._loop = loop
        loop.add_reader(self._descriptor.number, self._read)

    def deafen(self) -> None:
        """Stop listening; the pipe stays open and siblings see this process alive."""
        loop, self._loop = self._loop, None
        # Not in a forked child: it shares the parent's epoll, and would make the parent deaf.
        if loop is not None and self._descriptor.is_open():
            loop.remove_reader(self._descriptor.number)

    def keep_until_exit(self) -> None:
        """Stop listening and stay open until the process ends, so that its end is noticed."""
        self.deafen()
        self._descriptor.keep_until_exit()

    def close(self) -> None:
        """Remove the pipe; siblings take this for a hint to look at the process file."""
        if not self._descriptor.is_open():
            return
        self.deafen()
        with contextlib.suppress(OSError):
            self._path.unlink()
        self._descriptor.close()

    def _read(self) -> None:
        if self._callback is None or not self._descriptor.is_open():
            return
        try:
            data = os.read(self._descriptor.number, _READ_BYTES)
        except BlockingIOError:
            return
        for kind, sender_id in decode(data):
            self._callback(kind, sender_id)


def _make(temporary: Path) -> Descriptor | None:
    os.mkfifo(temporary, 0o600)
    try:
        # Also for writing: a pipe without a writer would always be readable, at its end.
        return Descriptor.open(temporary, os.O_RDWR | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
