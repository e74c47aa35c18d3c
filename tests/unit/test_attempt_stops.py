"""An attempt that is told to stop: by its timeout, its end of time, a person, or a shutdown.

What lives here: what the function sees, what comes of it, and when the slot is free again. What
does not: what the worker does then (`test_running.py`). Called by pytest.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from embedded_tasks.attempt import Attempt, Stop
from embedded_tasks.config import TaskOptions
from embedded_tasks.context import JobContext
from embedded_tasks.job import (
    Cancelled,
    Expired,
    Failed,
    Interrupted,
    Outcome,
    RetryLater,
    Succeeded,
)
from tests.support.attempts import Bench, bench
from tests.support.jobs import NOW
from tests.support.tasks import look_until_told

pytestmark = pytest.mark.anyio

TIMED: TaskOptions = {"timeout": 30, "max_attempts": 2, "backoff": [5]}


@pytest.fixture
async def on() -> AsyncIterator[Bench]:
    async with bench() as on:
        yield on


class Async:
    """An async function that waits, and does what it is told when it is cancelled."""

    def __init__(self, when_cancelled: str = "obeys") -> None:
        self.when_cancelled = when_cancelled
        self.started = asyncio.Event()
        self.go_on = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self) -> str:
        self.started.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            if self.when_cancelled == "obeys":
                raise
            if self.when_cancelled == "fails":
                raise ValueError("while cleaning up") from None
            if self.when_cancelled == "cleans up":
                await self.go_on.wait()
                raise
            if self.when_cancelled == "refuses":
                await self.go_on.wait()
        return "done"


class Sync:
    """A sync function that blocks its thread until it is let go."""

    def __init__(self, *, listens: bool = False) -> None:
        self.listens = listens
        self.go_on = threading.Event()
        self.started = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, ctx: JobContext) -> str:
        self._loop.call_soon_threadsafe(self.started.set)
        if self.listens:
            look_until_told(ctx)
        self.go_on.wait()
        return f"stopping={ctx.stopping}"


async def started(on: Bench, function: Async | Sync, **more: Any) -> Attempt:
    attempt = on.start(function, **more)
    await function.started.wait()
    return attempt


# Timeouts.


async def test_an_async_function_is_cancelled_at_its_timeout_and_tried_again(on: Bench) -> None:
    function = Async()
    await started(on, function, options=TIMED)
    on.clock.advance(29.999)
    await asyncio.sleep(0)
    assert not function.cancelled.is_set()
    on.clock.advance(0.001)
    outcome = await on.outcome()
    assert function.cancelled.is_set()
    assert isinstance(outcome, RetryLater)
    assert (outcome.delay, outcome.error.type) == (5.0, "TimeoutError")
    assert outcome.error.message == "no end after 30 s."


async def test_a_function_that_ends_in_time_leaves_no_timer(on: Bench) -> None:
    function = Async()
    await started(on, function, options=TIMED, finish_by=NOW + 100)
    assert on.clock.waits == [30, 100]
    function.go_on.set()
    assert isinstance(await on.outcome(), Succeeded)
    assert on.clock.waits == []


async def test_the_timeout_counts_from_the_start_and_not_from_the_claim(on: Bench) -> None:
    function = Async()
    attempt = on.attempt(function, options=TIMED)
    on.clock.advance(1000)
    attempt.start()
    assert on.clock.waits == [30]
    on.clock.advance(30)
    await on.outcome()


TIMEOUTS: list[tuple[TaskOptions, type]] = [
    ({"max_attempts": 2}, RetryLater),
    ({"max_attempts": 1}, Failed),
    ({"max_attempts": 2, "retry_on": [TimeoutError]}, RetryLater),
    ({"max_attempts": 2, "retry_on": [ConnectionError]}, Failed),
    ({"max_attempts": 2, "give_up_on": [TimeoutError]}, Failed),
]


@pytest.mark.parametrize(("options", "kind"), TIMEOUTS)
async def test_a_timeout_is_a_timeout_error_to_the_policy(
    on: Bench, options: TaskOptions, kind: type
) -> None:
    await started(on, Async(), options={"timeout": 30, **options})
    on.clock.advance(30)
    outcome = await on.outcome()
    assert type(outcome) is kind
    assert isinstance(outcome, RetryLater | Failed)
    assert outcome.error is not None
    assert outcome.error.type == "TimeoutError"


async def test_what_a_function_raises_while_it_is_cancelled_is_its_error(on: Bench) -> None:
    await started(on, Async("fails"), options=TIMED)
    on.clock.advance(30)
    outcome = await on.outcome()
    assert isinstance(outcome, RetryLater)
    assert outcome.error.message == "while cleaning up"


async def test_a_value_in_spite_of_the_timeout_is_a_value(on: Bench) -> None:
    function = Async("returns")
    await started(on, function, options=TIMED)
    on.clock.advance(30)
    assert isinstance(await on.outcome(), Succeeded)


async def test_a_function_may_clean_up_within_the_patience(on: Bench) -> None:
    function = Async("cleans up")
    attempt = await started(on, function, options=TIMED)
    on.clock.advance(30)
    await function.cancelled.wait()
    on.clock.advance(1.999)
    assert on.ends == []
    function.go_on.set()
    assert isinstance(await on.outcome(), RetryLater)
    assert not attempt.abandoned


async def test_a_function_that_swallows_its_cancellation_is_given_up(on: Bench) -> None:
    function = Async("refuses")
    attempt = await started(on, function, options=TIMED)
    on.clock.advance(30)
    await function.cancelled.wait()
    on.clock.advance(2)
    (outcome,) = on.ends
    assert attempt.abandoned
    assert isinstance(outcome, RetryLater)
    assert "ignores it and still runs" in outcome.error.message
    assert "go_on.wait()" in (outcome.error.traceback or "")
    assert on.late == []
    function.go_on.set()
    await on.returned_late()
    assert on.late == [attempt]
    assert len(on.ends) == 1


async def test_a_thread_is_told_at_its_timeout_and_given_up_at_once(on: Bench) -> None:
    function = Sync()
    attempt = await started(on, function, options=TIMED)
    assert not attempt.interruptible
    on.clock.advance(30)
    (outcome,) = on.ends
    assert attempt.abandoned
    assert isinstance(outcome, RetryLater)
    assert "in __call__" in (outcome.error.traceback or "")
    assert on.threads.busy == 1
    function.go_on.set()
    await on.returned_late()
    assert on.threads.busy == 0
    assert len(on.ends) == 1


async def test_a_new_call_does_not_wait_for_a_thread_that_was_given_up(on: Bench) -> None:
    function = Sync()
    await started(on, function, options=TIMED)
    on.clock.advance(30)
    async with bench() as other:
        other.threads = on.threads
        assert isinstance(await other.run(lambda: 5), Succeeded)
    function.go_on.set()
    await on.returned_late()


# The end of the job's time.


@pytest.mark.parametrize("kind", [Async, Sync])
async def test_a_job_whose_time_passes_while_it_runs_expires(on: Bench, kind: type) -> None:
    function = kind()
    attempt = await started(on, function, options=TIMED, finish_by=NOW + 10)
    on.clock.advance(10)
    outcome = await on.outcome()
    assert isinstance(outcome, Expired)
    assert "finish_within" in outcome.reason
    assert attempt.abandoned is (kind is Sync)
    function.go_on.set()


async def test_the_start_of_a_job_is_enough_for_start_within(on: Bench) -> None:
    function = Async()
    await started(on, function, start_by=NOW + 10)
    on.clock.advance(100)
    function.go_on.set()
    assert isinstance(await on.outcome(), Succeeded)


# Cancelling.


async def test_an_async_function_is_cancelled_with_the_reason(on: Bench) -> None:
    attempt = await started(on, Async())
    assert attempt.interruptible
    attempt.stop(Stop.CANCELLED, "a duplicate")
    assert await on.outcome() == Cancelled("a duplicate")
    assert attempt.stop_reason is Stop.CANCELLED


async def test_a_cancellation_without_a_reason_has_one(on: Bench) -> None:
    attempt = await started(on, Async())
    attempt.stop(Stop.CANCELLED)
    assert await on.outcome() == Cancelled("It was cancelled while it ran.")


async def test_a_sync_function_that_listens_stops(on: Bench) -> None:
    function = Sync(listens=True)
    attempt = await started(on, function)
    attempt.stop(Stop.CANCELLED, "a duplicate")
    assert await on.outcome() == Cancelled("a duplicate")
    function.go_on.set()


async def test_a_sync_function_that_does_not_listen_comes_to_its_own_end(on: Bench) -> None:
    function = Sync()
    attempt = await started(on, function)
    attempt.stop(Stop.CANCELLED)
    assert on.ends == []
    function.go_on.set()
    outcome = await on.outcome()
    assert isinstance(outcome, Succeeded)
    assert "stopping=True" in (outcome.result or "")


@pytest.mark.parametrize("limit", ["timeout", "finish_by"])
async def test_a_told_thread_that_goes_on_is_given_up_when_its_time_is_over(
    on: Bench, limit: str
) -> None:
    function = Sync()
    job: dict[str, Any] = {"options": TIMED} if limit == "timeout" else {"finish_by": NOW + 30}
    attempt = await started(on, function, **job)
    attempt.stop(Stop.CANCELLED, "a duplicate")
    on.clock.advance(30)
    (outcome,) = on.ends
    assert attempt.abandoned
    assert outcome == Cancelled("a duplicate The function ignores it and still runs.")
    function.go_on.set()
    await on.returned_late()


async def test_a_stubborn_async_function_that_was_cancelled_is_given_up(on: Bench) -> None:
    function = Async("refuses")
    attempt = await started(on, function)
    attempt.stop(Stop.CANCELLED, "a duplicate")
    await function.cancelled.wait()
    on.clock.advance(2)
    (outcome,) = on.ends
    assert isinstance(outcome, Cancelled)
    function.go_on.set()
    await on.returned_late()


async def test_the_first_reason_counts(on: Bench) -> None:
    function = Async("cleans up")
    attempt = await started(on, function, options=TIMED, finish_by=NOW + 31)
    attempt.stop(Stop.CANCELLED, "a duplicate")
    await function.cancelled.wait()
    attempt.stop(Stop.SHUTDOWN)
    attempt.stop(Stop.TIMEOUT)
    function.go_on.set()
    assert await on.outcome() == Cancelled("a duplicate")


async def test_an_attempt_that_is_stopped_before_its_start_is_never_called(on: Bench) -> None:
    attempt = on.attempt(lambda: pytest.fail("called"))
    attempt.stop(Stop.CANCELLED, "a duplicate")
    assert on.ends == [Cancelled("a duplicate")]


async def test_a_call_that_has_not_begun_when_it_is_cancelled_does_not_begin(on: Bench) -> None:
    function = Async()
    attempt = on.start(function)
    attempt.stop(Stop.CANCELLED, "a duplicate")
    assert await on.outcome() == Cancelled("a duplicate")
    assert not function.started.is_set()


async def test_stopping_after_the_end_changes_nothing(on: Bench) -> None:
    attempt = on.start(lambda: 5)
    await on.outcome()
    attempt.stop(Stop.CANCELLED)
    assert len(on.ends) == 1
    assert attempt.stop_reason is None


# Shutdown.


async def test_a_shutdown_interrupts_and_charges_nothing(on: Bench) -> None:
    attempt = await started(on, Async(), options=TIMED)
    attempt.stop(Stop.SHUTDOWN)
    assert await on.outcome() == Interrupted()


async def test_a_thread_goes_on_through_a_shutdown(on: Bench) -> None:
    function = Sync()
    attempt = await started(on, function)
    attempt.stop(Stop.SHUTDOWN)
    on.clock.advance(1000)
    assert on.ends == []
    function.go_on.set()
    assert isinstance(await on.outcome(), Succeeded)


async def test_a_listening_thread_is_interrupted_by_a_shutdown(on: Bench) -> None:
    function = Sync(listens=True)
    attempt = await started(on, function)
    attempt.stop(Stop.SHUTDOWN)
    assert await on.outcome() == Interrupted()


async def test_a_stubborn_async_function_is_given_up_at_a_shutdown(on: Bench) -> None:
    function = Async("refuses")
    attempt = await started(on, function)
    attempt.stop(Stop.SHUTDOWN)
    await function.cancelled.wait()
    on.clock.advance(2)
    outcome: Outcome = on.ends[0]
    assert outcome == Interrupted()
    function.go_on.set()
    await on.returned_late()
