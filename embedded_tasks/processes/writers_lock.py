"""The lock that processes take in turns to write to the database.

What lives here: one flock on a file that is never removed. What does not: transactions. Called by
the store's writer, in its thread.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from embedded_tasks.errors import NotStartedError, StoreUnavailableError
from embedded_tasks.processes import posix
from embedded_tasks.processes.descriptors import Descriptor
from embedded_tasks.processes.holders import lock_holders, named, who_keeps_it
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
        self._folder = folder
        self._descriptor = self._open()
        # A flock belongs to the open file: two threads with the same one would both have it.
        self._threads = threading.Lock()

    def _open(self) -> Descriptor:
        path = writers_lock_path(self._folder)
        try:
            return Descriptor.open(path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise StoreUnavailableError(f"The lock {path} cannot be opened: {error}.") from error

    def acquire(self) -> None:
        """Wait for the lock in this thread; the kernel keeps the queue.

        Raises:
            NotStartedError: It was closed, or belongs to the parent of this forked process.
            StoreUnavailableError: The file was removed and cannot be made anew.
        """
        self._descriptor.require()
        self._threads.acquire()
        try:
            while True:
                number = self._descriptor.number
                if not posix.try_lock(number):
                    posix.lock(number)
                if _has_a_name(number):
                    return
                self._make_anew()
        except BaseException:
            self._threads.release()
            raise

    def acquire_within(self, seconds: float) -> None:
        """Wait for the lock in this thread, in the kernel's queue, but not for longer.

        Args:
            seconds: How long at most.

        Raises:
            NotStartedError: As `acquire`.
            StoreUnavailableError: Another process has kept it all the time.
        """
        if not self.try_acquire() and not _Wait(self).take(seconds):
            raise StoreUnavailableError(
                f"Another process keeps the writers' lock of {self._folder} for more than "
                f"{seconds:g} s. {who_keeps_it(self._folder)} One that brings the file up to date "
                "does it, too: wait until that is done."
            )

    def holders(self) -> str:
        """Return who has the lock, as a sentence with a space before it, or "" for nobody."""
        found = named(lock_holders(self._folder))
        return f" It is {found}." if found else ""

    def try_acquire(self) -> bool:
        """Take the lock if it is free; return whether it was."""
        number = self._descriptor.number
        if not self._threads.acquire(blocking=False):
            return False
        taken = False
        try:
            taken = posix.try_lock(number) and _has_a_name(number)
        finally:
            if not taken:
                self._threads.release()
        return taken

    def _make_anew(self) -> None:
        """Lock what others lock: somebody has removed the file, or the folder with it."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(mode=0o700)
        removed, self._descriptor = self._descriptor, self._open()
        removed.close()

    def release(self) -> None:
        """Let the next one write."""
        posix.unlock(self._descriptor.number)
        self._threads.release()

    def close(self) -> None:
        """Close the file; we never remove it, so that all always lock the same one."""
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


def _has_a_name(number: int) -> bool:
    """Return whether an open file is still in a folder, where others open it, too."""
    return os.fstat(number).st_nlink > 0


class _Wait:
    """Waits for a lock in a thread of its own: a wait in the kernel cannot be broken off.

    Looking again and again would end in time, too, and never get the lock where others queue.
    """

    def __init__(self, lock: WritersLock) -> None:
        self._lock = lock
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._given_up = False
        self._error: Exception | None = None

    def take(self, seconds: float) -> bool:
        """Return whether the lock is ours now; if not, it is given back as soon as it comes."""
        threading.Thread(target=self._wait, name="embedded_tasks lock", daemon=True).start()
        self._over.wait(seconds)
        with self._guard:
            self._given_up = not self._over.is_set()
        if self._error is not None:
            raise self._error
        return not self._given_up

    def _wait(self) -> None:
        try:
            self._lock.acquire()
        except Exception as error:  # noqa: BLE001  # raised where it was asked for
            self._error = error
        with self._guard:
            if not self._given_up:
                self._over.set()
                return
        if self._error is None:
            # The file may be closed meanwhile, and then the kernel has given the lock back.
            with contextlib.suppress(NotStartedError):
                self._lock.release()
