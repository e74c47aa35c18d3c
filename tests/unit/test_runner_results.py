"""A job from its enqueuing to its result: what it gives, and what each end without one raises.

What lives here: the runner with its handles, in one process. What does not: opening and closing
(`test_runner_life.py`). Called by pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, assert_type

import pytest

from embedded_tasks.errors import (
    ConfigurationError,
    JobCancelledError,
    JobExpiredError,
    JobFailedError,
    JobHeldError,
    JobNotFoundError,
    JobStateError,
    NotDurableError,
    ResultTimeoutError,
)
from embedded_tasks.events import EventName
from embedded_tasks.handle import CancelAnswer, Job
from embedded_tasks.job import JobState, ShownState
from embedded_tasks.store import JobFilter
from tests.support import tasks
from tests.support.jobs import job_id
from tests.support.runners import Timed, running
from tests.support.stores import write
from tests.support.tasks import world
from tests.support.turns import turns, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def at() -> AsyncIterator[Timed]:
    async with running(concurrency=2) as at:
        yield at


# Results.


async def test_a_result_is_what_the_function_returned(at: Timed) -> None:
    job = await at.runner.enqueue(tasks.send_receipt, 42, to="bob@example.org")
    assert_type(job, Job[str])
    assert await job.result() == "bob@example.org"
    assert world.calls == [(42, "bob@example.org")]
    assert (await job.refresh()).state == "succeeded"


async def test_a_sync_function_has_a_result_too(at: Timed) -> None:
    job = await at.runner.enqueue(tasks.note_sync, 1)
    assert_type(job, Job[int])
    assert await job.result() == 1


async def test_a_result_comes_back_type_for_type(at: Timed) -> None:
    # Where the context does not come first, type checkers cannot take it out.
    function: Any = tasks.want_context
    job = await at.runner.enqueue(function, 5)
    assert await job.result() == {"number": 5, "attempt": 1, "request_id": None}
    assert world.contexts[0].job_id == job.id


async def test_whoever_waits_is_woken_by_the_end(at: Timed) -> None:
    job = await at.runner.enqueue(tasks.wait, "a")
    await world.started.wait()
    waiting = [asyncio.create_task(job.result()) for _ in range(3)]
    await turns()
    assert not any(task.done() for task in waiting)
    world.go_on.set()
    assert [await task for task in waiting] == ["a"] * 3


async def test_a_result_that_is_late_raises_and_the_job_goes_on(at: Timed) -> None:
    job = await at.runner.enqueue(tasks.wait, "a")
    await world.started.wait()
    waiting = asyncio.create_task(job.result(timeout=5))
    await until(lambda: 5.0 in at.clock.waits)
    at.clock.advance(5)
    with pytest.raises(ResultTimeoutError, match="not finished within 5 s") as caught:
        await waiting
    assert (caught.value.job_id, caught.value.timeout) == (job.id, 5.0)
    world.go_on.set()
    assert await job.result() == "a"


async def test_a_result_that_cannot_be_stored_says_so(at: Timed) -> None:
    job = await at.runner.enqueue(tasks.return_odd)
    with pytest.raises(NotDurableError, match="return_odd"):
        await job.result()
    assert (await job.refresh()).state == "succeeded"


async def test_a_job_that_is_not_there_has_no_result(at: Timed) -> None:
    gone: Job[Any] = Job(job_id(7), "shop:send", at.runner)
    with pytest.raises(JobNotFoundError, match=job_id(7)):
        await gone.result()
    for call in (gone.refresh, gone.cancel, gone.retry):
        with pytest.raises(JobNotFoundError):
            await call()


# Ends without a result.


async def test_a_failure_is_raised_with_what_is_known_of_it(at: Timed) -> None:
    world.raises = [ValueError("bad")]
    job = await at.runner.enqueue(tasks.note)
    with pytest.raises(JobFailedError, match="ValueError: bad") as caught:
        await job.result()
    assert (caught.value.error_type, caught.value.job_id) == ("ValueError", job.id)
    assert "in _act" in (caught.value.traceback or "")


async def test_a_cancelled_job_says_why(at: Timed) -> None:
    job = await at.runner.options(delay=60).enqueue(tasks.note)
    waiting = asyncio.create_task(job.result())
    await at.runner.counts()
    assert await job.cancel(reason="a duplicate") is CancelAnswer.CANCELLED
    with pytest.raises(JobCancelledError, match="a duplicate"):
        await waiting


async def test_a_job_whose_time_has_passed_says_so(at: Timed) -> None:
    job = await at.runner.options(finish_within=10).enqueue(tasks.wait)
    await world.started.wait()
    at.clock.advance(10)
    with pytest.raises(JobExpiredError, match="finish_within"):
        await job.result()


async def test_a_job_that_expires_while_it_waits_wakes_who_waits(at: Timed) -> None:
    for _ in range(2):
        await at.runner.enqueue(tasks.wait)
    job = await at.runner.options(start_within=10).enqueue(tasks.note)
    waiting = asyncio.create_task(job.result())
    await at.runner.counts()
    at.clock.advance(10)
    with pytest.raises(JobExpiredError, match="start_within"):
        await waiting


async def test_a_held_job_says_what_it_needs(at: Timed) -> None:
    job = await at.runner.options(delay=60).enqueue(tasks.note)
    await write(at.runner._session.store, "UPDATE jobs SET args = '{'")  # type: ignore[union-attr]
    at.clock.advance(60)
    with pytest.raises(JobHeldError):
        await job.result()
    assert await at.state(job) == "held"


# Retries and snoozes.


async def test_a_flaky_job_is_retried_at_its_time_until_it_succeeds(at: Timed) -> None:
    world.raises = [ValueError("one"), KeyError("two")]
    job = await at.runner.enqueue(tasks.flaky, "a")
    for times, wait in [(1, 10), (2, 20)]:
        event = await at.events.wait(EventName.RETRY_SCHEDULED, times)
        assert event.details["delay"] == wait
        assert await at.state(job) == "retrying"
        at.clock.advance(wait)
    assert await job.result() == 3
    attempts = (await job.refresh()).attempts
    assert [(item.number, item.outcome) for item in attempts] == [
        (1, "retry"),
        (2, "retry"),
        (3, "succeeded"),
    ]


async def test_a_job_that_uses_its_attempts_up_fails_with_its_last_error(at: Timed) -> None:
    world.raises = [ValueError("one"), ValueError("two"), ValueError("three")]
    job = await at.runner.enqueue(tasks.flaky)
    for times, wait in [(1, 10), (2, 20)]:
        await at.events.wait(EventName.RETRY_SCHEDULED, times)
        at.clock.advance(wait)
    with pytest.raises(JobFailedError, match="three"):
        await job.result()
    assert len((await job.refresh()).attempts) == 3


async def test_a_snooze_waits_and_counts_as_no_failure(at: Timed) -> None:
    job = await at.runner.enqueue(tasks.ask_for_snooze, 60)
    for times in (1, 2, 3):
        await at.events.wait(EventName.SNOOZED, times)
        at.clock.advance(60)
    await at.events.wait(EventName.SNOOZED, 4)
    record = (await job.refresh()).record
    assert record is not None
    assert (record.snoozes, record.failures, record.attempt) == (4, 0, 4)


async def test_a_retry_by_hand_begins_anew_and_keeps_the_history(at: Timed) -> None:
    world.raises = [ValueError("bad")]
    job = await at.runner.enqueue(tasks.note, 1)
    with pytest.raises(JobFailedError):
        await job.result()
    await job.retry()
    assert await job.result() == 2
    record = (await job.refresh()).record
    assert record is not None
    assert (record.failures, record.attempt, record.reason) == (0, 2, None)
    assert [item.outcome for item in record.attempts] == ["failed", "succeeded"]


async def test_a_job_that_waits_or_runs_cannot_be_retried_by_hand(at: Timed) -> None:
    waiting = await at.runner.options(delay=60).enqueue(tasks.note)
    with pytest.raises(JobStateError, match="is scheduled; it cannot be retried"):
        await waiting.retry()
    runs = await at.runner.enqueue(tasks.wait)
    await world.started.wait()
    with pytest.raises(JobStateError, match="is running"):
        await runs.retry()


# Cancelling.


async def test_a_running_async_job_is_stopping(at: Timed) -> None:
    job = await at.runner.enqueue(tasks.wait)
    await world.started.wait()
    assert await job.cancel(reason="a duplicate") is CancelAnswer.STOPPING
    with pytest.raises(JobCancelledError, match="a duplicate"):
        await job.result()


async def test_a_running_sync_job_is_told(at: Timed) -> None:
    job = await at.runner.enqueue(tasks.block_listening)
    await until(lambda: world.contexts)
    assert await job.cancel() is CancelAnswer.TOLD
    with pytest.raises(JobCancelledError):
        await job.result()


async def test_a_sync_job_that_does_not_listen_keeps_its_own_end(at: Timed) -> None:
    job = await at.runner.enqueue(tasks.block)
    await until(lambda: world.contexts)
    assert await job.cancel() is CancelAnswer.TOLD
    world.thread_go_on.set()
    assert await job.result() == "unblocked"


async def test_a_finished_job_is_not_cancelled(at: Timed) -> None:
    job = await at.runner.enqueue(tasks.note)
    await job.result()
    assert await job.cancel() is CancelAnswer.FINISHED
    assert await at.state(job) == "succeeded"


async def test_a_held_job_is_cancelled(at: Timed) -> None:
    job = await at.runner.options(delay=60).enqueue(tasks.note)
    held = "UPDATE jobs SET state = 'held', held_for = 'crash', reason = 'died'"
    await write(at.runner._session.store, held)  # type: ignore[union-attr]
    assert await job.cancel() is CancelAnswer.CANCELLED
    assert await at.state(job) == "cancelled"


async def test_a_reason_can_always_be_stored(at: Timed) -> None:
    job = await at.runner.options(delay=60).enqueue(tasks.note)
    assert await job.cancel(reason="lone \ud800 and \0") is CancelAnswer.CANCELLED
    assert "lone" in ((await job.refresh()).reason or "")


# Options.


async def test_a_job_s_own_options_hold_at_its_later_attempts(at: Timed) -> None:
    world.raises = [ValueError("one"), ValueError("two")]
    own = at.runner.options(max_attempts=3, backoff=[7, 9])
    job = await own.options(queue="mail").enqueue(tasks.note)
    for times, wait in [(1, 7), (2, 9)]:
        event = await at.events.wait(EventName.RETRY_SCHEDULED, times)
        assert event.details["delay"] == wait
        at.clock.advance(wait)
    await job.result()
    record = (await job.refresh()).record
    assert record is not None
    assert (record.queue, record.attempt) == ("mail", 3)


async def test_bad_options_are_refused_when_a_job_is_enqueued(at: Timed) -> None:
    with pytest.raises(ConfigurationError, match="max_attempts"):
        await at.runner.options(max_attempts=0).enqueue(tasks.note)
    with pytest.raises(ConfigurationError, match="unknown option colour"):
        await at.runner.options(colour="red").enqueue(tasks.note)  # type: ignore[call-arg]
    assert sum((await at.runner.counts()).values()) == 0


async def test_a_job_of_the_future_starts_at_its_time(at: Timed) -> None:
    job = await at.runner.options(delay=100).enqueue(tasks.note)
    assert await at.state(job) == "scheduled"
    at.clock.advance(99)
    await at.runner.counts()
    assert world.calls == []
    at.clock.advance(1)
    assert await job.result() == 1


# Asking.


async def test_jobs_are_listed_and_counted(at: Timed) -> None:
    await (await at.runner.enqueue(tasks.note)).result()
    later = await at.runner.options(delay=60, queue="mail").enqueue(tasks.note)
    counts = await at.runner.counts()
    assert (counts[JobState.SUCCEEDED], counts[JobState.QUEUED]) == (1, 1)
    page = await at.runner.jobs(JobFilter(queue="mail", state=ShownState.SCHEDULED))
    assert [job.id for _, job in page] == [later.id]
    found = await at.runner.get(later.id)
    assert (found.task, found.state) == ("tests.support.tasks:note", "scheduled")
