"""What the store promises, as plain Python: a dict of rows and one method per transition.

What lives here: the model, written from the states and the policy of `job.py` and not from the
SQL. What does not: the store, and random choices (`test_state_machine.py`, which calls this).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from embedded_tasks.config import Retention
from embedded_tasks.job import (
    FINISHED,
    MAX_CRASHES,
    SUSPECT_AFTER,
    Cancelled,
    Expired,
    Failed,
    Held,
    Interrupted,
    JobState,
    NewJob,
    Outcome,
    RetryLater,
    Snoozed,
    Succeeded,
)
from embedded_tasks.processes import INTERRUPTED, TIMED_OUT

__all__ = ["COLUMNS", "Death", "Model", "Row"]

COLUMNS = (
    "id", "task", "state", "owner", "attempt", "priority", "due_at", "failures", "crashes",
    "snoozes", "after", "expires_at", "started_at", "finished_at", "prune_at", "held_for",
    "result", "cancel", "history",
)  # fmt: skip  # what is compared with the store's rows

Q, R = JobState.QUEUED, JobState.RUNNING
_NAMES = {
    Succeeded: "succeeded", RetryLater: "retry", Snoozed: "snoozed", Failed: "failed",
    Cancelled: "cancelled", Expired: "expired", Interrupted: "interrupted", Held: "held",
}  # fmt: skip  # how each outcome is called in an attempt's row


@dataclass(slots=True)
class Row:
    """A job, as the model has it."""

    id: str
    task: str
    state: JobState
    owner: str | None
    attempt: int
    priority: int
    due_at: float
    on_crash: str
    finish_by: float | None
    expires_at: float | None
    after: str | None
    leads: bool
    started_at: float | None
    failures: int = 0
    crashes: int = 0
    snoozes: int = 0
    finished_at: float | None = None
    prune_at: float | None = None
    held_for: str | None = None
    result: str | None = None
    cancel: bool = False
    attempts: dict[int, str] = field(default_factory=dict)

    @property
    def history(self) -> str:
        return ",".join(f"{number}:{self.attempts[number]}" for number in sorted(self.attempts))

    @property
    def is_suspect(self) -> bool:
        return self.crashes >= SUSPECT_AFTER

    def shown(self) -> tuple[Any, ...]:
        """Return what the store's row must look like."""
        return tuple(getattr(self, name) for name in COLUMNS)


@dataclass(frozen=True, slots=True)
class Death:
    """How a process died.

    Args:
        process: Its id.
        marks: The flags of each job that it had started.
        readable: Whether its file tells that.
        same_boot: Whether the machine was not restarted.
    """

    process: str
    marks: dict[str, int]
    readable: bool
    same_boot: bool

    @property
    def is_certain(self) -> bool:
        return self.readable and self.same_boot


class Model:
    """The jobs, and which tasks each process does not know.

    Args:
        retention: How long finished jobs are kept.
    """

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self.rows: dict[str, Row] = {}  # in the order of their age
        self.unknown: dict[str, set[str]] = {}

    # In.

    def insert(self, jobs: Sequence[NewJob]) -> None:
        for job in jobs:
            times = [time for time in (job.start_by, job.finish_by) if time is not None]
            self.rows[job.id] = Row(
                job.id, job.task, job.state, job.owner, job.attempt, job.priority, job.due_at,
                job.on_crash, job.finish_by, min(times, default=None), job.after, bool(job.leads),
                job.created_at if job.state is R else None,
            )  # fmt: skip  # one after another, as above
        self._hold_unknown({job.id for job in jobs})

    def withdraw(self, jobs: Sequence[NewJob]) -> None:
        """The client was told that these are not stored: they go, unless somebody started them."""
        for job in jobs:
            row = self.rows[job.id]
            is_waiting = row.state in (Q, JobState.HELD) and row.attempt == 0
            if is_waiting or (row.state is R and row.owner == job.owner):
                del self.rows[job.id]

    # Out to a process, and back.

    def claimable(self, tasks: Collection[str]) -> list[Row]:
        free = [row for row in self.rows.values() if row.state is Q and row.owner is None]
        return [row for row in free if row.after is None and row.task in tasks]

    def claim(
        self, owner: str, now: float, wanted: Sequence[tuple[Sequence[str], int]], suspects: bool
    ) -> tuple[list[str], float | None]:
        """Return who is taken, in order, and when it is worth to ask again."""
        self.expire(now)
        taken: list[Row] = []
        waiting = [row for row in self.rows.values() if row.state is Q and row.owner is None]
        wake = [row.expires_at for row in waiting]
        for tasks, limit in wanted:
            free = self.claimable(tasks)
            suspected = sorted((row for row in free if row.is_suspect), key=lambda row: row.due_at)
            mine: list[Row] = []
            if suspects and limit:
                mine = [row for row in suspected if row.due_at <= now][:1]
                suspects = not mine
                wake += [row.due_at for row in suspected[:1] if not mine]
            innocent = sorted(
                (row for row in free if not row.is_suspect),
                key=lambda row: (-row.priority, row.due_at),
            )
            mine += [row for row in innocent if row.due_at <= now][: limit - len(mine)]
            if len(mine) < limit:
                wake += [row.due_at for row in innocent if row not in mine]
            for row in mine:
                row.state, row.owner, row.started_at = R, owner, now
                row.attempt += 1
            taken += mine
        age = {id: place for place, id in enumerate(self.rows)}
        taken.sort(key=lambda row: (-row.priority, row.due_at, age[row.id]))
        times = [time for time in wake if time is not None]
        return [row.id for row in taken], min(times, default=None)

    def begin(self, id: str, now: float) -> None:
        row = self.rows[id]
        row.state, row.after, row.started_at = R, None, now
        row.attempt += 1

    def release(self, ids: Collection[str], owner: str, now: float) -> set[str]:
        """Return which of them are cancelled instead."""
        cancelled = set()
        for row in [self.rows[id] for id in ids if self.rows[id].owner == owner]:
            row.attempt -= row.state is R
            row.started_at = None
            if self._back(row, now):
                cancelled.add(row.id)
        return cancelled

    def settle(self, id: str, outcome: Outcome, now: float) -> bool:
        """Return whether it is cancelled instead of queued."""
        row = self.rows[id]
        row.failures += isinstance(outcome, RetryLater | Failed)
        row.snoozes += isinstance(outcome, Snoozed)
        if row.is_suspect:
            row.crashes = 0
        if not isinstance(outcome, Succeeded):
            row.attempts[row.attempt] = _NAMES[type(outcome)]
        if row.leads and not isinstance(outcome, Interrupted):
            self._set_free(row)
        row.expires_at = row.finish_by
        match outcome:
            case RetryLater(delay, _) | Snoozed(delay, _):
                row.due_at = now + delay
                return self._back(row, now)
            case Interrupted():
                return self._back(row, now)
            case Held(_, held_for):
                self._end(row, JobState.HELD, now)
                row.held_for = held_for
            case Succeeded(result, _):
                self._end(row, JobState.SUCCEEDED, now)
                row.result = result
            case _:
                self._end(row, JobState(_NAMES[type(outcome)]), now)
        return False

    def recover(self, death: Death, now: float) -> None:
        """Put back the jobs of a dead process, by the policy of each."""
        owned = [row for row in self.rows.values() if row.owner == death.process]
        started = [
            row
            for row in owned
            if row.state is R and (not death.is_certain or row.id in death.marks)
        ]
        self.release([row.id for row in owned if row not in started], death.process, now)
        solo = any(row.is_suspect for row in started)
        for row in started:
            charged = death.is_certain and (row.is_suspect or not solo)
            self._died(row, death.marks.get(row.id, 0) if death.readable else 0, charged, now)
        self.unknown.pop(death.process, None)

    def _died(self, row: Row, flags: int, charged: bool, now: float) -> None:
        row.expires_at = row.finish_by
        if flags & TIMED_OUT or (flags & INTERRUPTED and row.on_crash == "retry"):
            timed_out = bool(flags & TIMED_OUT)
            row.attempts[row.attempt] = "timed out" if timed_out else "interrupted"
            row.failures += timed_out
            if timed_out:
                self._set_free(row)
            self._back(row, now)
            return
        charged = charged and not flags & INTERRUPTED
        row.attempts[row.attempt] = "crashed"
        row.crashes += charged
        if row.on_crash == "fail":
            self._end(row, JobState.FAILED, now)
        elif row.on_crash == "hold" or (charged and row.crashes >= MAX_CRASHES):
            self._end(row, JobState.HELD, now)
            row.held_for = "crash"
        else:
            self._back(row, now)

    # Beside: what people and clocks do.

    def expire(self, now: float) -> set[str]:
        late = [
            row
            for row in self.rows.values()
            if row.state is Q and row.owner is None
            if row.expires_at is not None and row.expires_at <= now
        ]
        for row in late:
            self._end(row, JobState.EXPIRED, now)
        return {row.id for row in late}

    def cancel(self, id: str, now: float) -> tuple[str, str | None]:
        row = self.rows.get(id)
        if row is not None and row.state in (Q, JobState.HELD):
            row.held_for = None
            self._end(row, JobState.CANCELLED, now)
            return "cancelled", None
        if row is not None and row.state is R:
            row.cancel = True
            return "requested", row.owner
        return "unchanged", None

    def retry(self, id: str, now: float) -> bool:
        row = self.rows.get(id)
        if row is None or row.state in (Q, R):
            return False
        if row.state is JobState.SUCCEEDED:
            row.attempts[row.attempt] = "succeeded"
        row.state, row.due_at, row.cancel = Q, now, False
        row.failures = row.crashes = row.snoozes = 0
        row.held_for = row.result = row.after = None
        row.finished_at = row.prune_at = row.finish_by = row.expires_at = None
        self._hold_unknown({id})
        return True

    def hold_unknown(self, process: str, tasks: Collection[str]) -> set[str]:
        self.unknown[process] |= set(tasks)
        return self._hold_unknown(self.rows)

    def unhold(self, tasks: Collection[str]) -> set[str]:
        back = [
            row
            for row in self.rows.values()
            if row.held_for in ("unknown_task", "arguments") and row.task in tasks
        ]
        for row in back:
            row.state, row.held_for = Q, None
        return {row.id for row in back}

    def acquit(self, id: str, owner: str) -> None:
        row = self.rows[id]
        if row.state is R and row.owner == owner and row.is_suspect:
            row.crashes = 0

    def prune(self, now: float) -> int:
        old = [row.id for row in self.rows.values() if (row.prune_at or now + 1) <= now]
        for id in old:
            del self.rows[id]
        return len(old)

    def _hold_unknown(self, ids: Collection[str]) -> set[str]:
        held = [
            row
            for row in self.rows.values()
            if row.id in ids and row.state is Q and row.owner is None
            if all(row.task in tasks for tasks in self.unknown.values())
        ]
        for row in held:
            self._end(row, JobState.HELD, 0.0)
            row.held_for = "unknown_task"
        return {row.id for row in held}

    def _back(self, row: Row, now: float) -> bool:
        """To everybody, or cancelled where somebody had asked for it while it ran."""
        row.state, row.owner = Q, None
        if row.cancel:
            self._end(row, JobState.CANCELLED, now)
            return True
        return False

    def _end(self, row: Row, state: JobState, now: float) -> None:
        row.state, row.owner, row.cancel = state, None, False
        if state in FINISHED:
            row.finished_at, row.prune_at = now, now + self._retention.keep(state)
        self._set_free(row)

    def _set_free(self, leader: Row) -> None:
        for row in self.rows.values():
            if row.after == leader.id:
                row.after = None
