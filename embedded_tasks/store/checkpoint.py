"""When the WAL is copied back into the file: never by SQLite itself, only by the writer.

What lives here: the decision and the pragma. SQLite before 3.51.3 can lose a commit when another
connection's checkpoint races with it (sqlite.org/wal.html, "the WAL-reset bug"), so automatic
checkpoints are off and ours run while the writers' lock is held. Called by the writer.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3

__all__ = ["Checkpointer"]

_COMMITS = 500
_LOOK_EVERY = 8
"""Commits between two looks at the WAL's size, which is not free: see `identity.py`."""
_GROWTH = 16 * 1024 * 1024

_LARGE_WAL = 64 * 1024 * 1024
"""Bytes; a WAL that is larger is cut as soon as nobody reads from it."""


class Checkpointer:
    """Copies the WAL back after so many commits or bytes, and shrinks it when it has grown large.

    Args:
        path: The database file.
        commits: How many commits between two checkpoints.
    """

    def __init__(self, path: str, commits: int = _COMMITS) -> None:
        self._wal = f"{path}-wal"
        self._every = commits
        self._since = 0
        self._size = 0
        self.checkpoints: int = 0
        self.frames: int | None = None
        """How many pages the last one copied back."""
        self.blocked: bool = False
        """Whether a reader kept the last one from copying, or cutting, all."""

    def after_commit(self, connection: sqlite3.Connection) -> None:
        """Count a commit, and checkpoint when it is time; the writers' lock is held."""
        self._since += 1
        if self._since >= self._every or (self._since % _LOOK_EVERY == 0 and self._has_grown()):
            self.checkpoint(connection)

    def _has_grown(self) -> bool:
        # Beyond its greatest length so far, a WAL grows by what was not copied back yet.
        return self.wal_size() >= self._size + _GROWTH

    def checkpoint(self, connection: sqlite3.Connection) -> None:
        """Copy back what can be copied, and cut a large WAL; the writers' lock is held."""
        self._since = 0
        self.checkpoints += 1
        with contextlib.suppress(sqlite3.Error):
            # After an error the commits stand in the WAL, and the next round tries again.
            rows = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self.blocked = _is_blocked(rows)
            self.frames = rows[0][2]
            if not self.blocked and self.is_large():
                self.blocked = self._shrink(connection)
        self._size = self.wal_size()

    def soon(self) -> None:
        """Checkpoint after the next commit, whatever it is."""
        self._since = self._every

    def _shrink(self, connection: sqlite3.Connection) -> bool:
        # Without waiting: a reader may be in the way, and writers wait behind us.
        (wait,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute("PRAGMA busy_timeout=0")
        try:
            return _is_blocked(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
        finally:
            connection.execute(f"PRAGMA busy_timeout={wait}")

    def is_large(self) -> bool:
        """Return whether the WAL has grown beyond what is usual."""
        return self.wal_size() > _LARGE_WAL

    def wal_size(self) -> int:
        """Return the size of the WAL in bytes."""
        try:
            return os.stat(self._wal).st_size
        except OSError:
            return 0


def _is_blocked(rows: list[tuple[int, int, int]]) -> bool:
    busy, in_wal, copied = rows[0]
    return bool(busy) or copied < in_wal
