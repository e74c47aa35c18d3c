"""A runner whose time a test moves, on a store in memory.

What lives here: `TimedRunner` and `running`, which opens one. What does not: tasks (`tasks.py`).
Called by tests of the whole runner, without HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Unpack, cast

import pytest

from embedded_tasks.clock import Clock
from embedded_tasks.handle import Job
from embedded_tasks.runner import Runner
from embedded_tasks.settings import RunnerOptions
from tests.support.clock import FakeClock
from tests.support.events import Events
from tests.support.tasks import world

__all__ = ["Timed", "TimedRunner", "running"]


class TimedRunner(Runner):
    """A runner with a clock of the test's own.

    Args:
        clock: Its clock.
        path: Its file; by default nothing is kept.
        options: As a runner's.
    """

    def __init__(
        self, clock: FakeClock, path: str = ":memory:", **options: Unpack[RunnerOptions]
    ) -> None:
        self._fake = clock
        super().__init__(path, **options)

    def _make_clock(self) -> Clock:
        return self._fake


class Timed:
    """An open runner, its clock, and what it told."""

    def __init__(self, runner: TimedRunner, clock: FakeClock, events: Events) -> None:
        self.runner = runner
        self.clock = clock
        self.events = events
        self._stack = AsyncExitStack()

    async def open(self, *, run_jobs: bool = True) -> None:
        # Outside test mode, in which the runner would not have the file that the test names.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EMBEDDED_TASKS_TESTING", "0")
            await self._stack.enter_async_context(self.runner.open(run_jobs=run_jobs))
        # The first look at the store is over when this is answered.
        await self.runner.counts()

    async def close(self, *, step: float = 1.0) -> None:
        """Close it, and let the time pass that this takes."""
        closing = asyncio.create_task(self._stack.aclose())
        while not closing.done():
            self.clock.advance(step)
            await asyncio.sleep(0)
        await closing

    async def state(self, job: Job[Any]) -> str:
        return (await self.runner.get(job.id)).state


@asynccontextmanager
async def running(
    path: str = ":memory:", *, run_jobs: bool = True, **options: Unpack[RunnerOptions]
) -> AsyncIterator[Timed]:
    """Run a runner that knows the functions of the tests."""
    world.reset()
    clock, events = FakeClock(), Events()
    values = {"modules": ["tests"], "observers": [events], "synchronous": "OFF", **options}
    timed = Timed(TimedRunner(clock, path, **cast(RunnerOptions, values)), clock, events)
    await timed.open(run_jobs=run_jobs)
    try:
        yield timed
    finally:
        # What a failed test left waiting must not be waited for.
        world.go_on.set()
        world.thread_go_on.set()
        await timed.close()
