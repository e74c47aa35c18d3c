"""Files that hold many jobs, made by one statement.

What lives here: filling. What does not: what is measured of them. Called by the modules that
measure.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.files import Place

__all__ = ["Finished", "count_finished", "fill"]

# The newest row, many times over: due since an hour, each with an id of its own.
_MULTIPLY = """
    INSERT INTO jobs (
        id, task, state, queue, priority, due_at, created_at, attempt, on_crash, args, leads,
        started_at, finished_at, prune_at
    )
    WITH RECURSIVE number (value) AS (
        SELECT 1 UNION ALL SELECT value + 1 FROM number WHERE value < :jobs
    )
    SELECT printf('%08x-0000-7000-8000-%012x', :salt, value), task, :state, queue, priority,
        due_at - 3600, created_at, iif(:finished IS NULL, 0, 1), on_crash, args, leads,
        :finished, :finished, :prune_at
    FROM number, (SELECT * FROM jobs ORDER BY seq DESC LIMIT 1)
"""

Finished = tuple[int, float]


def fill(
    place: Place,
    function: Callable[[int], Any],
    waiting: int,
    finished: Finished = (0, 0.0),
    path: Path | None = None,
) -> Path:
    """Return a file in which so many jobs wait and so many have succeeded.

    Args:
        place: Where it is made.
        function: What the jobs call.
        waiting: How many wait.
        finished: How many have succeeded, and in how many seconds each is to be removed.
        path: A file that is there already.
    """
    path = path or place.fresh()
    asyncio.run(_enqueue_one(place, path, function))
    now = time.time()
    with closing(sqlite3.connect(path)) as connection:
        for jobs, state, ended, prune_at in (
            (waiting, "queued", None, None),
            (finished[0], "succeeded", now, now + finished[1]),
        ):
            values = {"jobs": jobs, "state": state, "finished": ended, "prune_at": prune_at}
            if jobs:
                salt = 1 if ended is None else 2
                connection.execute(_MULTIPLY, {**values, "salt": salt})
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def count_finished(path: Path) -> int:
    """Return how many jobs are there that were filled in as finished."""
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute("SELECT count(*) FROM jobs WHERE id LIKE '00000002-%'").fetchone()
    return int(row[0])


async def _enqueue_one(place: Place, path: Path, function: Callable[[int], Any]) -> None:
    async with place.runner(path) as runner:
        await runner.enqueue(function, 1)
