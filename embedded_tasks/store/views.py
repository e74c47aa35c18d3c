"""What operators see, read from the store in few crossings each.

What lives here: counts, queues, figures, kinds of failures, logs, audit. What does not: the feed
(`news`), finding jobs (`listing`), and judging what is read. Built by `Store`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from embedded_tasks.job import JobRecord, JobState, Progress, ShownState
from embedded_tasks.reported import (
    AuditEntry,
    AuditPage,
    Count,
    ErrorGroup,
    JobPage,
    LogLine,
    LogPage,
    QueueReport,
)
from embedded_tasks.store.filters import JobFilter
from embedded_tasks.store.listing import Found, find
from embedded_tasks.store.queries import QUERIES
from embedded_tasks.store.reader import COUNT_CAP, Reader, record_of

__all__ = ["Views"]

_ABOVE_ALL: Final = 2**63 - 1
_LOG_DROPS_FROM: Final = 60 * 1024
_GROUP_CAP: Final = 500
_MOST_QUEUES: Final = 500

_Figures = dict[str, dict[int, int]]


class Views:
    """Reads what operators see.

    Args:
        reader: The reader, whose connection is used.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def paused(self) -> list[str]:
        """Return the names of the paused queues."""
        return [row[0] for row in await self._rows("paused_queues", {})]

    async def page(self, wanted: JobFilter, now: float) -> JobPage:
        """Return a page of jobs; with their arguments where those are searched."""
        return await self._reader.run(partial(_page, wanted, now))

    async def keys(self, wanted: JobFilter, now: float) -> tuple[list[str], Found]:
        """Return the ids of the jobs of a page, and where to go on."""
        return await self._reader.run(partial(_keys, wanted, now))

    async def count(self, wanted: JobFilter, now: float, cap: int) -> Count:
        """Return how many jobs a filter means, up to a cap."""
        found = await self._reader.run(
            lambda connection: find(connection, replace(wanted, limit=cap + 1, before=None), now)
        )
        return Count(min(len(found.keys), cap), found.next is not None)

    async def complete(self, record: JobRecord) -> JobRecord:
        """Return a job with what stands beside it."""
        return (await self._reader.run(partial(_completed, [record])))[0]

    async def counts(self, now: float) -> dict[ShownState, Count]:
        """Return how many jobs are in each state as people see it."""
        return await self._reader.run(partial(_counts, now))

    async def queues(self, now: float) -> list[QueueReport]:
        """Return the queues with waiting or running jobs, and the paused ones."""
        return await self._reader.run(partial(_queues, now))

    async def queues_of_jobs(self) -> list[str]:
        """Return the queues that stored jobs name, at most 500, whatever became of the jobs."""
        return [row[0] for row in await self._rows("queues_of_jobs", {"limit": _MOST_QUEUES})]

    async def groups(self, limit: int, task: str | None) -> list[ErrorGroup]:
        """Return the kinds of failures, the one seen last first."""
        return await self._reader.run(partial(_groups, limit, task))

    async def titles(self) -> list[str]:
        """Return every task name that was ever enqueued."""
        return [row[0] for row in await self._rows("task_titles", {})]

    async def figures(self, kinds: Sequence[int], since: float) -> dict[int, _Figures]:
        """Return what was counted of each kind since a time: by task and class."""
        found: dict[int, _Figures] = {}
        for kind in kinds:
            rows = await self._rows("figures", {"kind": kind, "since": int(since)})
            tasks = found.setdefault(kind, {})
            for task, number, total in rows:
                tasks.setdefault(task, {})[number] = total
        return found

    async def series(
        self, span: int, kind: int, since: float, bucket: int, task: str | None
    ) -> list[tuple[int, int, int]]:
        """Return what was counted of a kind: (start of the bucket, class, how many)."""
        asked = {"span": span, "kind": kind, "since": int(since), "task": task, "bucket": bucket}
        return [(row[0], row[1], row[2]) for row in await self._rows("series", asked)]

    async def logs(self, job_id: str, after: int, limit: int) -> LogPage:
        """Return the lines of a job."""
        asked = {"id": job_id, "after": after, "limit": limit + 1}
        rows = await self._rows("logs", asked)
        kept = (await self._rows("size_of_logs", {"id": job_id}))[0][0]
        lines = [
            LogLine(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]) if row[5] else {})
            for row in rows[:limit]
        ]
        return LogPage(lines, dropped=kept > _LOG_DROPS_FROM, more=len(rows) > limit)

    async def audit(self, before: int | None, limit: int) -> AuditPage:
        """Return a page of what was done, newest first."""
        asked = {"before": _ABOVE_ALL if before is None else before, "limit": limit + 1}
        rows = [_entry(row) for row in await self._rows("audit", asked)]
        page = rows[:limit]
        return AuditPage(page, page[-1].id if len(rows) > limit else None)

    async def audit_of(self, target: str) -> list[AuditEntry]:
        """Return what was done to a job or queue, oldest first."""
        return [_entry(row) for row in await self._rows("audit_of", {"target": target})]

    async def running_by_process(self) -> dict[str, int]:
        """Return how many jobs each process runs."""
        return {row[0]: row[1] for row in await self._rows("running_by_process", {})}

    async def pragmas(self, names: Sequence[str]) -> dict[str, Any]:
        """Return SQLite's settings by name."""

        def work(connection: sqlite3.Connection) -> dict[str, Any]:
            return {n: connection.execute(f"PRAGMA {n}").fetchone()[0] for n in names}

        return await self._reader.run(work)

    async def _rows(self, query: str, asked: dict[str, Any]) -> list[sqlite3.Row]:
        return await self._reader.run(lambda c: c.execute(QUERIES[query], asked).fetchall())


def _page(wanted: JobFilter, now: float, connection: sqlite3.Connection) -> JobPage:
    found = find(connection, wanted, now)
    with_args = wanted.argument is not None or wanted.text is not None
    asked = {"keys": json.dumps(found.keys), "with_args": with_args}
    rows = connection.execute(QUERIES["lines"], asked).fetchall()
    records = _completed([record_of(row, now, ()) for row in rows], connection)
    back_to = None
    if found.stopped:
        row = connection.execute(QUERIES["first_from"], {"seq": found.next}).fetchone()
        back_to = row[1] if row else None
    return JobPage(records, found.next, stopped=found.stopped, read_back_to=back_to)


def _keys(wanted: JobFilter, now: float, connection: sqlite3.Connection) -> tuple[list[str], Found]:
    found = find(connection, wanted, now)
    asked = {"keys": json.dumps(found.keys), "with_args": False}
    rows = connection.execute(QUERIES["lines"], asked).fetchall()
    return [row["id"] for row in rows], found


def _completed(records: list[JobRecord], connection: sqlite3.Connection) -> list[JobRecord]:
    asked = {"ids": json.dumps([record.id for record in records])}
    beside = {row[0]: row for row in connection.execute(QUERIES["beside"], asked)}
    completed = []
    for record in records:
        row = beside.get(record.id)
        if row is None or not any(value is not None for value in row[1:]):
            completed.append(record)
            continue
        progress = None if row[3] is None else Progress(row[3], row[4], row[5], row[6], row[7])
        completed.append(replace(record, belongs_to=row[1], group=row[2], progress=progress))
    return completed


def _counts(now: float, connection: sqlite3.Connection) -> dict[ShownState, Count]:
    rows = connection.execute(QUERIES["counts"], {"cap": COUNT_CAP}).fetchall()
    stored = {JobState(row[0]): row[1] for row in rows}
    counts = {state: Count(0) for state in ShownState}
    for state, total in stored.items():
        counts[ShownState(state.value)] = _capped(total)
    kinds = {}
    for later in (0, 1):
        asked = {"cap": COUNT_CAP, "now": now, "later": later}
        kinds[later] = connection.execute(QUERIES["kinds_of_waiting"], asked).fetchone()
    counts[ShownState.RETRYING] = _capped(kinds[0]["again"] + kinds[1]["again"])
    for later, shown in ((0, ShownState.QUEUED), (1, ShownState.SCHEDULED)):
        waiting, again = kinds[later]
        counts[shown] = Count(min(max(waiting - again, 0), COUNT_CAP), waiting >= COUNT_CAP)
    return counts


def _capped(total: int) -> Count:
    return Count(min(total, COUNT_CAP), total >= COUNT_CAP)


def _queues(now: float, connection: sqlite3.Connection) -> list[QueueReport]:
    running = dict(connection.execute(QUERIES["running_by_queue"]).fetchall())
    paused = {row[0]: row for row in connection.execute(QUERIES["paused_queues"])}
    waiting = [row[0] for row in connection.execute(QUERIES["waiting_queues"])]
    reports = []
    for name in sorted({*running, *paused, *waiting}):
        asked = {"queue": name, "now": now, "cap": COUNT_CAP}
        row = connection.execute(QUERIES["depth_of_queue"], asked).fetchone()
        due, oldest = row["due"], row["oldest"]
        more = row["waiting"] >= COUNT_CAP
        reports.append(
            QueueReport(
                name,
                _capped(due),
                Count(max(row["waiting"] - due, 0), more),
                running.get(name, 0),
                now - oldest if oldest is not None and oldest <= now else None,
                paused[name][1] if name in paused else None,
                paused[name][2] if name in paused else None,
            )
        )
    return reports


def _groups(limit: int, task: str | None, connection: sqlite3.Connection) -> list[ErrorGroup]:
    rows = connection.execute(QUERIES["groups"], {"limit": limit, "task": task}).fetchall()
    groups = []
    for row in rows:
        asked = {"group": row["id"], "cap": _GROUP_CAP}
        looked_at, failed = connection.execute(QUERIES["failed_of_group"], asked).fetchone()
        groups.append(
            ErrorGroup(
                row["id"],
                row["error_type"],
                row["place"],
                row["task_name"],
                row["message"],
                row["total"],
                row["first_seen"],
                row["last_seen"],
                Count(failed, looked_at == _GROUP_CAP),
                row["sample"],
            )
        )
    return groups


def _entry(row: sqlite3.Row) -> AuditEntry:
    return AuditEntry(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]))
