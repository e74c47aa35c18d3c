"""What operators and observers write: pauses, audit, progress, logs, figures, kinds of failures.

What lives here: functions of a connection and rows, and `Steering`, which hands them to the writer.
What does not: who may, and when. Built by `Store`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from embedded_tasks.store.callers import Operation
from embedded_tasks.store.operations import Jobs
from embedded_tasks.store.queries import QUERIES
from embedded_tasks.store.writer import Writer

__all__ = ["Act", "Notes", "Steering"]

_AUDIT_KEPT: Final = 10_000
_LOG_KEPT: Final = 64 * 1024
_SPANS: Final[Mapping[int, float]] = {60: 7 * 3600.0, 3600: 30 * 86_400.0}
_KINDS: Final = 3


@dataclass(frozen=True, slots=True)
class Act:
    """What somebody did, for the audit."""

    now: float
    by: str | None
    action: str
    target: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notes:
    """What jobs have said since the last time, as rows of the statements."""

    progress: Sequence[Sequence[Any]] = ()
    logs: Sequence[Sequence[Any]] = ()
    metrics: Sequence[Sequence[Any]] = ()


class Steering:
    """Writes what operators do and what jobs say.

    Args:
        writer: The only writer.
        jobs: The statements about jobs.
        wait: Seconds that an operator waits for a commit.
    """

    def __init__(self, writer: Writer, jobs: Jobs, wait: float) -> None:
        self._writer = writer
        self._jobs = jobs
        self._wait = wait

    async def pause(self, act: Act) -> bool:
        """Pause the queue that is the act's target; return whether it was not paused."""
        return await self._act(partial(_pause, "pause"), act)

    async def resume(self, act: Act) -> bool:
        """Resume the queue that is the act's target; return whether it was paused."""
        return await self._act(partial(_pause, "resume"), act)

    async def retry(self, ids: Sequence[str], act: Act | None, now: float) -> list[str]:
        """Queue finished or held jobs again; return which."""

        def work(connection: sqlite3.Connection, rows: list[str]) -> list[str]:
            done = [id for id in rows if self._jobs.retry(connection, [(id, now)])]
            _write_down(connection, act if done else None)
            return done

        return await self._many(work, ids)

    async def run_now(self, ids: Sequence[str], act: Act | None, now: float) -> list[str]:
        """Make waiting jobs due; return which."""

        def work(connection: sqlite3.Connection, rows: list[str]) -> list[str]:
            done = [id for id in rows if _changed(connection, "run_now", {"id": id, "now": now})]
            _write_down(connection, act if done else None)
            return done

        return await self._many(work, ids)

    async def delete(self, ids: Sequence[str], act: Act | None) -> list[str]:
        """Remove finished or held jobs; return which."""

        def work(connection: sqlite3.Connection, rows: list[str]) -> list[str]:
            found = [
                row
                for id in rows
                for row in connection.execute(QUERIES["delete_job"], {"id": id}).fetchall()
            ]
            done = [row[0] for row in found]
            leaders = [row[0] for row in found if row[1]]
            if leaders:
                connection.execute(QUERIES["unblock"], {"ids": json.dumps(leaders)})
            _write_down(connection, act if done else None)
            return done

        return await self._many(work, ids)

    async def write_down(self, act: Act) -> None:
        """Write into the audit what was done."""

        def work(connection: sqlite3.Connection, rows: list[Act]) -> None:
            for row in rows:
                _write_down(connection, row)

        await self._writer.submit(Operation(work, [act]), self._wait)

    async def note(self, notes: Notes) -> None:
        """Write what jobs have said."""
        rows = max(1, len(notes.logs) + len(notes.progress))
        await self._writer.submit(Operation(_note, [notes] * 1, rows))

    async def tidy(self, now: float, keep_failures: float) -> None:
        """Remove figures and kinds of failures that are older than they are kept."""

        def work(connection: sqlite3.Connection, _rows: list[None]) -> None:
            for span, kept in _SPANS.items():
                for kind in range(_KINDS):
                    asked = {"span": span, "kind": kind, "before": int(now - kept)}
                    connection.execute(QUERIES["forget_metrics"], asked)
            connection.execute(QUERIES["forget_groups"], {"before": now - keep_failures})

        await self._writer.submit(Operation(work, [None]))

    async def _act(self, work: Any, act: Act) -> bool:
        done: bool = await self._writer.submit(Operation(work, [act]), self._wait)
        return done

    async def _many(self, work: Any, ids: Sequence[str]) -> list[str]:
        done: list[str] = await self._writer.submit(Operation(work, list(ids)), self._wait)
        return done


def _pause(name: str, connection: sqlite3.Connection, rows: list[Act]) -> bool:
    (act,) = rows
    asked = {"queue": act.target, "now": act.now, "by": act.by}
    done = _changed(connection, name, asked)
    if done:
        _write_down(connection, act)
    return done


def _changed(connection: sqlite3.Connection, name: str, asked: Mapping[str, Any]) -> bool:
    return bool(connection.execute(QUERIES[name], asked).fetchall())


def _write_down(connection: sqlite3.Connection, act: Act | None) -> None:
    if act is None:
        return
    row = {"now": act.now, "by": act.by, "action": act.action, "target": act.target}
    details = json.dumps(dict(act.details), default=str)
    connection.execute(QUERIES["add_audit"], row | {"details": details})
    connection.execute(QUERIES["trim_audit"], {"keep": _AUDIT_KEPT})


def _note(connection: sqlite3.Connection, rows: list[Notes]) -> None:
    for notes in rows:
        for name, said in (("set_progress", notes.progress), ("add_metrics", notes.metrics)):
            if said:
                connection.execute(QUERIES[name], {"rows": json.dumps(said)})
        if notes.logs:
            connection.execute(QUERIES["add_logs"], {"rows": json.dumps(notes.logs)})
            for id in {row[0] for row in notes.logs}:
                connection.execute(QUERIES["trim_logs"], {"id": id, "keep": _LOG_KEPT})
