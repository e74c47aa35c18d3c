"""A file as the first release has left it, with a job that waits.

What lives here: making it, with today's code and the first migration alone. What does not: opening
it, which brings it up to date. Called by the crash points and by the load of the power cuts.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest

from embedded_tasks.store import opening

__all__ = ["make_old_file"]

_INSERT = """
INSERT INTO jobs (id, task, state, queue, priority, due_at, created_at, attempt, on_crash, args)
VALUES (?, 1, 'queued', 'default', -5, ?, ?, 0, 'fail', ?)
"""


def make_old_file(path: Path, task: str, key: str, now: float) -> None:
    """Make the file, with one job of this task and key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "MIGRATIONS", {1: opening.MIGRATIONS[1]})
        opening.create_file(str(path))
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            opening.prepare(connection, str(path), {"journal_mode": "WAL"})
            connection.execute("INSERT INTO tasks (name) VALUES (?)", [task])
            args = json.dumps([1, [key], {}])
            connection.execute(_INSERT, [str(uuid4()), now, now, args])
