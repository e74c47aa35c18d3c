"""Outcomes on their way to the store: what ended while one commit was under way goes into the next.

What lives here: one loop, which never loses an outcome while the process lives. What does not:
what an outcome means. Fed by the worker, owned by the runner.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from embedded_tasks.attempt import Attempt
from embedded_tasks.clock import Clock, pause
from embedded_tasks.config import Retention
from embedded_tasks.errors import StoreError, StoreUnavailableError
from embedded_tasks.events import JobEvent, Observer
from embedded_tasks.job import AttemptError, Interrupted, JobState, Outcome, Settlement, Succeeded
from embedded_tasks.processes import INTERRUPTED
from embedded_tasks.settling import EVENT_OF, Times, noted, settlement, succeeded
from embedded_tasks.store import Store

__all__ = ["Ended", "Marks", "Settler", "SettlerHooks"]

_log = structlog.get_logger("embedded_tasks")

_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 5.0


class Marks(Protocol):
    """Where started attempts are written down."""

    def clear(self, *slots: int) -> None:
        """Remove marks."""
        ...

    def annotate(self, slot: int, flags: int) -> None:
        """Add to what a mark says."""
        ...


@dataclass(slots=True)
class Ended:
    """An attempt that came to its outcome."""

    attempt: Attempt
    outcome: Outcome
    mark: int | None
    ended_at: float


@dataclass(frozen=True, slots=True)
class SettlerHooks:
    """Who is told after a commit of outcomes.

    Args:
        settled: Gets the ids of jobs that have finished or are held.
        queued: Gets the earliest due time of jobs that wait again.
        observe: Gets an event for each outcome.
        masked: Returns an event without the secrets among its job's arguments, which are stored so.
        hear_of_success: Whether it is told of successes, too; most apps do not listen.
    """

    settled: Callable[[list[str]], None]
    queued: Callable[[float], None]
    observe: Observer
    masked: Callable[[JobEvent, str], JobEvent]
    hear_of_success: bool = True


class Settler:
    """Writes outcomes.

    Args:
        store: Where to.
        owner: This process.
        marks: The process file; a mark goes only after its outcome is on disk.
        clock: Where the time comes from.
        retention: How long finished jobs are kept.
        hooks: Who is told after each commit.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        marks: Marks,
        clock: Clock,
        *,
        retention: Retention,
        hooks: SettlerHooks,
    ) -> None:
        self._store = store
        self._owner = owner
        self._marks = marks
        self._clock = clock
        self._retention = retention
        self._keep = retention.keep(JobState.SUCCEEDED)
        self._hooks = hooks
        self._waiting: list[Ended] = []
        self._wake = asyncio.Event()
        self._all_written = asyncio.Event()
        self._all_written.set()
        self._closing = False
        self._gave_up = False

    def add(self, ended: Ended) -> None:
        """Take an outcome; it is written with the next commit."""
        if not self._waiting:
            self._all_written.clear()
            self._wake.set()
        self._waiting.append(ended)

    def close(self) -> None:
        """Let `run` return when the last outcome is written."""
        self._closing = True
        self._wake.set()

    async def written(self) -> None:
        """Return when what was added so far is on disk, for tests that then look at it."""
        await self._all_written.wait()

    async def run(self) -> None:
        """Write outcomes until `close` is called and none waits."""
        while True:
            batch, self._waiting = self._waiting, []
            if batch:
                await self._write(batch)
                continue
            self._all_written.set()
            if self._closing:
                return
            self._wake.clear()
            await self._wake.wait()

    async def _write(self, batch: list[Ended]) -> None:
        rows = [self._settlement(ended) for ended in batch]
        settled = await self._insist(rows)
        if self._gave_up:
            self._leave_word(batch)
        else:
            self._clear([ended.mark for ended in batch if ended.mark is not None])
        told = self._hooks.hear_of_success
        for ended, row in zip(batch, rows, strict=True):
            if (told or row.state is not JobState.SUCCEEDED) and row.id in settled:
                self._tell(ended, row)
        ended_ids = [
            row.id
            for row in rows
            if row.id in settled and (row.state is not JobState.QUEUED or settled[row.id])
        ]
        queued = [row.due_at or 0.0 for row in rows if row.state is JobState.QUEUED]
        leaders = any(row.leads for row in rows)
        self._hooks.settled(ended_ids)
        if queued or leaders:
            self._hooks.queued(min(queued, default=0.0))

    def _settlement(self, ended: Ended) -> Settlement:
        attempt = ended.attempt
        job, outcome = attempt.job, ended.outcome
        times = Times(attempt.started_at, ended.ended_at)
        if isinstance(outcome, Succeeded):
            row = succeeded(job, self._owner, outcome, times, self._keep)
        else:
            row = settlement(job, self._owner, outcome, times, self._retention)
        return row if attempt.block is None else noted(row, attempt.block)

    def _leave_word(self, batch: list[Ended]) -> None:
        """What a shutdown has interrupted shall not be taken for what a death has."""
        for ended in batch:
            if ended.mark is not None and isinstance(ended.outcome, Interrupted):
                with contextlib.suppress(StoreUnavailableError):
                    self._marks.annotate(ended.mark, INTERRUPTED)

    def _clear(self, marks: list[int]) -> None:
        try:
            self._marks.clear(*marks)
        except StoreUnavailableError as error:
            # It does no harm: the outcome is on disk, and recovery looks at the job first.
            _log.error("mark.not_cleared", error=str(error))

    async def _insist(self, rows: list[Settlement]) -> dict[str, bool]:
        """Write, and if the store cannot just now, write again: an outcome is never dropped."""
        delay = _FIRST_PAUSE
        while True:
            try:
                return await self._store.settle(rows)
            except StoreUnavailableError as error:
                _log.error("store.unavailable", error=str(error), outcomes_waiting=len(rows))
            except StoreError as error:
                if len(rows) == 1:
                    return await self._as_failed(rows[0], error)
                # One row that cannot be written costs only itself.
                written: dict[str, bool] = {}
                for row in rows:
                    written |= await self._insist([row])
                return written
            if self._closing and delay >= 1.0:
                # The marks stay: whoever recovers this process sees that they had started.
                self._gave_up = True
                return {}
            await pause(self._clock, delay)
            delay = min(delay * 2, _LONGEST_PAUSE)

    async def _as_failed(self, row: Settlement, error: StoreError) -> dict[str, bool]:
        """The store refuses this very outcome: the job must not look unfinished for that."""
        _log.error("job.not_settled", job_id=row.id, outcome=row.outcome, error=str(error))
        reason = f"Its outcome ({row.outcome}) could not be stored: {error}"
        now = self._clock.now()
        failed = row._replace(
            state=JobState.FAILED,
            outcome="failed",
            result=None,
            reason=reason,
            held_for=None,
            error=AttemptError("StoreError", reason),
            finished_at=now,
            prune_at=now + self._retention.keep("failed"),
        )
        try:
            return dict.fromkeys(await self._store.settle([failed]), True)
        except StoreError as second:
            _log.error("job.not_settled", job_id=row.id, outcome="failed", error=str(second))
            # The marks stay, so that nobody takes the job for one that never started.
            self._gave_up = True
            return {}

    def _tell(self, ended: Ended, row: Settlement) -> None:
        job = ended.attempt.job
        details: dict[str, object] = {"duration": ended.ended_at - ended.attempt.started_at}
        if row.reason:
            details["reason"] = row.reason
        if row.due_at is not None:
            details["delay"] = row.due_at - ended.ended_at
        if row.error is not None:
            details["error_type"] = row.error.type
            details["traceback"] = row.error.traceback
        name = EVENT_OF[type(ended.outcome)]
        event = JobEvent(name, job.id, job.task, job.attempt, job.request_id, details)
        self._hooks.observe(self._hooks.masked(event, job.args))
