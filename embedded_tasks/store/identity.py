"""Whether the file at the path is still the one that is open, and no shorter than it was.

What lives here: looks at names and sizes by os.stat, for SQLite alone may open the file. What does
not: what follows from it. Called by the writer, around each commit, and for health.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable

from embedded_tasks.errors import StoreFormatError, StoreUnavailableError

__all__ = ["FileIdentity"]

_SETTLED = 1_000_000_000
"""Nanoseconds; no clock that dates files is coarser."""


class FileIdentity:
    """Remembers which files were opened.

    A commit to a file that has no name any more would be an accepted job that nobody can find, and
    one beside a file that was put in its place would damage that. A look costs some microseconds.

    Args:
        path: The database file, or ":memory:".
        now: Returns the wall clock that files are dated by, in nanoseconds.
    """

    def __init__(self, path: str, now: Callable[[], int] = time.time_ns) -> None:
        self.path = path
        self._now = now
        # SQLite keeps its log where a link leads to.
        self._real = path if path == ":memory:" else os.path.realpath(path)
        self._folder = os.path.dirname(self._real) or "."
        self._known: dict[str, tuple[int, int]] = {}
        self._size = 0
        self._seen: tuple[int, int, int] | None = None

    def remember(self) -> None:
        """Take the files that are at the path now for those that are open."""
        if self.path == ":memory:":
            return
        self._known.clear()
        for name in (self.path, f"{self._real}-wal", f"{self._real}-shm"):
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(name)
                self._known[name] = (found.st_dev, found.st_ino)
        self._size = 0
        self._seen = None

    def problem(self) -> str | None:
        """Return what happened to the files, in words, or None."""
        for name, known in self._known.items():
            try:
                found = os.stat(name)
            except FileNotFoundError:
                return self._words(name, "was deleted or moved away")
            except OSError as error:
                return f"{name} cannot be looked at ({error.strerror}). Nothing is stored."
            if (found.st_dev, found.st_ino) != known:
                return self._words(name, "was replaced by another file")
        return None

    def check(self) -> None:
        """Raise unless the files are where they were, and the database is no shorter than it was.

        Its reader would take what is missing for empty.

        Raises:
            StoreUnavailableError: One is not there.
            StoreFormatError: It is shorter, and not sound.
        """
        if not self._known:
            return
        size = self._check_names()
        if size < self._size and not _is_sound(self.path):
            raise StoreFormatError(
                f"{self.path} was cut from {self._size:,} to {size:,} bytes while it was open. "
                "Nothing is stored any more: stop the app, and restore a backup or use `.recover`."
            )
        self._size = size

    def _check_names(self) -> int:
        """Raise unless all are where they were; return the size of the database."""
        # Not at the WAL itself, if that can be helped: where files are dated to the nanosecond, a
        # look makes the next write date it anew, which takes longer than all of the rest (Linux
        # 6.13, "multigrain timestamps").
        folder, found = self._folder_now(), _stat(self.path)
        is_here = found is not None and (found.st_dev, found.st_ino) == self._known[self.path]
        if found is not None and is_here and folder is not None and folder == self._seen:
            return found.st_size
        self._seen = None
        problem = self.problem()
        if problem is not None or found is None:
            raise StoreUnavailableError(problem or self._words(self.path, "was moved for a moment"))
        # A second change within a tick of a coarse clock would leave the folder's date as it is.
        if folder is not None and self._now() - folder[2] > _SETTLED:
            self._seen = folder
        return found.st_size

    def _folder_now(self) -> tuple[int, int, int] | None:
        """Return which folder is at its path, and when a name in it was last changed.

        By st_ctime, which nobody can put back, as what unpacks an archive does with st_mtime.
        """
        found = _stat(self._folder)
        return None if found is None else (found.st_dev, found.st_ino, found.st_ctime_ns)

    def _words(self, name: str, what: str) -> str:
        return (
            f"{name} {what} while it was open. Nothing is stored and no job is started, for what "
            "was written now would be lost. Move it back, or restart the app on the file that is "
            "there; what is in the old file can be read only while this process "
            f"(pid {os.getpid()}) lives."
        )


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _is_sound(path: str) -> bool:
    """A VACUUM by another program shortens the file too; a connection without a cache tells."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA wal_autocheckpoint=0")
        return [row[0] for row in connection.execute("PRAGMA quick_check(1)")] == ["ok"]
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()
