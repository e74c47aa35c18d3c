"""The steps of the script that operators and observers take.

What lives here: pausing, running now, deleting, and what is written down beside the jobs. What does
not: what clients and workers do (`script.py`, which calls this).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from embedded_tasks.job import ClaimedJob, NewJob
from embedded_tasks.store import Store
from embedded_tasks.store.steering import Act, Notes, Steering
from tests.crash.points.jobs import say

__all__ = ["Operating"]


class Operating:
    """An operator.

    Args:
        store: Where the jobs are.
        now: The time of the script.
        put: Stores a job for a client.
    """

    def __init__(self, store: Store, now: float, put: Callable[[NewJob], Awaitable[None]]) -> None:
        self._store = store
        self._steering = Steering(store.writer, store._jobs, 5.0)
        self._now = now
        self._put = put

    def _act(self, action: str, target: str) -> Act:
        return Act(self._now, "somebody", action, target)

    async def say_facts(self) -> None:
        assert await self._store.environment("production") == "production"
        await self._store.set_environment("staging")
        # Back, or the next life would wait for somebody to adopt the file.
        await self._store.set_environment("production")
        await self._store.index_waiting()

    async def pause(
        self, job: NewJob, claim: Callable[[int], Awaitable[list[ClaimedJob]]]
    ) -> ClaimedJob:
        """Another queue is paused while a job is claimed."""
        await self._put(job)
        assert await self._steering.pause(self._act("pause", "another"))
        (claimed,) = await claim(1)
        assert await self._steering.resume(self._act("resume", "another"))
        return claimed

    async def note(self, job: ClaimedJob) -> None:
        """What a job that runs says."""
        await self._steering.note(
            Notes(
                progress=[(job.id, 1, 1.0, 2.0, "half", self._now)],
                logs=[(job.id, 1, self._now, "info", "hello", None, 5)],
                metrics=[(60, 0, 60, 1, 0, 1)],
            )
        )
        await self._steering.tidy(self._now, 60.0)

    async def hurry(self, job: NewJob) -> None:
        await self._put(job)
        before = job.due_at - 1
        assert await self._steering.run_now([job.id], self._act("run_now", job.id), before)

    async def delete(self, job: NewJob, key: str) -> None:
        await self._put(job)
        say("cancelling", key)
        await self._store.cancel(job.id, "no need", self._now)
        assert await self._steering.delete([job.id], self._act("delete", job.id))
        say("cancelled", key)
