"""Retention's loop: it sleeps until something is to be removed, and removes it in batches.

What lives here: `embedded_tasks/pruner.py`. What does not: what is removed
(`tests/store_contract/test_retention.py`). Called by pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.pruner import Pruner
from tests.support.clock import FakeClock
from tests.support.turns import turns

pytestmark = pytest.mark.anyio


class FakeStore:
    """Jobs by the time when they are to be removed."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.batches: list[int] = []
        self.errors: list[Exception] = []
        self.taking: Callable[[], None] = lambda: None
        self.read = self

    async def prune(self, now: float) -> int:
        if self.errors:
            raise self.errors.pop(0)
        old = sorted(time for time in self.times if time <= now)[:500]
        for time in old:
            self.times.remove(time)
        self.batches.append(len(old))
        self.taking()
        return len(old)

    async def next_prune(self) -> float | None:
        return min(self.times, default=None)


class Broom:
    def __init__(self, shortest: float = 100.0) -> None:
        self.clock = FakeClock()
        self.store = FakeStore()
        self.pruner = Pruner(cast(Any, self.store), self.clock, shortest)
        self.loop: asyncio.Task[None] | None = None

    async def quiet(self) -> None:
        if self.loop is None:
            self.loop = asyncio.create_task(self.pruner.run())
        await turns(20)

    def close(self) -> None:
        self.pruner.close()
        if self.loop is not None:
            self.loop.cancel()

    async def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)
        await self.quiet()


@pytest.fixture
async def broom() -> AsyncIterator[Broom]:
    broom = Broom()
    yield broom
    broom.close()


async def test_what_is_old_at_the_start_is_removed_in_batches(broom: Broom) -> None:
    broom.store.times = [broom.clock.now()] * 1200
    await broom.quiet()
    assert broom.store.batches == [500, 500, 200, 0]


@pytest.mark.parametrize(("taken", "rest"), [(0.004, 0.05), (0.02, 0.05)])
async def test_writers_have_nearly_all_of_the_time(broom: Broom, taken: float, rest: float) -> None:
    broom.store.taking = lambda: broom.clock.advance(taken)
    broom.store.times = [broom.clock.now()] * 700
    await broom.quiet()
    assert broom.store.batches == [500]
    assert broom.clock.waits == [pytest.approx(rest)]
    await broom.pass_time(rest + 0.001)
    assert broom.store.batches == [500, 200]


async def test_with_nothing_to_remove_there_is_no_timer(broom: Broom) -> None:
    await broom.quiet()
    assert (broom.store.batches, broom.clock.waits) == ([0], [])
    await broom.pass_time(10**6)
    assert broom.store.batches == [0]


async def test_it_sleeps_until_something_is_old_enough(broom: Broom) -> None:
    broom.store.times = [broom.clock.now() + 50]
    await broom.quiet()
    assert broom.clock.waits == [50]
    await broom.pass_time(49.9)
    assert broom.store.times
    await broom.pass_time(0.1)
    assert broom.store.times == []
    assert broom.clock.waits == []


async def test_jobs_that_finish_later_are_removed_in_their_time(broom: Broom) -> None:
    await broom.quiet()
    broom.store.times = [broom.clock.now() + 100]
    broom.pruner.noticed()
    broom.pruner.noticed()
    assert broom.clock.waits == [100]
    await broom.pass_time(100)
    assert broom.store.times == []


async def test_it_looks_at_least_every_hour_and_at_most_every_second(broom: Broom) -> None:
    await broom.quiet()
    broom.store.times = [broom.clock.now() + 86400]
    broom.pruner.noticed()
    await broom.pass_time(100)
    assert broom.clock.waits == [3600]
    brisk = Broom(shortest=0.0)
    await brisk.quiet()
    brisk.store.times = [brisk.clock.now() + 0.001]
    brisk.pruner.noticed()
    assert brisk.clock.waits == [1.0]
    brisk.close()


async def test_an_error_is_logged_and_it_goes_on_a_minute_later(broom: Broom) -> None:
    broom.store.errors = [StoreUnavailableError("full")]
    broom.store.times = [broom.clock.now()]
    with capture_logs() as lines:
        await broom.quiet()
    assert [line["event"] for line in lines] == ["pruner.failed"]
    assert broom.clock.waits == [60]
    await broom.pass_time(60)
    assert broom.store.times == []


async def test_closing_leaves_no_timer(broom: Broom) -> None:
    broom.store.times = [broom.clock.now() + 50]
    await broom.quiet()
    broom.pruner.close()
    assert broom.clock.waits == []
