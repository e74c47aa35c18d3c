"""A disk that can be slow, full or broken.

What lives here: SQLite's commits, held, refused and counted. What does not: any other statement.
Used by the tests of the adapter.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import Any, ClassVar

from embedded_tasks.store.queries import QUERIES

_INSERT = QUERIES["insert"].partition("VALUES")[0]


class Disk:
    """What happens to the commits that store new jobs.

    `events` tells, in order, what was stored, and whatever else a test writes into it.
    """

    def __init__(self) -> None:
        self.events: list[str] = []
        self.error: int | None = None
        self.reached = threading.Event()
        self._gate = threading.Event()
        self._gate.set()

    def hold(self) -> None:
        """Let no such commit return until the gate is opened."""
        self.reached.clear()
        self._gate.clear()

    def open_gate(self) -> None:
        self._gate.set()

    def commit(self) -> None:
        """A commit is on its way to the disk."""
        self.reached.set()
        self._gate.wait(30)
        if self.error is not None:
            failure = sqlite3.OperationalError("broken")
            failure.sqlite_errorcode = self.error
            failure.sqlite_errorname = "BROKEN"
            raise failure


class SlowConnection(sqlite3.Connection):
    disk: ClassVar[Disk]
    inserted = 0

    def execute(self, statement: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if statement.startswith(_INSERT):
            self.inserted += 1
        if statement == "ROLLBACK":
            self.inserted = 0
        if statement == "COMMIT" and self.inserted:
            self.disk.commit()
            self.inserted = 0
            cursor = super().execute(statement, parameters)
            self.disk.events.append("committed")
            return cursor
        return super().execute(statement, parameters)
