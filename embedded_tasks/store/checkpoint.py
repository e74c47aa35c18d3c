"""When the WAL is copied back into the file: never by SQLite itself, only by the writer.

What lives here: the decision and the pragma. SQLite before 3.51.3 can lose a commit when another
connection's checkpoint races with it (sqlite.org/wal.html, "the WAL-reset bug"), so automatic
checkpoints are off and ours run while the writers' lock is held. Called by the writer.
"""

from __future__ import annotations

import os
import sqlite3

__all__ = ["Checkpointer"]

_COMMITS = 500
_LARGE_WAL = 64 * 1024 * 1024


class Checkpointer:
    """Copies the WAL back after so many commits, and shrinks it when it has grown large.

    Args:
        path: The database file.
        commits: How many commits between two checkpoints.
    """

    def __init__(self, path: str, commits: int = _COMMITS) -> None:
        self._wal = f"{path}-wal"
        self._every = commits
        self._since = 0
        self.checkpoints: int = 0

    def after_commit(self, connection: sqlite3.Connection) -> None:
        """Count a commit, and checkpoint when it is time; the writers' lock is held."""
        self._since += 1
        if self._since < self._every:
            return
        self._since = 0
        self.checkpoints += 1
        try:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            if self._wal_size() > _LARGE_WAL:
                self._shrink(connection)
        except sqlite3.Error:
            # The commit stands in the WAL; the next round tries again.
            return

    def _shrink(self, connection: sqlite3.Connection) -> None:
        # Without waiting: a reader may be in the way, and writers wait behind us.
        (wait,) = connection.execute("PRAGMA busy_timeout").fetchone()
        connection.execute("PRAGMA busy_timeout=0")
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.execute(f"PRAGMA busy_timeout={wait}")

    def _wal_size(self) -> int:
        try:
            return os.stat(self._wal).st_size
        except OSError:
            return 0
