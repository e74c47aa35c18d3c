"""Whether the file at the path is still the one that is open, and no shorter than it was.

What lives here: looks at names and sizes by os.stat, for SQLite alone may open the file. What does
not: what follows from it. Called by the writer, around each commit, and for health.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3

from embedded_tasks.errors import StoreFormatError, StoreUnavailableError

__all__ = ["FileIdentity"]


class FileIdentity:
    """Remembers which files were opened.

    A commit to a file that has no name any more would be an accepted job that nobody can find, and
    one beside a file that was put in its place would damage that. A look costs some microseconds.

    Args:
        path: The database file, or ":memory:".
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._wal = f"{path}-wal"
        self._known: dict[str, tuple[int, int]] = {}
        self._size = 0
        self.wal_size: int = 0
        """Bytes of the WAL at the last check."""

    def remember(self) -> None:
        """Take the files that are at the path now for those that are open."""
        if self.path == ":memory:":
            return
        self._known.clear()
        for name in (self.path, self._wal, f"{self.path}-shm"):
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(name)
                self._known[name] = (found.st_dev, found.st_ino)
        self._size = 0

    def problem(self) -> str | None:
        """Return what happened to the files, in words, or None."""
        return self._look()[0]

    def check(self) -> None:
        """Raise unless the files are where they were, and the database is no shorter than it was.

        Its reader would take what is missing for empty.

        Raises:
            StoreUnavailableError: One is not there.
            StoreFormatError: It is shorter, and not sound.
        """
        problem, sizes = self._look()
        if problem is not None:
            raise StoreUnavailableError(problem)
        self.wal_size = sizes.get(self._wal, 0)
        size = sizes.get(self.path, 0)
        if size < self._size and not _is_sound(self.path):
            raise StoreFormatError(
                f"{self.path} was cut from {self._size:,} to {size:,} bytes while it was open. "
                "Nothing is stored any more: stop the app, and restore a backup or use `.recover`."
            )
        self._size = size

    def _look(self) -> tuple[str | None, dict[str, int]]:
        """Return what happened to the files, and how many bytes each has."""
        sizes: dict[str, int] = {}
        for name, known in self._known.items():
            try:
                found = os.stat(name)
            except FileNotFoundError:
                return self._words(name, "was deleted or moved away"), sizes
            except OSError as error:
                return f"{name} cannot be looked at ({error.strerror}). Nothing is stored.", sizes
            if (found.st_dev, found.st_ino) != known:
                return self._words(name, "was replaced by another file"), sizes
            sizes[name] = found.st_size
        return None, sizes

    def _words(self, name: str, what: str) -> str:
        return (
            f"{name} {what} while it was open. Nothing is stored and no job is started, for what "
            "was written now would be lost. Move it back, or restart the app on the file that is "
            "there; what is in the old file can be read only while this process "
            f"(pid {os.getpid()}) lives."
        )


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
