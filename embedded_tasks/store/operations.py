"""What is written: each function runs one named statement, or the few that belong together.

What lives here: functions of a connection and rows, run in the connection's thread within the
writer's transaction. What does not: any decision. Called by the writer; built by `Store`.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from embedded_tasks.job import FINISHED, JobState, NewJob, Settlement
from embedded_tasks.store.claiming import Claim, ClaimResult, take_due
from embedded_tasks.store.failures import Failure, count_failures
from embedded_tasks.store.queries import QUERIES, execute_for_all

__all__ = [
    "Claim",
    "ClaimResult",
    "Jobs",
    "Recovery",
]


_PUT_BACK = 60.0
"""Seconds by which a clock must go back to be noticed; corrections by less are let be."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What becomes of one job of a dead process whose attempt may have started."""

    id: str
    attempt: int
    owner: str
    state: JobState
    outcome: str
    crashed: int
    reason: str | None
    held_for: str | None
    now: float
    prune_at: float | None
    error_type: str | None
    error_message: str | None
    unblocks: bool
    failed: int = 0
    place: str = ""
    traceback: str | None = None


class Jobs:
    """The statements, as functions of a connection and rows.

    Args:
        keep_seconds: How long cancelled and expired jobs are kept.
    """

    def __init__(self, keep_expired: float, keep_cancelled: float) -> None:
        self._keep_expired = keep_expired
        self._keep_cancelled = keep_cancelled
        self._stored_tasks: set[str] = set()
        self._latest = 0.0
        self._has_claimed = False

    def forget(self) -> None:
        """Forget which task names are stored: a transaction that stored some was rolled back."""
        self._stored_tasks.clear()

    def insert(self, connection: sqlite3.Connection, rows: list[NewJob]) -> None:
        """Store new jobs."""
        for name in {job.task for job in rows} - self._stored_tasks:
            connection.execute(QUERIES["add_task"], {"name": name})
            self._stored_tasks.add(name)
        execute_for_all(connection, QUERIES["insert"], rows)
        owners = [(job.id, job.belongs_to) for job in rows if job.belongs_to is not None]
        tags = [(job.id, tag) for job in rows if job.tags for tag in json.loads(job.tags)]
        for query, beside in (("add_owners", owners), ("add_tags", tags)):
            if beside:
                connection.execute(QUERIES[query], {"rows": json.dumps(beside)})
        self._latest = max(self._latest, *(job.created_at for job in rows[-1:]))
        # Whoever owns a job knows its name.
        self._hold_new(connection, [job.id for job in rows if job.owner is None])

    def begin(self, connection: sqlite3.Connection, rows: list[tuple[str, str, float]]) -> set[str]:
        """Reserved jobs start; rows are (id, owner, now). Returns the ids that were still ours."""
        _, owner, now = rows[0]
        ids = json.dumps([row[0] for row in rows])
        return _ids(connection.execute(QUERIES["begin"], {"ids": ids, "owner": owner, "now": now}))

    def release(
        self, connection: sqlite3.Connection, rows: list[tuple[str, str, float]]
    ) -> list[str]:
        """Jobs that never started go to everybody; rows are (id, owner, now).

        Returns the ids of those that are cancelled instead, because somebody had asked for it.
        """
        _, owner, now = rows[0]
        ids = json.dumps([row[0] for row in rows])
        released = connection.execute(QUERIES["release"], {"ids": ids, "owner": owner}).fetchall()
        return [
            id for id, cancel, why in released if cancel and self._cancel(connection, id, now, why)
        ]

    def withdraw(self, connection: sqlite3.Connection, rows: list[NewJob]) -> None:
        """Take back jobs that came too late."""
        owned = json.dumps([(job.id, job.owner) for job in rows])
        connection.execute(QUERIES["withdraw"], {"rows": owned})

    def settle(self, connection: sqlite3.Connection, rows: list[Settlement]) -> dict[str, bool]:
        """Write outcomes. Returns the ids whose job was still ours, and if it is cancelled now."""
        others = [row for row in rows if row.outcome != "succeeded"]
        if others:
            attempts = json.dumps([_attempt_row(row) for row in others])
            connection.execute(QUERIES["record_attempt"], {"rows": attempts})
        done = dict.fromkeys(self._settled(connection, rows), False)
        queued = {row.id: row.ended_at for row in others if row.state is JobState.QUEUED}
        if queued:
            asked = {"ids": json.dumps([id for id in queued if id in done])}
            for (id,) in connection.execute(QUERIES["to_cancel"], asked).fetchall():
                done[id] = self._cancel(connection, id, queued[id])
        leaders = [row.id for row in rows if row.leads and row.outcome != "interrupted"]
        self._unblock(connection, [id for id in leaders if id in done])
        failures = [
            Failure(row.id, row.error.type, row.error.place, row.error.message, row.ended_at)
            for row in others
            if row.error is not None
        ]
        count_failures(connection, failures, done)
        return done

    def _settled(self, connection: sqlite3.Connection, rows: list[Settlement]) -> list[str]:
        """Write outcomes; return the ids of the jobs that were still ours: nearly always all."""

        def changed(rows: list[Settlement]) -> int:
            return execute_for_all(
                connection, QUERIES["settle"], [_settle_row(row) for row in rows]
            )

        if len(rows) > 1:
            # All at once, and counted: to return their ids would be a step for each.
            connection.execute("SAVEPOINT settle")
            all_ours = changed(rows) == len(rows)
            if not all_ours:
                connection.execute("ROLLBACK TO settle")
            connection.execute("RELEASE settle")
            if all_ours:
                return [row.id for row in rows]
        return [row.id for row in rows if changed([row])]

    def claim(self, connection: sqlite3.Connection, rows: list[Claim]) -> ClaimResult:
        """Expire what is too late, take what is due, and say when to ask again."""
        (claim,) = rows
        self._follow_clock(connection, claim.now)
        expired = self.expire(connection, [claim.now])
        new_tasks = connection.execute(QUERIES["task_names"], {"after": claim.seen}).fetchall()
        # Asked before: what is taken here may come back before its time is over.
        next_expiry = connection.execute(QUERIES["next_expiry"]).fetchone()[0]
        jobs, times = take_due(connection, claim)
        times.append(next_expiry)
        return ClaimResult(
            jobs,
            min((time for time in times if time is not None), default=None),
            [(row[0], row[1]) for row in new_tasks],
            expired,
        )

    def _follow_clock(self, connection: sqlite3.Connection, now: float) -> None:
        """When the clock was put back, also while nobody was there, nothing stalls for it."""
        if not self._has_claimed:
            self._has_claimed = True
            newest = connection.execute(QUERIES["newest"]).fetchone()
            self._latest = max(self._latest, newest[0] if newest else now)
        if now < self._latest - _PUT_BACK:
            connection.execute(QUERIES["due_again"], {"now": now})
            self._latest = now
        self._latest = max(self._latest, now)

    def expire(self, connection: sqlite3.Connection, rows: list[float]) -> list[str]:
        """End the waiting jobs whose time has passed; the row is the wall clock."""
        parameters = {"now": rows[0], "keep": self._keep_expired}
        expired = connection.execute(QUERIES["expire"], parameters).fetchall()
        self._unblock(connection, [row[0] for row in expired if row[1]])
        return [row[0] for row in expired]

    def recover(self, connection: sqlite3.Connection, rows: list[Recovery]) -> set[str]:
        """Put back the jobs of a dead process whose attempts had started."""
        recovered: set[str] = set()
        for row in rows:
            guard = {"id": row.id, "attempt": row.attempt, "owner": row.owner}
            attempt = {"now": row.now, "outcome": row.outcome}
            error = {
                "error_type": row.error_type,
                "error_message": row.error_message,
                "traceback": row.traceback,
            }
            connection.execute(QUERIES["record_crash"], guard | attempt | error)
            after = {
                "state": row.state,
                "crashed": row.crashed,
                "failed": row.failed,
                "reason": row.reason,
                "held_for": row.held_for,
                "finished_at": row.now if row.state in FINISHED else None,
                "prune_at": row.prune_at,
            }
            done = connection.execute(QUERIES["recover"], guard | after).fetchall()
            if row.error_type:
                why = row.error_message or ""
                failure = Failure(row.id, row.error_type, row.place, why, row.now)
                count_failures(connection, [failure], {id for id, _ in done})
            for id, cancel in done:
                recovered.add(id)
                if cancel and row.state is JobState.QUEUED:
                    self._cancel(connection, id, row.now)
                if row.unblocks:
                    self._unblock(connection, [id])
        return recovered

    def acquit(self, connection: sqlite3.Connection, rows: list[tuple[str, str]]) -> None:
        """A suspect has run long enough; rows are (id, owner)."""
        for id, owner in rows:
            connection.execute(QUERIES["acquit"], {"id": id, "owner": owner})

    def cancel(
        self, connection: sqlite3.Connection, rows: list[tuple[str, str, float]]
    ) -> tuple[str, str | None]:
        """Cancel one job; the row is (id, reason, now). Returns what happened, and the owner."""
        id, reason, now = rows[0]
        if self._cancel(connection, id, now, reason):
            return "cancelled", None
        running = connection.execute(
            QUERIES["request_cancel"], {"id": id, "reason": reason}
        ).fetchone()
        return ("requested", running[0]) if running else ("unchanged", None)

    def retry(self, connection: sqlite3.Connection, rows: list[tuple[str, float]]) -> bool:
        """Queue a finished or held job again; the row is (id, now)."""
        id, now = rows[0]
        connection.execute(QUERIES["record_success"], {"id": id})
        done = bool(connection.execute(QUERIES["retry"], {"id": id, "now": now}).fetchall())
        if done:
            self._hold_new(connection, [id])
        return done

    def hold_unknown(
        self, connection: sqlite3.Connection, rows: list[tuple[str, int]]
    ) -> list[str]:
        """Say which tasks a process does not know, and hold what nobody knows."""
        for process, task in rows:
            connection.execute(QUERIES["add_unknown"], {"process": process, "task": task})
        held = connection.execute(QUERIES["hold_unknown"]).fetchall()
        self._unblock(connection, [row[0] for row in held if row[1]])
        return [row[0] for row in held]

    def _hold_new(self, connection: sqlite3.Connection, ids: list[str]) -> None:
        """Those who do not know a name have said so before: nobody would look at these jobs."""
        if ids and connection.execute(QUERIES["any_unknown"]).fetchone():
            held = connection.execute(QUERIES["hold_new"], {"ids": json.dumps(ids)}).fetchall()
            self._unblock(connection, [row[0] for row in held if row[1]])

    def unhold(self, connection: sqlite3.Connection, rows: list[int]) -> set[str]:
        """Queue the held jobs of tasks whose code is back."""
        return _ids(connection.execute(QUERIES["unhold"], {"tasks": json.dumps(rows)}))

    def add_process(self, connection: sqlite3.Connection, rows: list[dict[str, Any]]) -> None:
        """Write down a process."""
        connection.execute(QUERIES["add_process"], rows[0])

    def remove_process(self, connection: sqlite3.Connection, rows: list[str]) -> bool:
        """Forget a process that owns no job any more; return whether that is so."""
        (id,) = rows
        return connection.execute(QUERIES["remove_process"], {"id": id}).rowcount > 0

    def environment(self, connection: sqlite3.Connection, rows: list[str]) -> str:
        """Store the environment if there is none yet; return the stored one."""
        asked = {"key": "environment", "value": rows[0]}
        connection.execute(QUERIES["add_fact"], asked)
        stored: str = connection.execute(QUERIES["fact"], asked).fetchone()[0]
        return stored

    def set_fact(self, connection: sqlite3.Connection, rows: list[tuple[str, str]]) -> None:
        """Say something of the file itself; rows are (key, value)."""
        for key, value in rows:
            connection.execute(QUERIES["set_fact"], {"key": key, "value": value})

    def index_waiting(self, connection: sqlite3.Connection, _rows: list[None]) -> None:
        """Make the index by which the jobs that wait in a queue are counted."""
        connection.execute(QUERIES["index_waiting"])

    def prune(self, connection: sqlite3.Connection, rows: list[tuple[float, int]]) -> int:
        """Remove finished jobs; the row is (now, limit). Returns how many."""
        now, limit = rows[0]
        return connection.execute(QUERIES["prune"], {"now": now, "limit": limit}).rowcount

    def _cancel(
        self,
        connection: sqlite3.Connection,
        id: str,
        now: float,
        reason: str = "It was cancelled while it ran.",
    ) -> bool:
        parameters = {"id": id, "now": now, "keep": self._keep_cancelled, "reason": reason}
        done = bool(connection.execute(QUERIES["cancel_waiting"], parameters).fetchall())
        if done:
            self._unblock(connection, [id])
        return done

    def _unblock(self, connection: sqlite3.Connection, ids: list[str]) -> None:
        if ids:
            connection.execute(QUERIES["unblock"], {"ids": json.dumps(ids)})


def _ids(rows: Iterable[sqlite3.Row]) -> set[str]:
    return {row[0] for row in rows}


def _settle_row(row: Settlement) -> tuple[Any, ...]:
    """Return an outcome as the statement `settle` reads it."""
    return (
        row.id, row.number, row.owner, row.state.value, row.started_at, row.due_at, row.result,
        row.reason, row.held_for, row.failures, row.crashes, row.snoozes, row.finished_at,
        row.prune_at,
    )  # fmt: skip  # one column after another, as in the statement


def _attempt_row(row: Settlement) -> tuple[Any, ...]:
    """Return an attempt that did not succeed as the statement `record_attempt` reads it."""
    error = row.error
    what = (
        (None, row.reason, None) if error is None else (error.type, error.message, error.traceback)
    )
    return (row.id, row.number, row.owner, row.outcome, row.started_at, row.ended_at, *what)
