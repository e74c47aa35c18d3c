"""The worker: claims what is due while there are free slots, and attempts it.

What lives here: the claim loop, the slots, and the attempts that run now. What does not: an
attempt's inside, or the writing of outcomes. Owned by the runner.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import structlog

from embedded_tasks.attempt import Attempt, Ports, Stop
from embedded_tasks.clock import Timer
from embedded_tasks.context import Original
from embedded_tasks.errors import StoreError
from embedded_tasks.job import ClaimedJob, Outcome, RetryLater
from embedded_tasks.known_tasks import KnownTasks
from embedded_tasks.processes import INTERRUPTED, TIMED_OUT
from embedded_tasks.slots import Slots
from embedded_tasks.store import Claim, ClaimResult, Store

__all__ = ["Worker", "WorkerHooks"]

_log = structlog.get_logger("embedded_tasks")

_LONGEST_SLEEP = 30.0
_MOST_AHEAD = 200
_STALE_AFTER = 0.05
_PAUSE_AFTER_ERROR = 1.0


class Marks(Protocol):
    """Where started attempts are written down, so that a crash can be told from a queue."""

    def mark(self, job_id: bytes, attempt: int) -> int:
        """Write that an attempt starts now."""
        ...

    def annotate(self, slot: int, flags: int) -> None:
        """Add flags to a mark."""
        ...


@dataclass(frozen=True, slots=True)
class WorkerHooks:
    """Who is told.

    Args:
        ended: Gets each attempt with its outcome and its mark.
        expired: Gets the ids of jobs that expired while they waited.
        stuck: Gets each attempt whose function goes on although it was given up.
    """

    ended: Callable[[Attempt, Outcome, int | None], None]
    expired: Callable[[list[str]], None]
    stuck: Callable[[Attempt], None]


@dataclass(slots=True)
class _Running:
    attempt: Attempt
    mark: int
    kind: bool
    first: asyncio.Future[tuple[Outcome, BaseException | None]] | None
    postponed: Outcome | None = None


@dataclass(slots=True)
class _Lane:
    """What one kind of function has: slots, jobs claimed ahead of a slot, and how fast it goes."""

    slots: Slots
    ready: deque[ClaimedJob] = field(default_factory=deque)
    ended: int = 0
    due: bool = True


@dataclass(slots=True)
class _Want:
    """What one claim asks for: slots that were taken for it, and jobs that it may bring."""

    kind: bool
    places: int
    limit: int
    taken: int = 0


class Worker:
    """Runs jobs.

    Args:
        store: Where jobs are claimed.
        owner: This process.
        tasks: The tasks that this process knows.
        ports: What each attempt needs.
        marks: The process file.
        sizes: How many async and how many sync attempts may run at once.
        hooks: Who is told.
    """

    def __init__(
        self,
        store: Store,
        owner: str,
        tasks: KnownTasks,
        ports: Ports,
        *,
        marks: Marks,
        sizes: tuple[int, int],
        hooks: WorkerHooks,
    ) -> None:
        self._store = store
        self._owner = owner
        self._tasks = tasks
        self._ports = ports
        self._marks = marks
        self._hooks = hooks
        self._lanes = {True: _Lane(Slots(sizes[0])), False: _Lane(Slots(sizes[1]))}
        self._running: dict[str, _Running] = {}
        self._lingering: dict[str, _Running] = {}
        self._wake = asyncio.Event()
        self._timer: Timer | None = None
        self._stale: Timer | None = None
        self._look = False
        self._stopping = True
        self._idle = asyncio.Event()

    # What others ask.

    @property
    def running(self) -> int:
        """How many attempts run now."""
        return len(self._running)

    @property
    def lingering(self) -> int:
        """How many functions go on although their attempt was given up."""
        return len(self._lingering)

    def sizes(self) -> dict[str, int]:
        """Return the slots of each kind."""
        return {"async": self._lanes[True].slots.size, "sync": self._lanes[False].slots.size}

    def open(self) -> None:
        """Start taking jobs."""
        self._stopping = False
        self.wake()

    def wake(self) -> None:
        """Look for due jobs now."""
        self._look = True
        for lane in self._lanes.values():
            lane.due = True
        self._wake.set()

    def wake_at(self, when: float) -> None:
        """Look for due jobs at this time, if not earlier."""
        delay = when - self._ports.clock.now()
        if delay <= 0:
            self.wake()
        elif not self._stopping:
            self._set_timer(delay)

    def take_slot(self, is_async: bool) -> bool:
        """Take a slot for a job that is about to be stored, unless others have waited longer."""
        lane = self._lanes[is_async]
        return not (self._stopping or lane.due or lane.ready) and lane.slots.take() == 1

    def give_slot_back(self, is_async: bool) -> None:
        """Give back a slot that was not used."""
        self._slot_is_free(is_async)

    async def wait_for_slot(self, is_async: bool) -> None:
        """Wait for a slot and take it."""
        await self._lanes[is_async].slots.wait()

    def start(
        self, job: ClaimedJob, original: Original | None, *, is_async: bool, watched: bool = False
    ) -> asyncio.Future[tuple[Outcome, BaseException | None]] | None:
        """Start an attempt; its slot has been taken. The future tells its end, where asked for."""
        future = asyncio.get_running_loop().create_future() if watched else None
        mark = self._marks.mark(UUID(job.id).bytes, job.attempt)
        attempt = Attempt(job, self._ports, original, self._ended, self._returned_late)
        self._running[job.id] = _Running(attempt, mark, is_async, future)
        attempt.start()
        return future

    def cancel(self, job_id: str, reason: str) -> bool | None:
        """Tell a running job to stop; return whether it can be made to, or None if not here."""
        running = self._running.get(job_id)
        if running is None:
            return None
        running.attempt.stop(Stop.CANCELLED, reason)
        return running.attempt.interruptible

    # The loop.

    async def run(self) -> None:
        """Claim and attempt until `stop` is called."""
        while not self._stopping:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._claim()
            except StoreError as error:
                _log.error("worker.claim_failed", error=str(error))
                self._set_timer(_PAUSE_AFTER_ERROR)

    async def _claim(self) -> None:
        look, self._look = self._look, False
        wanted = self._wanted()
        if not wanted and not look:
            return
        claim = Claim(
            self._owner,
            self._ports.clock.now(),
            [(self._tasks.numbers(want.kind), want.limit) for want in wanted],
            self._tasks.names,
            self._tasks.seen,
        )
        try:
            result = await self._store.claim(claim)
        except BaseException:
            for want in wanted:
                self._lanes[want.kind].due = True
                self._lanes[want.kind].slots.give_back(want.places)
            raise
        self._start_claimed(result, wanted)
        await self._after_claim(result)

    def _wanted(self) -> list[_Want]:
        """Take the free slots of every lane that may have due jobs."""
        wanted = []
        for kind, lane in self._lanes.items():
            if not lane.due:
                continue
            if not self._tasks.numbers(kind):
                lane.due = False
                continue
            places = lane.slots.take(lane.slots.size)
            ahead = max(0, min(lane.ended, _MOST_AHEAD) - len(lane.ready))
            lane.ended = 0
            if places + ahead:
                lane.due = False
                wanted.append(_Want(kind, places, places + ahead))
        return wanted

    def _start_claimed(self, result: ClaimResult, wanted: list[_Want]) -> None:
        by_kind = {want.kind: want for want in wanted}
        for job in result.jobs:
            kind = self._tasks.is_async(job.task)
            want = by_kind[kind]
            want.taken += 1
            if want.taken <= want.places:
                self.start(job, None, is_async=kind)
            else:
                self._lanes[kind].ready.append(job)
        for want in wanted:
            # A full answer: there may be more, and the next free slot asks again.
            self._lanes[want.kind].due |= want.taken == want.limit
            for _ in range(want.places - want.taken):
                self._slot_is_free(want.kind)
        if any(lane.ready for lane in self._lanes.values()):
            self._arm_stale()

    async def _after_claim(self, result: ClaimResult) -> None:
        if result.expired:
            self._hooks.expired(result.expired)
        if result.wake_at is not None:
            self.wake_at(result.wake_at)
        if result.new_tasks and await self._tasks.learn(result.new_tasks):
            self.wake()
        if any(lane.due and lane.slots.free for lane in self._lanes.values()):
            self._wake.set()

    def _set_timer(self, delay: float) -> None:
        # Capped, because the wall clock may jump while we sleep.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._ports.clock.call_later(min(delay, _LONGEST_SLEEP), self.wake)

    # Claimed ahead: no longer than it takes to see that the slots stay taken.

    def _arm_stale(self) -> None:
        if self._stale is None:
            self._stale = self._ports.clock.call_later(_STALE_AFTER, self._release_stale)

    def _release_stale(self) -> None:
        self._stale = None
        ids: list[str] = []
        for lane in self._lanes.values():
            if lane.ready and lane.ended == 0:
                ids.extend(job.id for job in lane.ready)
                lane.ready.clear()
                lane.due = True
            elif lane.ready:
                self._arm_stale()
        if ids:
            self._hand_back = asyncio.create_task(self._release(ids))

    async def _release(self, ids: list[str]) -> None:
        try:
            await self._store.release(ids, self._owner)
        except StoreError as error:
            # They stay ours, unstarted; the next start of this file's processes finds them.
            _log.error("worker.release_failed", jobs=len(ids), error=str(error))

    # The ends.

    def _slot_is_free(self, kind: bool) -> None:
        lane = self._lanes[kind]
        if lane.ready and not self._stopping:
            self.start(lane.ready.popleft(), None, is_async=kind)
            return
        lane.slots.give_back()
        if lane.due:
            self._wake.set()

    def _ended(self, attempt: Attempt, outcome: Outcome) -> None:
        running = self._running.pop(attempt.job.id)
        if attempt.abandoned:
            self._lingering[attempt.job.id] = running
            self._hooks.stuck(attempt)
        if attempt.abandoned and isinstance(outcome, RetryLater):
            # It must not run twice at once: the retry waits for the function's real end.
            running.postponed = outcome
            self._marks.annotate(running.mark, TIMED_OUT)
        else:
            self._hooks.ended(attempt, outcome, running.mark)
        if running.first is not None and not running.first.done():
            running.first.set_result((outcome, attempt.error))
        lane = self._lanes[running.kind]
        lane.ended += 1
        if not self._running:
            self._idle.set()
        self._slot_is_free(running.kind)

    def _returned_late(self, attempt: Attempt) -> None:
        running = self._lingering.pop(attempt.job.id, None)
        if running is not None and running.postponed is not None:
            self._hooks.ended(attempt, running.postponed, running.mark)

    # The end of it all.

    def still_runs(self) -> int:
        """Return how many functions run, those included whose attempt was given up."""
        return len(self._running) + len(self._lingering)

    def is_full(self) -> bool:
        """Return whether a kind of job would have to wait here."""
        return any(not lane.slots.free for lane in self._lanes.values())

    async def stop(self, grace: float) -> None:
        """Claim no more, let attempts end, then interrupt what can be interrupted.

        Args:
            grace: Seconds that running attempts have to end by themselves.
        """
        self._stopping = True
        self._wake.set()
        for timer in (self._timer, self._stale):
            if timer is not None:
                timer.cancel()
        ahead = [job.id for lane in self._lanes.values() for job in lane.ready]
        for lane in self._lanes.values():
            lane.ready.clear()
        if ahead:
            await self._release(ahead)
        await self._wait_for_end(grace)
        for running in list(self._running.values()):
            running.attempt.stop(Stop.SHUTDOWN)
        await self._wait_for_end(self._ports.patience * 1.5, only_async=True)
        for running in (*self._running.values(), *self._lingering.values()):
            self._marks.annotate(running.mark, INTERRUPTED)

    async def _wait_for_end(self, limit: float, *, only_async: bool = False) -> None:
        deadline = self._ports.clock.monotonic() + limit
        while any(not only_async or running.kind for running in self._running.values()):
            left = deadline - self._ports.clock.monotonic()
            if left <= 0:
                return
            self._idle.clear()
            timer = self._ports.clock.call_later(min(left, 0.1), self._idle.set)
            await self._idle.wait()
            timer.cancel()
