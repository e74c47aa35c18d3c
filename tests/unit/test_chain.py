"""The jobs of one request, in their order: each starts when the first attempt before it has ended.

What lives here: `embedded_tasks/chain.py` over a real worker. What does not: requests
(`tests/web`). Called by pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from embedded_tasks.config import TaskOptions
from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.job import Cancelled, JobState
from tests.support.jobs import ME, job_id
from tests.support.reserving import Line, failing, lined_up
from tests.support.turns import turns, until
from tests.support.workers import Blocking

pytestmark = pytest.mark.anyio


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with lined_up() as line:
        yield line


async def test_one_job_starts_when_its_request_has_ended_and_not_before(line: Line) -> None:
    await line.ready()
    reserved = await line.reserve(line.note("a"))
    await line.at.quiet()
    assert line.seen == []
    line.chains.start(reserved)
    await line.at.ended_attempts(1)
    assert line.seen == ["a"]
    (job,) = await line.jobs(1)
    assert (job.state, job.attempt) == ("succeeded", 1)


async def test_jobs_run_one_after_another_in_their_order(line: Line) -> None:
    await line.ready()
    block = Blocking()
    line.chains.start(await line.reserve(line.note("a"), block, line.note("c")))
    await until(lambda: block.started)
    assert line.seen == ["a"]
    states = [job.state for job in await line.jobs(3)]
    assert states == ["succeeded", "running", "queued"]
    block.go_on.set()
    await line.at.ended_attempts(3)
    assert line.seen == ["a", "c"]
    assert [job.attempt for job in await line.jobs(3)] == [1, 1, 1]


async def test_a_job_that_fails_does_not_take_the_later_ones_along(line: Line) -> None:
    await line.ready()
    line.chains.start(await line.reserve(line.fail("a"), line.note("b")))
    await line.at.ended_attempts(2)
    assert line.seen == ["a", "b"]
    assert [job.state for job in await line.jobs(2)] == ["failed", "succeeded"]


async def test_a_retry_is_not_waited_for(line: Line) -> None:
    await line.ready()
    options: TaskOptions = {"max_attempts": 2, "backoff": [60]}
    line.chains.start(await line.reserve(line.fail("a"), line.note("b"), options=options))
    await line.at.ended_attempts(2)
    assert [job.state for job in await line.jobs(2)] == ["queued", "succeeded"]


async def test_async_and_sync_jobs_of_a_request_take_slots_of_their_kind(line: Line) -> None:
    await line.ready()
    line.chains.start(
        await line.reserve(line.note("a"), lambda: line.seen.append("b"), line.note("c"))
    )
    await line.at.ended_attempts(3)
    assert line.seen == ["a", "b", "c"]


async def test_two_requests_run_beside_each_other() -> None:
    async with lined_up(slots=(2, 2)) as line:
        await line.ready()
        first, second = Blocking(), Blocking()
        line.chains.start(await line.reserve(first, line.note("a")))
        line.chains.start(await line.reserve(second, line.note("b"), first=11))
        await until(lambda: first.started and second.started)
        second.go_on.set()
        await until(lambda: line.seen == ["b"])
        first.go_on.set()
        await line.at.ended_attempts(4)


# Where slots are few.


async def test_without_a_free_slot_the_jobs_go_to_everybody(line: Line) -> None:
    await line.ready()
    block = await line.occupy()
    line.chains.start(await line.reserve(line.note("a"), line.note("b"), first=2))
    _, second, third = await line.jobs(3)
    assert (second.state, second.owner, second.attempt) == ("queued", None, 0)
    assert (third.state, third.owner) == ("queued", None)
    assert line.stored == [0.0]
    block.go_on.set()
    line.at.worker.wake()
    await until(lambda: line.seen == ["a"])
    await line.at.quiet()
    line.at.worker.wake()
    await line.at.ended_attempts(3)
    assert line.seen == ["a", "b"]


async def test_a_chain_that_gets_no_further_slot_gives_the_rest_away(line: Line) -> None:
    await line.ready()
    block = Blocking()
    line.chains.start(await line.reserve(block, line.note("b")))
    await until(lambda: block.started)
    # Something is due that has waited longer.
    line.at.worker._lanes[True].due = True
    line.at.tasks._numbers[True].clear()
    block.go_on.set()
    await line.at.ended_attempts(1)
    _, second = await line.jobs(2)
    assert (second.state, second.owner, second.attempt) == ("queued", None, 0)
    assert line.seen == []


async def test_a_chain_that_stays_waits_for_slots_and_tells_the_first_error(line: Line) -> None:
    await line.ready()
    block = await line.occupy()
    jobs = await line.reserve(line.fail("a"), line.fail("b"), line.note("c"), first=2)
    running = asyncio.create_task(line.chains.run(jobs))
    await line.at.quiet()
    assert line.seen == []
    block.go_on.set()
    error = await running
    assert line.seen == ["a", "b", "c"]
    assert isinstance(error, ValueError)
    assert str(error) == "a"


async def test_an_error_that_is_retried_is_no_error_yet(line: Line) -> None:
    await line.ready()
    jobs = await line.reserve(line.fail("a"), options={"max_attempts": 2, "backoff": [60]})
    assert await line.chains.run(jobs) is None


async def test_who_waits_for_a_chain_may_go_and_the_chain_goes_on(line: Line) -> None:
    await line.ready()
    block = Blocking()
    jobs = await line.reserve(block, line.note("b"))
    running = asyncio.create_task(line.chains.run(jobs))
    await until(lambda: block.started)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    block.go_on.set()
    await line.at.ended_attempts(2)
    assert line.seen == ["b"]


# Cancelled, taken, given away.


async def test_a_follower_that_was_cancelled_is_passed_over(line: Line) -> None:
    await line.ready()
    block = Blocking()
    line.chains.start(await line.reserve(block, line.note("b"), line.note("c")))
    await until(lambda: block.started)
    await line.at.store.cancel(job_id(2), "no need", line.at.clock.now())
    block.go_on.set()
    await line.at.ended_attempts(2)
    assert line.seen == ["c"]
    assert [job.state for job in await line.jobs(3)] == ["succeeded", "cancelled", "succeeded"]


async def test_a_first_job_that_was_cancelled_before_its_request_ended_never_runs(
    line: Line,
) -> None:
    await line.ready()
    reserved = await line.reserve(line.note("a"), line.note("b"))
    await line.at.store.cancel(job_id(1), "no need", line.at.clock.now())
    assert line.at.running.cancel(job_id(1), 1, "no need") is None
    line.chains.start(reserved)
    await line.at.ended_attempts(2)
    assert line.seen == ["b"]
    assert line.at.outcomes[0] == (job_id(1), Cancelled("no need"))


async def test_a_job_that_was_to_be_cancelled_is_told_of_when_it_is_given_away(
    line: Line,
) -> None:
    await line.ready()
    reserved = await line.reserve(line.note("a"))
    await line.at.store.cancel(job_id(1), "no need", line.at.clock.now())
    await line.chains.close()
    line.chains.start(reserved)
    await line.at.quiet()
    assert line.ended == [job_id(1)]
    assert line.seen == []


# The end of the work.


async def test_what_has_not_started_at_the_end_goes_to_everybody(line: Line) -> None:
    await line.ready()
    block = Blocking()
    line.chains.start(await line.reserve(block, line.note("b")))
    await until(lambda: block.started)
    waiting = await line.reserve(line.note("x"), line.note("y"), first=3)
    await line.chains.close()
    _, follower, first, second = await line.jobs(4)
    for job in (follower, first, second):
        assert (job.state, job.owner, job.attempt) == ("queued", None, 0)
    line.chains.start(waiting)
    assert await line.chains.run(waiting) is None
    block.go_on.set()
    await line.at.ended_attempts(1)
    assert line.seen == []


async def test_a_request_that_ends_after_the_end_starts_nothing(line: Line) -> None:
    await line.ready()
    await line.chains.close()
    line.chains.start(await line.reserve(line.note("a")))
    (job,) = await line.jobs(1)
    assert (job.state, job.owner, line.seen) == ("queued", None, [])


# A store that fails.


@pytest.mark.parametrize("error", [StoreUnavailableError("full"), ValueError("a bug")], ids=repr)
async def test_jobs_are_given_away_until_the_store_takes_it(line: Line, error: Exception) -> None:
    store = failing(line)
    store.failures["release"], store.error = 3, error
    line.at.worker.open()
    with capture_logs() as lines:
        line.chains.start(await line.reserve(line.note("a")))
        for wait in (0.05, 0.1, 0.2):
            await until(lambda: line.at.clock.waits)
            assert line.at.clock.waits == [pytest.approx(wait)]
            line.at.clock.advance(wait)
        await until(lambda: line.stored)
    assert [entry["event"] for entry in lines] == ["jobs.not_released"] * 3
    assert (await line.jobs(1))[0].state is JobState.QUEUED


async def test_jobs_are_given_away_although_whoever_is_told_fails(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[None] = []

    def fails() -> None:
        told.append(None)
        raise ValueError("a bug")

    monkeypatch.setattr(line.chains._releases, "_released", fails)
    line.at.worker.open()
    with capture_logs() as lines:
        for count in (1, 2):
            reserved = await line.reserve(line.note("a"), first=count)
            line.chains._releases.add(one.job.id for one in reserved)
            while len(told) < count:
                await turns()
    assert [entry["event"] for entry in lines] == ["jobs.not_told"] * 2


async def test_a_follower_that_cannot_begin_is_given_away_with_those_behind_it(
    line: Line,
) -> None:
    await line.ready()
    store = failing(line)
    store.failures["begin"] = 1
    with capture_logs() as lines:
        line.chains.start(await line.reserve(line.note("a"), line.note("b"), line.note("c")))
        await line.at.ended_attempts(1)
        await line.at.quiet()
    assert [entry["event"] for entry in lines] == ["job.not_begun"]
    _, second, third = await line.jobs(3)
    assert (second.state, second.owner, second.attempt) == ("queued", None, 0)
    assert (third.state, third.owner, third.attempt) == ("queued", None, 0)
    for _ in range(2):
        line.at.worker.wake()
        await line.at.quiet()
    assert line.seen == ["a", "b", "c"]


async def test_a_follower_whose_start_cannot_be_written_down_goes_back_with_the_others(
    line: Line,
) -> None:
    await line.ready()
    block = Blocking()
    line.chains.start(await line.reserve(block, line.note("b"), line.note("c")))
    await until(lambda: block.started)
    line.at.marks.full = True
    with capture_logs() as lines:
        block.go_on.set()
        await line.at.ended_attempts(1)
        jobs = await line.jobs(3)
    assert [entry["event"] for entry in lines] == ["job.not_started"]
    assert [job.state for job in jobs] == ["succeeded", "queued", "queued"]
    assert [job.owner for job in jobs] == [None, None, None]
    assert line.seen == []


async def test_closing_does_not_wait_for_a_store_that_does_not_come_back(line: Line) -> None:
    await line.ready()
    await line.reserve(line.note("a"))
    store = failing(line)
    store.failures["release"] = 99
    with capture_logs():
        await line.chains.close()
    assert (await line.jobs(1))[0].owner == ME
