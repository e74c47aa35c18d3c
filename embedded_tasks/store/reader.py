"""What is read: short statements on a connection of their own, so that they never hold a writer up.

What lives here: questions about jobs, answered with plain values. What does not: writing. Called
by `Store`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from embedded_tasks.errors import StoreFormatError
from embedded_tasks.job import (
    AttemptError,
    AttemptRecord,
    JobRecord,
    JobState,
    shown_state,
)
from embedded_tasks.store.connection import Connection, is_undecodable, translated
from embedded_tasks.store.filters import JobFilter
from embedded_tasks.store.listing import find
from embedded_tasks.store.queries import QUERIES

__all__ = ["COUNT_CAP", "OverdueJob", "OwnedJob", "ProcessRecord", "Reader", "record_of"]

COUNT_CAP = 10_000
"""Counting stops here; a larger number is shown as this one with a plus."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class OwnedJob:
    """A job that a process left behind."""

    id: str
    task: str
    state: JobState
    attempt: int
    crashes: int
    on_crash: str
    leads: bool


@dataclass(frozen=True, slots=True)
class OverdueJob:
    """A job that should have started."""

    id: str
    task: str
    queue: str
    due_at: float


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process that opened the file."""

    id: str
    pid: int
    started_at: float
    runs_jobs: bool


class Reader:
    """Reads from the store.

    Args:
        connection: A connection that only reads (for ":memory:", the writer's own).
        path: The file, for messages.
        damaged: Called when the file turns out to be damaged.
    """

    def __init__(
        self, connection: Connection, path: str, damaged: Callable[[StoreFormatError], None]
    ) -> None:
        self._connection = connection
        self._path = path
        self._damaged = damaged

    async def get(self, id: str, now: float) -> JobRecord | None:
        """Return one job with its attempts, or None."""
        return await self.run(partial(_get, id, now))

    async def page(self, wanted: JobFilter, now: float) -> list[tuple[int, JobRecord]]:
        """Return a page of jobs, newest first, each with the key that pages on."""
        return await self.run(partial(_list, wanted, now))

    async def counts(self) -> dict[JobState, int]:
        """Return how many jobs are in each state, counted up to `COUNT_CAP`."""
        rows = await self._rows("counts", {"cap": COUNT_CAP})
        return dict.fromkeys(JobState, 0) | {JobState(row[0]): row[1] for row in rows}

    async def ended(self, ids: list[str]) -> list[str]:
        """Return which of these jobs have finished, are held, or are not there."""
        return [row[0] for row in await self._rows("ended", {"ids": json.dumps(ids)})]

    async def owners(self) -> list[str]:
        """Return the ids of all processes that the file names."""
        return [row[0] for row in await self._rows("owners", {})]

    async def owned(self, owner: str) -> list[OwnedJob]:
        """Return the jobs that a process owns."""
        rows = await self._rows("owned", {"owner": owner})
        return [
            OwnedJob(row[0], row[1], JobState(row[2]), row[3], row[4], row[5], bool(row[6]))
            for row in rows
        ]

    async def task_names(self) -> dict[int, str]:
        """Return every task name that was ever enqueued, by number."""
        return {row[0]: row[1] for row in await self._rows("task_names", {"after": 0})}

    async def processes(self) -> list[ProcessRecord]:
        """Return the processes that the file names."""
        rows = await self._rows("processes", {})
        return [ProcessRecord(row[0], row[1], row[2], bool(row[3])) for row in rows]

    async def cancel_requests(self, owner: str) -> list[tuple[str, int, str]]:
        """Return the running jobs of a process that are to be stopped: id, attempt, reason."""
        rows = await self._rows("cancel_requests", {"owner": owner})
        return [(row[0], row[1], row[2]) for row in rows]

    async def next_prune(self) -> float | None:
        """Return when retention has something to remove."""
        value: float | None = (await self._rows("next_prune", {}))[0][0]
        return value

    async def fact(self, key: str) -> str | None:
        """Return what the file says of itself."""
        rows = await self._rows("fact", {"key": key})
        return rows[0][0] if rows else None

    async def waiting(self, cap: int, queue: str | None = None) -> int:
        """Return how many jobs wait, in one queue or in all, counted up to a cap."""
        query, parameters = "waiting", {"cap": cap, "queue": queue}
        if queue is not None:
            query = "waiting_in"
        value: int = (await self._rows(query, parameters))[0][0]
        return value

    async def overdue(self, others: Sequence[int], before: float) -> OverdueJob | None:
        """Return a job that may start and was due before a time, of no task of these numbers."""
        rows = await self._rows("overdue", {"others": json.dumps(others), "before": before})
        return OverdueJob(*rows[0]) if rows else None

    async def ping(self) -> None:
        """Raise unless the file can be read."""
        await self._rows("ping", {})

    async def _rows(self, query: str, parameters: dict[str, Any]) -> list[sqlite3.Row]:
        return await self.run(lambda connection: _all(connection, query, parameters))

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Read with a function of the connection, in the connection's thread."""
        try:
            try:
                return await self._connection.run(work)
            except sqlite3.OperationalError as error:
                if not is_undecodable(error):
                    raise
                # One damaged row must not hide the others.
                self._connection.read_leniently()
                return await self._connection.run(work)
        except sqlite3.Error as error:
            failure = translated(error, self._path)
            if isinstance(failure, StoreFormatError):
                self._damaged(failure)
            raise failure from error


def _all(connection: sqlite3.Connection, query: str, parameters: dict[str, Any]) -> list[Any]:
    return connection.execute(QUERIES[query], parameters).fetchall()


def _get(id: str, now: float, connection: sqlite3.Connection) -> JobRecord | None:
    row = connection.execute(QUERIES["get"], {"id": id}).fetchone()
    if row is None:
        return None
    attempts = connection.execute(QUERIES["attempts"], {"seq": row["seq"]}).fetchall()
    return record_of(row, now, tuple(_attempt(attempt) for attempt in attempts))


def _list(
    wanted: JobFilter, now: float, connection: sqlite3.Connection
) -> list[tuple[int, JobRecord]]:
    keys: list[int] = []
    rest = wanted
    while True:
        found = find(connection, rest, now)
        keys += found.keys
        if not found.stopped:
            break
        rest = replace(wanted, before=found.next, limit=wanted.limit - len(keys))
    rows = _all(connection, "lines", {"keys": json.dumps(keys), "with_args": False})
    return [(row["seq"], record_of(row, now, ())) for row in rows]


def _attempt(row: sqlite3.Row) -> AttemptRecord:
    error = None
    if row["error_type"] is not None:
        error = AttemptError(row["error_type"], row["error_message"] or "", row["traceback"])
    return AttemptRecord(
        number=row["number"],
        outcome=row["outcome"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        error=error,
    )


_PLAIN = (
    "id", "queue", "priority", "args", "attempt", "failures", "crashes", "snoozes", "created_at",
    "due_at", "started_at", "finished_at", "start_by", "finish_by", "on_crash", "result", "reason",
    "owner", "request_id", "traceparent", "options", "held_for",
)  # fmt: skip  # the columns that are taken as they are


def _tags(text: str | None) -> tuple[str, ...]:
    try:
        tags = json.loads(text) if text else ()
    except ValueError:
        # A damaged row is shown with the others.
        return ()
    return tuple(map(str, tags)) if isinstance(tags, list) else ()


def record_of(row: sqlite3.Row, now: float, attempts: tuple[AttemptRecord, ...]) -> JobRecord:
    """Return a row as a record."""
    state = JobState(row["state"])
    if state is JobState.SUCCEEDED:
        done = AttemptRecord(
            number=row["attempt"],
            outcome="succeeded",
            started_at=row["started_at"],
            ended_at=row["finished_at"],
        )
        attempts = (*attempts, done)
    return JobRecord(
        task=row["task_name"],
        version=row["task_version"],
        state=state,
        shown=shown_state(state, row["due_at"], row["attempt"], now),
        tags=_tags(row["tags"]),
        cancel_requested=bool(row["cancel_requested"]),
        attempts=attempts,
        **{name: row[name] for name in _PLAIN},
    )
