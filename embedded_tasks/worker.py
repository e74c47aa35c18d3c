"""The worker: claims what is due while there are free slots, and attempts it.

What lives here: the claim loop and the slots. What does not: the attempts themselves, and the
writing of outcomes. Owned by the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from embedded_tasks.attempt import Ports
from embedded_tasks.clock import Alarm, WallAlarm
from embedded_tasks.context import Original
from embedded_tasks.errors import StoreError, StoreUnavailableError
from embedded_tasks.job import SUSPECT_AFTER, ClaimedJob
from embedded_tasks.known_tasks import KnownTasks
from embedded_tasks.lanes import Lane, Ready, Want
from embedded_tasks.releases import Releases
from embedded_tasks.running import FirstEnd, Running
from embedded_tasks.slots import Slots
from embedded_tasks.store import Claim, ClaimResult, Store
from embedded_tasks.suspects import Suspects

__all__ = ["Worker", "WorkerHooks"]

_log = structlog.get_logger("embedded_tasks")

_PATIENCE = 0.05
_PAUSE_AFTER_ERROR = 1.0


@dataclass(frozen=True, slots=True)
class WorkerHooks:
    """Who is told.

    Args:
        ended: Gets the ids of jobs that expired, or were cancelled, while they waited.
        overflow: Called when there is more due than this process has slots for.
    """

    ended: Callable[[list[str]], None]
    overflow: Callable[[], None]


class Worker:
    """Claims jobs and starts them.

    Args:
        store: Where jobs are claimed.
        owner: This process.
        tasks: The tasks that this process knows.
        ports: What each attempt needs; the worker uses its clock.
        running: Where attempts run.
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
        running: Running,
        sizes: tuple[int, int],
        hooks: WorkerHooks,
    ) -> None:
        self._store = store
        self._owner = owner
        self._tasks = tasks
        self._clock = ports.clock
        self.running = running
        self._hooks = hooks
        self._lanes = {
            True: Lane(True, Slots(sizes[0])),
            False: Lane(False, Slots(sizes[1])),
        }
        self._freed = {kind: partial(self._ended, lane) for kind, lane in self._lanes.items()}
        self._wake = asyncio.Event()
        self._next_look = WallAlarm(ports.clock, self._look_now)
        self._patience = Alarm(ports.clock, self._release_late)
        self.suspects: Suspects = Suspects(self._clock, self._acquit, self.wake)
        self._look = False
        self._were_late = False
        self._stopping = True
        self._stopped = False
        self._releases = Releases(
            store, owner, ports.clock, cancelled=hooks.ended, released=self._released
        )
        self._acquittals: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    # What others ask.

    def sizes(self) -> dict[str, int]:
        """Return the slots of each kind."""
        return {"async": self._lanes[True].slots.size, "sync": self._lanes[False].slots.size}

    @property
    def is_stopping(self) -> bool:
        """Whether nothing is claimed any more, or not yet."""
        return self._stopping

    def free(self, is_async: bool) -> int:
        """Return how many slots of a kind are free."""
        return self._lanes[is_async].slots.free

    def standstill(self, is_async: bool) -> float:
        """Return for how many seconds no attempt of a kind has ended."""
        return self._clock.monotonic() - self._lanes[is_async].ended_at

    def is_full(self) -> bool:
        """Return whether a kind of job would have to wait here."""
        return self._stopping or any(not lane.slots.free for lane in self._lanes.values())

    def open(self) -> None:
        """Start taking jobs."""
        self._stopping = False
        for lane in self._lanes.values():
            lane.ended_at = self._clock.monotonic()
        self.wake()

    def wake(self) -> None:
        """Look for due jobs now."""
        self._look = True
        for lane in self._lanes.values():
            lane.due = True
        self._wake.set()

    def wake_at(self, when: float) -> None:
        """Look for due jobs at this time, if not earlier."""
        if when <= self._clock.now():
            self.wake()
        elif not self._stopping:
            self._next_look.set(when)

    def take_slot(self, is_async: bool) -> bool:
        """Take a slot for a job that is about to be stored, unless others have waited longer."""
        lane = self._lanes[is_async]
        return not (self._stopping or lane.due or lane.ready) and lane.slots.take() == 1

    def give_slot_back(self, is_async: bool) -> None:
        """Give back a slot that was not used."""
        lane = self._lanes[is_async]
        lane.slots.give_back()
        if lane.ready:
            self._start_ready_soon(lane)
        elif lane.due and lane.slots.free and not lane.starting:
            self._wake.set()

    def _start_ready_soon(self, lane: Lane) -> None:
        # Soon: what ends or comes in this round of the loop is followed by one write.
        if not lane.starting:
            lane.starting = True
            self._loop.call_soon(self._start_ready, lane)

    async def wait_for_slot(self, is_async: bool) -> bool:
        """Wait for a slot and take it; return False where there will be none."""
        lane = self._lanes[is_async]
        if self._stopping or not lane.slots.size:
            return False
        try:
            await lane.slots.wait()
        except asyncio.CancelledError:
            # The slot that it was about to get may be free now.
            if lane.due:
                self._wake.set()
            raise
        return True

    def start(
        self, job: ClaimedJob, original: Original | None, *, is_async: bool, watched: bool = False
    ) -> FirstEnd | None:
        """Start an attempt in a slot that was taken; the future tells its end, if asked for.

        Where that cannot be written down, or the work has ended, the job goes back unstarted.
        """
        if self._stopped:
            self._releases.add([job.id])
            self._lanes[is_async].slots.give_back()
            return None
        try:
            freed = self._freed[is_async]
            return self.running.start(job, original, freed, watched=watched)
        except StoreUnavailableError as error:
            self._not_started([job], error, self._lanes[is_async])
            return None

    def _not_started(self, jobs: Sequence[ClaimedJob], error: Exception, lane: Lane) -> None:
        for job in jobs:
            _log.error("job.not_started", job_id=job.id, error=str(error))
        self._releases.add([job.id for job in jobs])
        lane.slots.give_back(len(jobs))
        self.wake_at(self._clock.now() + _PAUSE_AFTER_ERROR)

    # The loop.

    async def run(self) -> None:
        """Claim and attempt until `stop` is called."""
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._stopping:
                return
            try:
                await self._claim()
            except StoreError as error:
                _log.error("worker.claim_failed", error=str(error))
                self.wake_at(self._clock.now() + _PAUSE_AFTER_ERROR)

    async def _claim(self) -> None:
        look, self._look = self._look, False
        wanted = [want for lane in self._lanes.values() if (want := self._want(lane))]
        if not (wanted or look):
            return
        claim = Claim(
            self._owner,
            self._clock.now(),
            [(self._tasks.numbers(want.is_async), want.limit) for want in wanted],
            self._tasks.names,
            self._tasks.seen,
            suspects=self.suspects.none_runs and all(want.places for want in wanted),
            no_suspect_before=self.suspects.next_start,
            no_last_chance_before=self.suspects.next_last_chance,
        )
        try:
            result = await self._store.claim(claim)
        except BaseException:
            self._give_back_places(wanted)
            raise
        if self._stopping:
            self._releases.add([job.id for job in result.jobs])
            self._give_back_places(wanted)
            return
        self._start_claimed(result.jobs, wanted)
        if self.suspects.none_runs and not claim.suspects:
            # They were left out because a lane had no slot for one: ask again when it has.
            for want in wanted:
                self._lanes[want.is_async].due = True
        await self._after_claim(result, look=look)

    def _want(self, lane: Lane) -> Want | None:
        if lane.due and not self._tasks.numbers(lane.is_async):
            lane.due = False
        return lane.want()

    def _give_back_places(self, wanted: Sequence[Want]) -> None:
        for want in wanted:
            self._releases.add(self._lanes[want.is_async].claimed(may_be_more=True))
            self._lanes[want.is_async].slots.give_back(want.places)

    def _start_claimed(self, jobs: Sequence[ClaimedJob], wanted: Sequence[Want]) -> None:
        by_kind = {want.is_async: want for want in wanted}
        # Suspects first: what they keep waiting is only other suspects.
        starting: dict[bool, list[Ready]] = {True: [], False: []}
        for job in sorted(jobs, key=lambda job: job.crashes < SUSPECT_AFTER):
            kind = self._tasks.is_async(job.task)
            want = by_kind[kind]
            want.taken += 1
            if job.crashes >= SUSPECT_AFTER:
                self.suspects.started(job.id)
            if want.taken <= want.places:
                starting[kind].append(Ready(job))
            else:
                self._lanes[kind].ready.append(Ready(job))
        for want in wanted:
            # After a full answer there may be more, and the next free slot asks again.
            is_full = want.taken == want.limit
            self._releases.add(self._lanes[want.is_async].claimed(may_be_more=is_full))
            self._start_all(starting[want.is_async], self._lanes[want.is_async])
            if is_full:
                self._hooks.overflow()
            for _ in range(want.places - want.taken):
                self.give_slot_back(want.is_async)
            self._start_ready(self._lanes[want.is_async])

    def _start_ready(self, lane: Lane) -> None:
        """Free slots are for what was claimed ahead of them."""
        lane.starting = False
        if not self._stopping:
            places = lane.slots.take(len(lane.ready))
            self._start_all([lane.ready.popleft() for _ in range(places)], lane)
            self._watch_lines()
            if lane.due and (lane.slots.free or lane.runs_low()):
                self._wake.set()

    def _start_all(self, jobs: Sequence[Ready], lane: Lane) -> None:
        """Start attempts in slots that were taken; see `start`."""
        try:
            self.running.start_all(jobs, self._freed[lane.is_async])
        except StoreUnavailableError as error:
            self._not_started([ready.job for ready in jobs], error, lane)

    async def _after_claim(self, result: ClaimResult, *, look: bool) -> None:
        if result.expired:
            self._hooks.ended(result.expired)
        if result.wake_at is not None:
            self.wake_at(result.wake_at)
        if result.new_tasks and await self._tasks.learn(result.new_tasks):
            self.wake()
        elif look and self._tasks.unknown:
            # What woke us may be one more job of a task that nobody knows.
            await self._tasks.hold()
        if any(lane.due and lane.slots.free for lane in self._lanes.values()):
            self._wake.set()

    def _look_now(self) -> None:
        self.wake()
        if self.is_full():
            self._hooks.overflow()

    def line_up(self, job: ClaimedJob, original: Original | None, *, is_async: bool) -> bool:
        """Start an attempt as soon as a slot is free; return whether it may wait for one here."""
        lane = self._lanes[is_async]
        if self._stopping or not lane.takes():
            return False
        (lane.behind if lane.claiming else lane.ready).append(Ready(job, original))
        if lane.ready and lane.slots.free:
            self._start_ready_soon(lane)
        else:
            self._watch_lines()
        return True

    def _watch_lines(self) -> None:
        if any(lane.ready for lane in self._lanes.values()):
            self._patience.set(_PATIENCE)

    def _release_late(self) -> None:
        for lane in self._lanes.values():
            if ids := lane.late():
                lane.due = self._were_late = True
                self._releases.add(ids)
        self._watch_lines()

    def follow_pauses(self, paused: Container[str]) -> None:
        """No job of these queues starts now, not even one that waits for a slot here."""
        for lane in self._lanes.values():
            self._releases.add(lane.remove(paused))
        self.wake()

    def _released(self) -> None:
        if self._were_late:
            # A claim may have overtaken them, or their task be one that was never claimed here.
            self._were_late = False
            self.wake()
        self._hooks.overflow()

    # Suspects.

    def _acquit(self, job_id: str) -> None:
        task = asyncio.create_task(self._write_acquittal(job_id))
        self._acquittals.add(task)
        task.add_done_callback(self._acquittals.discard)

    async def _write_acquittal(self, job_id: str) -> None:
        try:
            await self._store.acquit(job_id, self._owner)
        except StoreError as error:
            # Its end acquits it too.
            _log.error("job.not_acquitted", job_id=job_id, error=str(error))

    # The ends.

    def _ended(self, lane: Lane, job: ClaimedJob) -> None:
        lane.ended += 1
        lane.ended_at = self._clock.monotonic()
        self.suspects.ended(job.id)
        self.give_slot_back(lane.is_async)

    def drain(self) -> None:
        """Claim no more and give back what has not started; attempts go on."""
        self._stopping = True
        self._releases.close()
        self._store.hurry()
        self._wake.set()
        self.suspects.close()
        self._next_look.cancel()
        self._patience.cancel()
        self._releases.add([id for lane in self._lanes.values() for id in lane.drain()])

    async def stop(self, grace: float) -> None:
        """Drain, let attempts end, and interrupt what has not ended then.

        Args:
            grace: Seconds that running attempts have to end by themselves.
        """
        self.drain()
        await self.running.stop(grace)
        self._stopped = True
        await asyncio.gather(*self._acquittals, return_exceptions=True)
        await self._releases.written()
