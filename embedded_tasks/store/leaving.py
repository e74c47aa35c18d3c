"""How a process begins and leaves while another one, perhaps stopped, keeps the writers' lock.

What lives here: when it gives up, and a last turn with the lock. What does not: the lock itself
(`processes`), and what is given up (`writer.py`). Used by the store.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from typing import Protocol

import structlog

from embedded_tasks.store.connection import Connection
from embedded_tasks.store.writer import WriteLock, Writer

__all__ = ["OpeningLock", "Patience", "Turn"]

_log = structlog.get_logger("embedded_tasks")


class OpeningLock(WriteLock, Protocol):
    """The lock of the writers, which also whoever opens the file waits for."""

    def acquire_within(self, seconds: float) -> None:
        """Wait for the lock, but not for longer; raise `StoreUnavailableError` then."""
        ...

    def holders(self) -> str:
        """Return who has it, as a sentence with a space before it, or "" if nobody can tell."""
        ...


class Patience:
    """Lets a writer whose process begins or ends not wait for the lock for ever.

    Args:
        writer: The writer.
        path: Its file, for the log.
        wait: Seconds that a commit may wait for another process.
        holders: Tells who has the lock.
    """

    def __init__(self, writer: Writer, path: str, wait: float, holders: Callable[[], str]) -> None:
        self._writer = writer
        self._path = path
        self._wait = wait
        self._holders = holders
        self._timer: asyncio.TimerHandle | None = None

    async def during(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something that writes; if another process keeps the lock meanwhile, give up.

        Raises:
            StoreUnavailableError: It was given up, and nothing is written any more.
        """
        self.ends(0.0)
        try:
            await work()
        finally:
            self.close()

    def ends(self, after: float) -> None:
        """Look from so many seconds on whether a commit has waited for too long."""
        self.close()
        self._timer = asyncio.get_running_loop().call_later(after, self._look)

    def _look(self) -> None:
        if self._writer.left:
            return
        why = self._writer.stalled(self._wait)
        if why is None or not self._writer.waits_for_lock:
            self.ends(self._wait / 4)
            return
        why += self._holders()
        _log.error("store.left", file=self._path, why=why)
        self._writer.leave(why)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()


class Turn:
    """Takes the lock in the thread of a connection, where it blocks nobody else.

    Args:
        lock: The lock.
    """

    def __init__(self, lock: WriteLock) -> None:
        self._lock = lock
        self._guard = threading.Lock()
        self._taken = False
        self._given_up = False

    async def take(self, connection: Connection, wait: float) -> bool:
        """Take the lock; return False if another process has it for so many seconds."""
        try:
            async with asyncio.timeout(wait):
                await connection.run(self._take)
        except TimeoutError:
            with self._guard:
                self._given_up = not self._taken
        return self._taken

    def _take(self, _connection: sqlite3.Connection) -> None:
        self._lock.acquire()
        with self._guard:
            self._taken = not self._given_up
        if not self._taken:
            self._lock.release()
