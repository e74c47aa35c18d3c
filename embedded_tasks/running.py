"""The attempts that run now in this process.

What lives here: starting them with a mark, telling them to stop, and keeping those whose function
goes on after it was given up. What does not: slots and claims, which are the worker's. Owned by the
worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from embedded_tasks.attempt import Attempt, Ports, Stop
from embedded_tasks.context import Original
from embedded_tasks.ids import id_bytes
from embedded_tasks.job import ClaimedJob, Interrupted, LoopBlock, Outcome, RetryLater
from embedded_tasks.lanes import Ready
from embedded_tasks.processes import INTERRUPTED, TIMED_OUT

__all__ = ["FirstEnd", "Marks", "Running", "RunningHooks"]

_MOST_CANCELLED = 1_000

FirstEnd = asyncio.Future[tuple[Outcome, BaseException | None]]
"""Resolved when an attempt has come to its outcome, with the error that was raised, if any."""


class Marks(Protocol):
    """Where started attempts are written down, so that a crash can be told from a queue."""

    def mark_all(self, starts: Sequence[tuple[bytes, int]]) -> list[int]:
        """Write that attempts start now."""
        ...

    def annotate(self, slot: int, flags: int) -> None:
        """Add flags to a mark."""
        ...


def _nobody() -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True)
class RunningHooks:
    """Who is told.

    Args:
        ended: Gets each attempt with its outcome and its mark, to be settled.
        stuck: Gets each attempt whose function goes on although it was given up.
        started: Called when attempts are about to start.
    """

    ended: Callable[[Attempt, Outcome, int | None], None]
    stuck: Callable[[Attempt], None]
    started: Callable[[], None] = _nobody


@dataclass(slots=True)
class _Entry:
    attempt: Attempt
    mark: int
    freed: Callable[[ClaimedJob], None]
    first: FirstEnd | None
    postponed: Outcome | None = None
    keeps_slot: bool = False


class Running:
    """Attempts by job id.

    Args:
        ports: What each attempt needs.
        marks: The process file.
        hooks: Who is told.
        most_stuck: How many functions that go on although they were given up leave their slot to
            others; those beyond keep it.
    """

    def __init__(
        self, ports: Ports, marks: Marks, hooks: RunningHooks, most_stuck: int = 500
    ) -> None:
        self._ports = ports
        self._most_stuck = most_stuck
        self._marks = marks
        self._hooks = hooks
        self._running: dict[str, _Entry] = {}
        self._lingering: dict[Attempt, _Entry] = {}
        self._changed = asyncio.Event()
        self._cancelled: dict[str, tuple[int, str]] = {}
        self._loop = asyncio.get_running_loop()

    def __len__(self) -> int:
        return len(self._running)

    @property
    def lingering(self) -> int:
        """How many functions go on although their attempt was given up."""
        return len(self._lingering)

    @property
    def slots_kept(self) -> int:
        """How many slots such functions keep, as there are too many of them."""
        return sum(entry.keeps_slot for entry in self._lingering.values())

    def start(
        self,
        job: ClaimedJob,
        original: Original | None,
        freed: Callable[[ClaimedJob], None],
        *,
        watched: bool = False,
    ) -> FirstEnd | None:
        """Start an attempt.

        Args:
            job: A job of this process.
            original: The call's own objects, if they are at hand.
            freed: Called when the attempt has come to its outcome and its slot is free.
            watched: Whether a future for the end is wanted.

        Raises:
            StoreUnavailableError: It could not be written down, so it was not started.
        """
        (mark,) = self._marks.mark_all([(id_bytes(job.id), job.attempt)])
        first = self._loop.create_future() if watched else None
        attempt = Attempt(job, self._ports, original, self._ended, self._returned_late)
        self._start([_Entry(attempt, mark, freed, first)])
        return first

    def start_all(self, jobs: Sequence[Ready], freed: Callable[[ClaimedJob], None]) -> None:
        """Start attempts, all written down by one write before the first of them.

        Raises:
            StoreUnavailableError: It could not be written down, so none was started.
        """
        if not jobs:
            return
        marks = self._marks.mark_all([(id_bytes(job.id), job.attempt) for job, _ in jobs])
        ports, ended, late = self._ports, self._ended, self._returned_late
        self._start(
            [
                _Entry(Attempt(job, ports, original, ended, late), mark, freed, None)
                for (job, original), mark in zip(jobs, marks, strict=True)
            ]
        )

    def _start(self, entries: Sequence[_Entry]) -> None:
        for entry in entries:
            self._running[entry.attempt.job.id] = entry
        # Not before: who watches while attempts run looks for them.
        self._hooks.started()
        for entry in entries:
            attempt = entry.attempt
            if self._cancelled and self._was_cancelled(attempt):
                continue
            attempt.start()

    def _was_cancelled(self, attempt: Attempt) -> bool:
        number, reason = self._cancelled.pop(attempt.job.id, (0, ""))
        if number != attempt.job.attempt:
            return False
        attempt.stop(Stop.CANCELLED, reason)
        return True

    def cancel(self, job_id: str, number: int, reason: str) -> bool | None:
        """Tell a job of this process to stop, even if it has not started yet.

        Args:
            job_id: Its id.
            number: The attempt that is meant; a later one, after a retry by hand, is not.
            reason: Kept with the job.

        Returns:
            Whether it can be made to stop, or None when it has not started.
        """
        entry = self._running.get(job_id)
        if entry is None:
            self._cancelled[job_id] = (number, reason)
            if len(self._cancelled) > _MOST_CANCELLED:
                del self._cancelled[next(iter(self._cancelled))]
            return None
        entry.attempt.stop(Stop.CANCELLED, reason)
        return entry.attempt.interruptible

    def job_of(self, task: asyncio.Task[Any]) -> ClaimedJob | None:
        """Return the job whose function runs in this very task; any thread may ask."""
        attempts = [entry.attempt for entry in list(self._running.values())]
        return next((attempt.job for attempt in attempts if attempt.runs_in(task)), None)

    def blocked(self, job: ClaimedJob, block: LoopBlock) -> None:
        """Keep with an attempt that it blocked the loop; of several times the longest."""
        entry = self._running.get(job.id)
        if entry is not None and entry.attempt.job is job:
            before = entry.attempt.block
            if before is None or before.seconds < block.seconds:
                entry.attempt.block = block

    def _ended(self, attempt: Attempt, outcome: Outcome) -> None:
        entry = self._running.pop(attempt.job.id)
        if attempt.abandoned:
            entry.keeps_slot = len(self._lingering) >= self._most_stuck
            self._lingering[attempt] = entry
            self._hooks.stuck(attempt)
        if attempt.abandoned and isinstance(outcome, RetryLater | Interrupted):
            # It must not run twice at once: the retry waits for the function's real end.
            entry.postponed = outcome
            flag = TIMED_OUT if isinstance(outcome, RetryLater) else INTERRUPTED
            self._marks.annotate(entry.mark, flag)
        else:
            self._hooks.ended(attempt, outcome, entry.mark)
        if entry.first is not None and not entry.first.done():
            entry.first.set_result((outcome, attempt.error))
        self._changed.set()
        if not entry.keeps_slot:
            entry.freed(attempt.job)

    def _returned_late(self, attempt: Attempt) -> None:
        entry = self._lingering.pop(attempt, None)
        if entry is not None and entry.postponed is not None:
            self._hooks.ended(attempt, entry.postponed, entry.mark)
        if entry is not None and entry.keeps_slot:
            entry.freed(attempt.job)

    async def stop(self, grace: float) -> None:
        """Let attempts end, interrupt what can be interrupted, and mark what goes on.

        Args:
            grace: Seconds that they have to end by themselves.
        """
        await self._wait_for_end(grace)
        for entry in list(self._running.values()):
            entry.attempt.stop(Stop.SHUTDOWN)
        await self._wait_for_end(self._ports.patience * 1.5, only_stoppable=True)
        for entry in (*self._running.values(), *self._lingering.values()):
            self._marks.annotate(entry.mark, INTERRUPTED)

    async def _wait_for_end(self, limit: float, *, only_stoppable: bool = False) -> None:
        expired = asyncio.Event()

        def expire() -> None:
            expired.set()
            self._changed.set()

        timer = self._ports.clock.call_later(limit, expire)
        while not expired.is_set() and any(
            entry.attempt.interruptible or not only_stoppable for entry in self._running.values()
        ):
            self._changed.clear()
            await self._changed.wait()
        timer.cancel()
