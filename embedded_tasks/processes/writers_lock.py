"""The lock that processes take in turns to write to the database.

What lives here: one flock on a file that is never removed. What does not: transactions. Called by
the store's writer, in its thread.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.processes import posix
from embedded_tasks.processes.descriptors import Descriptor
from embedded_tasks.processes.layout import writers_lock_path

__all__ = ["WritersLock"]


class WritersLock:
    """One writer at a time among all processes, and among the runners of one process.

    Args:
        folder: The folder of the processes, from `check_folder`.

    Example:
        with WritersLock(folder) as lock:
            ...  # one transaction or one checkpoint
    """

    def __init__(self, folder: Path) -> None:
        path = writers_lock_path(folder)
        try:
            self._descriptor = Descriptor.open(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StoreUnavailableError(f"The lock {path} cannot be opened: {error}.") from error
        # A flock belongs to the open file: two threads with the same one would both have it.
        self._threads = threading.Lock()

    def acquire(self) -> None:
        """Wait for the lock in this thread; the kernel keeps the queue.

        Raises:
            NotStartedError: It was closed, or belongs to the parent of this forked process.
        """
        number = self._descriptor.number
        self._threads.acquire()
        try:
            if not posix.try_lock(number):
                posix.lock(number)
        except BaseException:
            self._threads.release()
            raise

    def try_acquire(self) -> bool:
        """Take the lock if it is free; return whether it was."""
        number = self._descriptor.number
        if not self._threads.acquire(blocking=False):
            return False
        taken = False
        try:
            taken = posix.try_lock(number)
        finally:
            if not taken:
                self._threads.release()
        return taken

    def release(self) -> None:
        """Let the next one write."""
        posix.unlock(self._descriptor.number)
        self._threads.release()

    def close(self) -> None:
        """Close the file; it is never removed, so that all always lock the same one."""
        self._descriptor.close()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
