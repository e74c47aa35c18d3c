"""What a claim takes: the due jobs of an asking process's tasks, without walking over others.

What lives here: the choice, what is due next, and jobs as their attempts need them. What does not:
the rest of a claim's transaction, and slots. Called by the operations.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from embedded_tasks.job import MAX_CRASHES, ClaimedJob
from embedded_tasks.store.queries import QUERIES
from embedded_tasks.versions import split_name

__all__ = ["Claim", "ClaimResult", "take_due"]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a process asks for: per group of tasks, how many jobs at most.

    Args:
        owner: The asking process.
        now: The wall clock.
        wanted: Task numbers, and how many of their jobs.
        names: The stored names of those tasks by number.
        seen: The highest task number that this process has looked at.
        suspects: Whether a suspect may be among them; a process runs one at a time.
        no_suspect_before: The time at which the next one may start.
        no_last_chance_before: The same, for one that the next death would convict.
    """

    owner: str
    now: float
    wanted: Sequence[tuple[Sequence[int], int]]
    names: Mapping[int, str]
    seen: int
    suspects: bool = True
    no_suspect_before: float = 0.0
    no_last_chance_before: float = 0.0


@dataclass(frozen=True, slots=True)
class ClaimResult:
    """The jobs that are now ours, when to ask again, and task names that are new."""

    jobs: list[ClaimedJob]
    wake_at: float | None
    new_tasks: list[tuple[int, str]]
    expired: list[str]


def take_due(
    connection: sqlite3.Connection, claim: Claim
) -> tuple[list[ClaimedJob], list[float | None]]:
    """Take what is due; return it, and for what was not full the times at which more may be."""
    jobs: list[Sequence[Any]] = []
    times: list[float | None] = []
    suspects = claim.suspects
    waiting = _Waiting(connection)
    for tasks, limit in claim.wanted:
        asked = _asked(claim, tasks)
        before = len(jobs)
        if suspects and limit and claim.no_suspect_before <= claim.now:
            jobs += _take(connection, claim, waiting.due_suspect(asked))
            suspects = len(jobs) == before
        if suspects and limit:
            times.append(waiting.next_suspect(asked))
        left = limit - (len(jobs) - before)
        if left:
            jobs += _take(connection, claim, waiting.due(asked | {"limit": left}))
        if len(jobs) - before < limit:
            times.append(waiting.next_due(asked))
    jobs.sort(key=_order)
    return [_claimed(row, claim.names) for row in jobs], times


class _Waiting:
    """What may be claimed, as the present transaction sees it.

    Args:
        connection: The writer's, within its transaction.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        paused = [row[0] for row in connection.execute(QUERIES["paused_queues"])]
        self._paused = {"paused": json.dumps(paused)}
        self._some_paused = bool(paused)

    def due(self, asked: Mapping[str, Any]) -> str:
        """Return which jobs are due, as a JSON array of their numbers in the order of claims."""
        seqs: str
        if not self._some_paused:
            seqs, looked_at = self._connection.execute(QUERIES["due"], asked).fetchone()
            found = 0 if seqs == "[]" else seqs.count(",") + 1
            if looked_at < asked["limit"] or found == looked_at:
                return seqs
            # Jobs of other tasks are among the first ones.
        (seqs,) = self._ask("due_in_lines", asked)
        return seqs

    def next_due(self, asked: Mapping[str, Any]) -> float | None:
        """Return when the next job is due."""
        due: float | None = self._ask("next_due", asked)[0]
        return due

    def due_suspect(self, asked: Mapping[str, Any]) -> str:
        """Return the suspect that has waited longest, as above."""
        row = self._ask("due_suspect", asked)
        return json.dumps([row[0]] if row else [])

    def next_suspect(self, asked: Mapping[str, Any]) -> float | None:
        """Return when the next suspect is due and may start."""
        due: float | None = self._ask("next_suspect", asked)[0]
        return due

    def _ask(self, query: str, asked: Mapping[str, Any]) -> Any:
        return self._connection.execute(QUERIES[query], {**asked, **self._paused}).fetchone()


def _asked(claim: Claim, tasks: Sequence[int]) -> dict[str, Any]:
    return {
        "now": claim.now,
        "tasks": json.dumps(tasks),
        "accused": MAX_CRASHES - 1,
        "from": claim.no_suspect_before,
        "last_chance_from": claim.no_last_chance_before,
    }


def _take(connection: sqlite3.Connection, claim: Claim, seqs: str) -> Sequence[Sequence[Any]]:
    """Claim the jobs of these numbers; return their rows."""
    if seqs == "[]":
        return []
    asked = {"seqs": seqs, "owner": claim.owner, "now": claim.now}
    connection.execute(QUERIES["claim"], asked)
    return _rows(connection, asked)


def _order(row: Sequence[Any]) -> tuple[int, float, int]:
    due_at, priority, seq = row[-3:]
    return (-priority, due_at, seq)


def _rows(connection: sqlite3.Connection, asked: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
    try:
        rows: list[list[Any]] = json.loads(
            connection.execute(QUERIES["claimed"], asked).fetchone()[0]
        )
    except (sqlite3.OperationalError, ValueError):
        # Text that is no UTF-8, in one of them: the others can be read.
        return [tuple(row) for row in connection.execute(QUERIES["claimed_rows"], asked)]
    return rows


def _claimed(row: Sequence[Any], names: Mapping[int, str]) -> ClaimedJob:
    (
        id, number, attempt, args, options, queue, failures, crashes, snoozes, start_by, finish_by,
        request_id, traceparent, leads, on_crash, due_at, _, _,
    ) = row  # fmt: skip  # one column after another, as in the statement
    task, version = split_name(names[number])
    return ClaimedJob(
        id, task, attempt, args, options, queue, failures, crashes, snoozes, start_by, finish_by,
        request_id, traceparent, bool(leads), on_crash, version, due_at,
    )  # fmt: skip  # as above
