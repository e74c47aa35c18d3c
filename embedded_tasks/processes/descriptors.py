"""Open files that belong to this process alone.

What lives here: a descriptor that a forked child closes at once, so that the child does not keep
its parent "alive". What does not: what the file is for. Called by the other modules of `processes`.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import Self

from embedded_tasks.errors import NotStartedError

__all__ = ["Descriptor"]

_CLOSED = -1


class Descriptor:
    """An open file of this process: closed in forked children, closed when nobody refers to it.

    Args:
        number: An open file's number.
    """

    __slots__ = ("__weakref__", "_inherited", "_number")

    def __init__(self, number: int) -> None:
        self._number = number
        self._inherited = False
        _open_ones.add(self)

    @classmethod
    def open(cls, path: str | Path, flags: int) -> Self:
        """Open a file, 0600 if it is new and close-on-exec; no fork happens halfway.

        Raises:
            OSError: As `os.open`.
        """
        with _fork_guard:
            return cls(os.open(path, flags, 0o600))

    @property
    def number(self) -> int:
        """The descriptor's number.

        Raises:
            NotStartedError: It was closed, or opened by the parent of this forked process.
        """
        self.require()
        return self._number

    def require(self) -> None:
        """Raise `NotStartedError` where `number` would."""
        if self._number == _CLOSED:
            raise NotStartedError(
                "runner of the parent process, used in a forked child"
                if self._inherited
                else "runner that was closed"
            )

    def is_open(self) -> bool:
        """Whether it can be used in this process."""
        return self._number != _CLOSED

    def keep_until_exit(self) -> None:
        """Leave it open until this process ends, even if nobody refers to it any more."""
        _kept.add(self)

    def close(self) -> None:
        """Close it; nothing happens if it is closed already."""
        _kept.discard(self)
        with _fork_guard:
            number, self._number = self._number, _CLOSED
            if number != _CLOSED:
                os.close(number)

    def close_after_fork(self) -> None:
        """Close the copy that a forked child has; the parent's lock and readers are not touched."""
        number, self._number = self._number, _CLOSED
        self._inherited = True
        if number != _CLOSED:
            with contextlib.suppress(OSError):
                os.close(number)

    def __del__(self) -> None:
        # When the interpreter ends, this module's names go first, and the system closes the rest.
        if _kept is not None:
            with contextlib.suppress(OSError):
                self.close()


_open_ones: weakref.WeakSet[Descriptor] = weakref.WeakSet()
_kept: set[Descriptor] = set()
_fork_guard = threading.RLock()


def _before_fork() -> None:
    _fork_guard.acquire()


def _after_fork() -> None:
    _fork_guard.release()


def _close_inherited() -> None:
    _fork_guard.release()
    for descriptor in list(_open_ones):
        descriptor.close_after_fork()
    _kept.clear()


if sys.platform != "win32":
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_close_inherited
    )
