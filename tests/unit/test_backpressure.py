"""Refusing new jobs while too many wait.

What lives here: counting seldom, refusing exactly, and when to come back. What does not: the answer
over HTTP (`tests/web/test_queue_full.py`). Called by pytest.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from embedded_tasks.backpressure import Backpressure, room_for
from embedded_tasks.errors import ConfigurationError, QueueFullError, StoreUnavailableError
from embedded_tasks.settings import ALL_QUEUES, Settings
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio


@dataclass
class FakeStore:
    """What waits, and how often that was counted."""

    jobs: Counter[str] = field(default_factory=Counter)
    counts: int = 0
    indexed: int = 0
    breaks: bool = False

    @property
    def read(self) -> FakeStore:
        return self

    async def waiting(self, cap: int, queue: str | None = None) -> int:
        self.counts += 1
        await asyncio.sleep(0)
        return min(cap, self.jobs.total() if queue is None else self.jobs[queue])

    async def index_waiting(self) -> None:
        self.indexed += 1

    async def write(self, queues: Sequence[str]) -> None:
        await asyncio.sleep(0)
        if self.breaks:
            raise StoreUnavailableError("full")
        self.jobs.update(queues)


@dataclass
class Process:
    """One process that stores jobs."""

    store: FakeStore
    clock: FakeClock
    limits: Mapping[str, int]
    siblings: int = 0

    def __post_init__(self) -> None:
        room = room_for(self.limits, cast(Any, self.store), self.clock, self)
        assert room is not None
        self.room: Backpressure = room

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(map(str, range(self.siblings)))

    async def add(self, *queues: str) -> None:
        await self.room.store(queues, lambda: self.store.write(queues))

    async def try_to_add(self, *queues: str) -> QueueFullError | None:
        try:
            await self.add(*queues)
        except QueueFullError as error:
            return error
        return None


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_without_a_limit_nothing_stands_in_the_way(store: FakeStore, clock: FakeClock) -> None:
    settings = Settings.of("tasks.db", {})
    assert room_for(settings.max_queued, cast(Any, store), clock, cast(Any, None)) is None


async def test_jobs_are_not_counted_for_each_job(store: FakeStore, clock: FakeClock) -> None:
    process = Process(store, clock, {ALL_QUEUES: 1000})
    for _ in range(400):
        await process.add("default")
    assert store.counts == 1
    clock.advance(1.1)
    await process.add("default")
    assert store.counts == 2


async def test_a_process_alone_never_stores_more_than_the_limit(
    store: FakeStore, clock: FakeClock
) -> None:
    process = Process(store, clock, {ALL_QUEUES: 10})
    answers = await asyncio.gather(*(process.try_to_add("default") for _ in range(50)))
    assert store.jobs.total() == 10
    assert sum(answer is not None for answer in answers) == 40


async def test_the_error_says_which_queue_is_full_and_how_full(
    store: FakeStore, clock: FakeClock
) -> None:
    process = Process(store, clock, {"mail": 2})
    await process.add("mail")
    await process.add("mail")
    error = await process.try_to_add("mail")
    assert error is not None
    assert (error.queue, error.waiting, error.limit) == ("mail", 2, 2)
    assert "Queue 'mail' is full: 2 or more jobs wait, and max_queued allows 2." in str(error)
    assert f"Try again in {error.retry_after} s" in str(error)


async def test_no_more_jobs_are_said_to_wait_than_were_counted(
    store: FakeStore, clock: FakeClock
) -> None:
    store.jobs["mail"] = 31
    error = await Process(store, clock, {"mail": 30}).try_to_add("mail")
    assert error is not None
    assert (error.waiting, error.limit) == (30, 30)
    assert "30 or more jobs wait, and max_queued allows 30." in str(error)


async def test_a_full_queue_does_not_close_the_others(store: FakeStore, clock: FakeClock) -> None:
    process = Process(store, clock, {"mail": 1, ALL_QUEUES: 3})
    await process.add("mail")
    await process.add("other")
    assert await process.try_to_add("mail")
    await process.add("other")
    error = await process.try_to_add("other")
    assert error is not None
    assert error.queue is None
    assert store.indexed == 1


async def test_of_a_request_all_jobs_are_stored_or_none(store: FakeStore, clock: FakeClock) -> None:
    process = Process(store, clock, {ALL_QUEUES: 3})
    await process.add("default", "default")
    assert await process.try_to_add("default", "default")
    assert store.jobs.total() == 2
    await process.add("default")


async def test_what_was_not_written_takes_no_place(store: FakeStore, clock: FakeClock) -> None:
    process = Process(store, clock, {ALL_QUEUES: 1})
    store.breaks = True
    with pytest.raises(StoreUnavailableError):
        await process.add("default")
    store.breaks = False
    await process.add("default")


async def test_there_is_room_again_as_soon_as_jobs_have_left(
    store: FakeStore, clock: FakeClock
) -> None:
    process = Process(store, clock, {ALL_QUEUES: 5})
    for _ in range(5):
        await process.add("default")
    clock.advance(0.05)
    store.jobs["default"] -= 2
    await process.add("default")
    await process.add("default")
    assert await process.try_to_add("default")


async def test_a_flood_of_refusals_does_not_count_each_time(
    store: FakeStore, clock: FakeClock
) -> None:
    process = Process(store, clock, {ALL_QUEUES: 1})
    await process.add("default")
    counts = store.counts
    for _ in range(100):
        assert await process.try_to_add("default")
        clock.advance(0.001)
    assert store.counts - counts <= 6


async def test_one_comes_back_when_a_tenth_will_have_left(
    store: FakeStore, clock: FakeClock
) -> None:
    process = Process(store, clock, {ALL_QUEUES: 1000})
    store.jobs["default"] = 1000
    first = await process.try_to_add("default")
    for _ in range(4):
        # 25 jobs leave in a second, and as many come.
        clock.advance(1.0)
        store.jobs["default"] -= 25
        for _ in range(25):
            await process.add("default")
        assert await process.try_to_add("default")
    later = await process.try_to_add("default")
    clock.advance(1.5)
    nothing_leaves = [await process.try_to_add("default")]
    for _ in range(60):
        clock.advance(1.5)
        nothing_leaves.append(await process.try_to_add("default"))
    assert first is not None
    assert first.retry_after == 5
    assert later is not None
    assert later.retry_after == pytest.approx(4, abs=1)
    assert nothing_leaves[-1] is not None
    assert nothing_leaves[-1].retry_after == 300


async def test_several_processes_exceed_the_limit_by_little_and_not_by_much(
    store: FakeStore, clock: FakeClock
) -> None:
    processes = [Process(store, clock, {ALL_QUEUES: 1000}, siblings=3) for _ in range(4)]
    for _ in range(2000):
        for process in processes:
            await process.try_to_add("default")
        clock.advance(0.001)
    # Four thousand a second come; between two counts, a tenth of a second, four hundred.
    assert 1000 <= store.jobs.total() <= 1400


async def test_whoever_goes_away_does_not_end_the_count_for_others(
    store: FakeStore, clock: FakeClock
) -> None:
    process = Process(store, clock, {ALL_QUEUES: 10})
    first = asyncio.create_task(process.add("default"))
    second = asyncio.create_task(process.add("default"))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert store.jobs.total() == 1
    assert store.counts == 1


async def test_refusals_are_shown_for_a_minute(store: FakeStore, clock: FakeClock) -> None:
    process = Process(store, clock, {ALL_QUEUES: 1})
    await process.add("default")
    assert process.room.problem() is None
    assert await process.try_to_add("default")
    assert "1 or more jobs wait" in (process.room.problem() or "")
    clock.advance(61)
    assert process.room.problem() is None


@pytest.mark.parametrize("wrong", [0, -1, True, "many", 1.5, {"mail": 0}, {"": 5}, {3: 5}])
def test_a_limit_that_is_none_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_queued"):
        Settings.of("tasks.db", {"max_queued": wrong})


def test_a_limit_is_a_number_or_numbers_by_queue() -> None:
    assert Settings.of("tasks.db", {"max_queued": 7}).max_queued == {ALL_QUEUES: 7}
    limits = {"mail": 3, ALL_QUEUES: 9}
    assert Settings.of("tasks.db", {"max_queued": limits}).max_queued == limits
