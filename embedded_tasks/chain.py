"""The jobs of one request, in their order: each starts when the first attempt before it has ended.

What lives here: reserved jobs from the end of their request to their start. What does not: how
they are attempted. Owned by the session, called by the adapter through the runner.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from embedded_tasks.clock import Clock
from embedded_tasks.context import Original
from embedded_tasks.enqueue import Reserved
from embedded_tasks.errors import StoreError
from embedded_tasks.job import ClaimedJob, Failed
from embedded_tasks.releases import Releases
from embedded_tasks.running import FirstEnd
from embedded_tasks.store import Store

__all__ = ["Chains", "Workplace"]

_log = structlog.get_logger("embedded_tasks")


class Workplace(Protocol):
    """The worker, as a chain needs it."""

    def take_slot(self, is_async: bool) -> bool:
        """Take a slot if one is free."""
        ...

    def give_slot_back(self, is_async: bool) -> None:
        """Give back a slot that was not used."""
        ...

    async def wait_for_slot(self, is_async: bool) -> bool:
        """Wait for a slot and take it; return False where there will be none."""
        ...

    def start(
        self, job: ClaimedJob, original: Original | None, *, is_async: bool, watched: bool = False
    ) -> FirstEnd | None:
        """Start an attempt in a slot that was taken."""
        ...

    def line_up(self, job: ClaimedJob, original: Original | None, *, is_async: bool) -> bool:
        """Start an attempt as soon as a slot is free; return whether it may wait for one here."""
        ...


class Chains:
    """Starts the reserved jobs of requests, or gives them to everybody when the slots are full.

    Args:
        worker: Where they run.
        store: Where they are.
        owner: This process.
        clock: Where the time comes from.
        stored: Told the due time of jobs that now wait for whoever is free.
        ended: Told the ids of jobs that were cancelled before they could start.
    """

    def __init__(
        self,
        worker: Workplace,
        store: Store,
        owner: str,
        clock: Clock,
        *,
        stored: Callable[[float], None],
        ended: Callable[[list[str]], None],
    ) -> None:
        self._worker = worker
        self._store = store
        self._owner = owner
        self._clock = clock
        self._releases = Releases(
            store, owner, clock, cancelled=ended, released=lambda: stored(0.0)
        )
        self.is_paused: Callable[[str], bool] = lambda _queue: False
        """Tells whether the jobs of a queue may not start."""
        self._chains: set[asyncio.Task[BaseException | None]] = set()
        self._closing = False
        self._expected: set[str] = set()

    def expect(self, jobs: Sequence[Reserved]) -> None:
        """Remember jobs whose request has not ended yet."""
        ids = [reserved.job.id for reserved in jobs]
        if self._closing:
            # They were being stored as the work ended.
            self._releases.add(ids)
        else:
            self._expected.update(ids)

    def start(self, jobs: Sequence[Reserved]) -> None:
        """Start these jobs in their order; the request has ended."""
        jobs = self._still_here(jobs)
        if not jobs:
            return
        first = jobs[0]
        if self._closing or self.is_paused(first.job.queue) or not self._take(jobs):
            self._releases.add(reserved.job.id for reserved in jobs)

    def _take(self, jobs: Sequence[Reserved]) -> bool:
        """Start these jobs here, a single one as soon as it can be; return whether they may."""
        first = jobs[0]
        if len(jobs) == 1 and first.begun:
            return self._worker.line_up(first.job, first.original, is_async=first.is_async)
        has_slot = self._worker.take_slot(first.is_async)
        if has_slot:
            self._chains.add(self._follow(jobs, has_slot=True, stay=False))
        return has_slot

    async def run(self, jobs: Sequence[Reserved]) -> BaseException | None:
        """Run these jobs here, waiting for slots, and return when all first attempts have ended.

        Returns:
            The first error that will not be retried, if there was one.
        """
        jobs = self._still_here(jobs)
        if not jobs:
            return None
        return await asyncio.shield(self._follow(jobs, has_slot=False, stay=True))

    async def close(self) -> None:
        """Start no more, and give what has not started to everybody."""
        self._closing = True
        # Requests that have not ended: their jobs have not started, and others may have them.
        self._releases.close()
        self._releases.add(self._expected)
        self._expected.clear()
        for chain in self._chains:
            chain.cancel()
        await asyncio.gather(*self._chains, return_exceptions=True)
        await self._releases.written()

    def _still_here(self, jobs: Sequence[Reserved]) -> list[Reserved]:
        """Return the jobs that were not given away when the work ended before their request."""
        here = [reserved for reserved in jobs if reserved.job.id in self._expected]
        self._expected.difference_update(reserved.job.id for reserved in here)
        return here

    def _follow(
        self, jobs: Sequence[Reserved], *, has_slot: bool, stay: bool
    ) -> asyncio.Task[BaseException | None]:
        task = asyncio.create_task(self._run(jobs, has_slot, stay), name="embedded_tasks chain")
        self._chains.add(task)
        task.add_done_callback(self._chains.discard)
        return task

    async def _run(
        self, jobs: Sequence[Reserved], has_slot: bool, stay: bool
    ) -> BaseException | None:
        left = list(jobs)
        first_error: BaseException | None = None
        try:
            while left:
                if not has_slot and not await self._get_slot(left[0], stay):
                    break
                has_slot = False
                if not await self._begin(left[0]):
                    left.pop(0)
                    continue
                first = left.pop(0)
                end = self._worker.start(
                    first.job, first.original, is_async=first.is_async, watched=True
                )
                if end is None:
                    # It went back unstarted, and those behind it keep their place.
                    break
                outcome, error = await end
                if isinstance(outcome, Failed) and first_error is None:
                    first_error = error
        except StoreError as error:
            _log.error("job.not_begun", job_id=left[0].job.id, error=str(error))
        finally:
            if left:
                self._releases.add(reserved.job.id for reserved in left)
        return first_error

    async def _get_slot(self, job: Reserved, stay: bool) -> bool:
        is_async = job.is_async
        if self.is_paused(job.job.queue):
            return False
        if stay:
            return await self._worker.wait_for_slot(is_async)
        return self._worker.take_slot(is_async)

    async def _begin(self, reserved: Reserved) -> bool:
        """Let the turn of a job come, for which a slot was taken; False if it is not ours now."""
        if reserved.begun:
            return True
        ids, began = [reserved.job.id], set[str]()
        try:
            began = await self._store.begin(ids, self._owner, self._clock.now())
        finally:
            if not began:
                self._worker.give_slot_back(reserved.is_async)
        return bool(began)
