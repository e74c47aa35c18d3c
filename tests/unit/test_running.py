"""The attempts that run now: marked, freed, abandoned, cancelled, ended.

What lives here: `embedded_tasks/running.py`. What does not: claims and slots (`test_worker.py`).
Called by pytest.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from embedded_tasks.attempt import Attempt
from embedded_tasks.config import TaskOptions
from embedded_tasks.engine import Threads
from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.job import (
    Cancelled,
    ClaimedJob,
    Interrupted,
    Outcome,
    RetryLater,
    Succeeded,
)
from embedded_tasks.processes import INTERRUPTED, TIMED_OUT
from embedded_tasks.running import FirstEnd, Running, RunningHooks
from tests.support.attempts import Bench
from tests.support.jobs import claimed_job, job_id
from tests.support.turns import until
from tests.support.workers import Marks

pytestmark = pytest.mark.anyio

TIMED: TaskOptions = {"timeout": 30, "max_attempts": 3, "backoff": [0]}


class Floor:
    """Running attempts, and what was told of them."""

    def __init__(self, threads: Threads) -> None:
        self.bench = Bench(threads)
        self.marks = Marks()
        self.ended: list[tuple[str, Outcome, int | None]] = []
        self.stuck: list[str] = []
        self.freed: list[str] = []
        self._changed = asyncio.Event()
        hooks = RunningHooks(self._ended, lambda attempt: self.stuck.append(attempt.job.id))
        self.running = Running(self.bench.ports(), self.marks, hooks)

    def start(self, number: int = 1, *, watched: bool = False, **job: object) -> FirstEnd | None:
        claimed = claimed_job(number, **{"task": "shop:0", "args": "[1,[],{}]"} | job)
        return self.running.start(claimed, None, self._freed, watched=watched)

    async def ends(self, count: int = 1) -> list[Outcome]:
        while len(self.ended) < count:
            self._changed.clear()
            await self._changed.wait()
        return [outcome for _, outcome, _ in self.ended]

    def _ended(self, attempt: Attempt, outcome: Outcome, mark: int | None) -> None:
        self.ended.append((attempt.job.id, outcome, mark))
        self._changed.set()

    def _freed(self, job: ClaimedJob) -> None:
        self.freed.append(job.id)


@pytest.fixture
async def on() -> AsyncIterator[Floor]:
    threads = Threads(asyncio.get_running_loop())
    yield Floor(threads)
    threads.close()


class Blocking:
    """An async function that runs until it is let go, and may refuse to be cancelled."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.stubborn = stubborn
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self) -> None:
        self.started.set()
        while not self.go_on.is_set():
            try:
                await self.go_on.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                if not self.stubborn:
                    raise


async def started(on: Floor, block: Blocking, options: TaskOptions | None = None) -> None:
    on.bench.add(block, options)
    on.start()
    await block.started.wait()


async def test_an_attempt_is_marked_before_it_starts_and_told_of_with_its_mark(on: Floor) -> None:
    seen: list[int] = []

    async def look() -> None:
        seen.append(len(on.marks.marks))

    on.bench.add(look)
    on.start(7, attempt=3)
    assert len(on.running) == 1
    await on.ends()
    assert seen == [1]
    assert on.marks.marks == {1: (bytes(15) + b"\7", 3, 0)}
    ((id, outcome, mark),) = on.ended
    assert (id, mark, len(on.running)) == (job_id(7), 1, 0)
    assert isinstance(outcome, Succeeded)


async def test_a_slot_is_free_once_and_after_the_outcome_is_told(on: Floor) -> None:
    on.bench.add(lambda: None)
    on.start()
    await on.ends()
    assert on.freed == [job_id(1)]


async def test_an_attempt_that_cannot_be_marked_is_not_started(on: Floor) -> None:
    on.bench.add(lambda: pytest.fail("called"))
    on.marks.full = True
    with pytest.raises(StoreUnavailableError):
        on.start()
    assert (len(on.running), on.ended, on.freed) == (0, [], [])


async def test_who_watches_is_told_the_outcome_and_the_error(on: Floor) -> None:
    error = ValueError("bad")

    async def fail() -> None:
        raise error

    on.bench.add(fail)
    end = on.start(watched=True)
    assert end is not None
    _, told = await end
    assert told is error
    assert on.start(2) is None


async def test_who_watches_is_told_of_an_end_at_once_too(on: Floor) -> None:
    on.bench.add(lambda: None)
    end = on.start(watched=True, args="[]")
    assert end is not None
    assert end.done()


# Cancelling.


async def test_a_running_attempt_is_cancelled(on: Floor) -> None:
    block = Blocking()
    await started(on, block)
    assert on.running.cancel(job_id(1), 1, "a duplicate") is True
    assert await on.ends() == [Cancelled("a duplicate")]


async def test_a_thread_can_only_be_told(on: Floor) -> None:
    go_on = threading.Event()
    on.bench.add(go_on.wait)
    on.start()
    assert on.running.cancel(job_id(1), 1, "a duplicate") is False
    go_on.set()
    assert isinstance((await on.ends())[0], Succeeded)


async def test_a_job_that_was_cancelled_before_its_start_is_never_called(on: Floor) -> None:
    on.bench.add(lambda: pytest.fail("called"))
    assert on.running.cancel(job_id(1), 1, "a duplicate") is None
    on.start()
    assert await on.ends() == [Cancelled("a duplicate")]
    assert on.freed == [job_id(1)]


async def test_a_cancellation_is_for_the_attempt_that_was_meant(on: Floor) -> None:
    on.bench.add(lambda: 5)
    on.running.cancel(job_id(1), 1, "a duplicate")
    on.start(attempt=2)
    assert isinstance((await on.ends())[0], Succeeded)


async def test_what_is_remembered_of_cancellations_is_bounded(on: Floor) -> None:
    for number in range(20_000):
        on.running.cancel(job_id(number), 1, "a duplicate")
    assert len(on.running._cancelled) <= 10_000


# Given up.


async def test_an_attempt_that_is_given_up_frees_its_slot_and_is_told_of(on: Floor) -> None:
    block = Blocking(stubborn=True)
    await started(on, block, TIMED)
    on.bench.clock.advance(30)
    await block.cancelled.wait()
    on.bench.clock.advance(2)
    assert (on.freed, on.stuck) == ([job_id(1)], [job_id(1)])
    assert (len(on.running), on.running.lingering) == (0, 1)
    block.go_on.set()
    await on.ends()
    assert on.running.lingering == 0


async def test_beyond_the_most_that_may_be_stuck_a_function_keeps_its_slot_until_it_ends(
    on: Floor,
) -> None:
    on.running = Running(on.bench.ports(), on.marks, on.running._hooks, most_stuck=1)
    blocks = [Blocking(stubborn=True), Blocking(stubborn=True)]
    for number, block in enumerate(blocks):
        task = on.bench.add(block, {"timeout": 30})
        on.start(number, task=task)
        await block.started.wait()
    on.bench.clock.advance(30)
    for block in blocks:
        await block.cancelled.wait()
    on.bench.clock.advance(2)
    assert (on.running.lingering, on.running.slots_kept) == (2, 1)
    assert on.freed == [job_id(0)]
    blocks[1].go_on.set()
    await until(lambda: on.freed == [job_id(0), job_id(1)])
    assert (on.running.lingering, on.running.slots_kept) == (1, 0)
    blocks[0].go_on.set()
    await until(lambda: not on.running.lingering)
    assert on.freed == [job_id(0), job_id(1)]


async def test_a_retry_waits_until_the_function_has_really_ended(on: Floor) -> None:
    go_on = threading.Event()
    on.bench.add(go_on.wait, TIMED)
    on.start()
    on.bench.clock.advance(30)
    assert on.freed == [job_id(1)]
    assert on.ended == []
    assert on.marks.flags() == [TIMED_OUT]
    go_on.set()
    (outcome,) = await on.ends()
    assert isinstance(outcome, RetryLater)
    assert on.ended[0][2] == 1


async def test_an_end_for_good_does_not_wait(on: Floor) -> None:
    go_on = threading.Event()
    on.bench.add(go_on.wait, {"timeout": 30})
    on.start()
    on.bench.clock.advance(30)
    assert len(on.ended) == 1
    assert on.running.lingering == 1
    go_on.set()
    await until(lambda: not on.running.lingering)
    assert len(on.ended) == 1


async def test_two_attempts_of_a_job_may_linger_each_for_itself(on: Floor) -> None:
    first, second = threading.Event(), threading.Event()
    on.bench.add(first.wait, {"timeout": 30})
    on.bench.add(second.wait, TIMED)
    on.start()
    on.bench.clock.advance(30)
    # Failed, and retried by hand, while the first thread still runs.
    on.start(task="shop:1", attempt=2)
    on.bench.clock.advance(30)
    assert on.running.lingering == 2
    first.set()
    await until(lambda: on.running.lingering == 1)
    assert len(on.ended) == 1
    second.set()
    outcomes = await on.ends(2)
    assert isinstance(outcomes[1], RetryLater)


# The end of the work.


async def test_attempts_may_end_within_the_grace(on: Floor) -> None:
    block = Blocking()
    await started(on, block)
    stopping = asyncio.create_task(on.running.stop(4.0))
    await asyncio.sleep(0)
    on.bench.clock.advance(3.999)
    await asyncio.sleep(0)
    assert not block.cancelled.is_set()
    block.go_on.set()
    await stopping
    assert isinstance(on.ended[0][1], Succeeded)
    assert on.bench.clock.waits == []


async def test_without_attempts_there_is_nothing_to_wait_for(on: Floor) -> None:
    await on.running.stop(4.0)
    assert on.bench.clock.waits == []


async def test_async_attempts_are_interrupted_after_the_grace(on: Floor) -> None:
    block = Blocking()
    await started(on, block)
    stopping = asyncio.create_task(on.running.stop(4.0))
    await asyncio.sleep(0)
    on.bench.clock.advance(4)
    await stopping
    assert [outcome for _, outcome, _ in on.ended] == [Interrupted()]
    assert on.marks.flags() == [0]


async def test_a_thread_that_goes_on_is_marked_as_interrupted(on: Floor) -> None:
    go_on = threading.Event()
    on.bench.add(go_on.wait)
    on.start()
    stopping = asyncio.create_task(on.running.stop(4.0))
    await asyncio.sleep(0)
    on.bench.clock.advance(4)
    await stopping
    assert (on.ended, len(on.running)) == ([], 1)
    assert on.marks.flags() == [INTERRUPTED]
    go_on.set()
    await on.ends()


async def test_a_stubborn_async_function_is_given_up_and_marked(on: Floor) -> None:
    block = Blocking(stubborn=True)
    await started(on, block)
    stopping = asyncio.create_task(on.running.stop(4.0))
    await asyncio.sleep(0)
    on.bench.clock.advance(4)
    await block.cancelled.wait()
    on.bench.clock.advance(2)
    await stopping
    assert on.ended == []
    assert on.running.lingering == 1
    assert on.marks.flags() == [INTERRUPTED]
    block.go_on.set()
    assert await on.ends() == [Interrupted()]
