"""A worker when things go wrong, with suspects, and at its end.

What lives here: failing claims, jobs that nobody knows, suspects, and what is handed back. What
does not: claims that go well (`test_worker.py`). Called by pytest.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from embedded_tasks.errors import StoreError, StoreUnavailableError
from embedded_tasks.job import JobState
from tests.support.jobs import ME, OTHER, job_id, new_job
from tests.support.stores import claim_all, record, write
from tests.support.turns import until
from tests.support.workers import (
    Blocking,
    Shop,
    claim_ahead,
    fast,
    named,
    owned,
)

pytestmark = pytest.mark.anyio


# What goes wrong.


async def test_a_claim_that_fails_is_made_again_a_second_later(at: Shop) -> None:
    at.add(fast)
    await at.insert(1)
    at.store.errors = [StoreUnavailableError("busy"), StoreError("worse")]
    with capture_logs() as lines:
        at.open()
        for _ in range(2):
            await at.quiet()
            assert at.clock.waits == [1.0]
            assert at.outcomes == []
            at.clock.advance(1)
        await at.ended_attempts(1)
    assert [line["error"] for line in lines] == ["busy", "worse"]
    assert {line["event"] for line in lines} == {"worker.claim_failed"}
    assert at.worker._lanes[True].slots.free == 2


@pytest.mark.parametrize("error", [StoreUnavailableError("full"), ValueError("a bug")], ids=repr)
async def test_what_cannot_be_given_back_is_given_back_a_moment_later(
    at: Shop, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    errors, release = [error], at.store.release

    async def failing(*args: Any) -> list[str]:
        if errors:
            raise errors.pop()
        return cast(list[str], await release(*args))

    monkeypatch.setattr(at.store, "release", failing, raising=False)
    at.worker.open()
    await at.store.insert([new_job(1, task="shop:0", owner=ME)])
    with capture_logs() as lines:
        at.worker._releases.add([job_id(1)])
        await until(lambda: at.clock.waits)
    assert [line["event"] for line in lines] == ["jobs.not_released"]
    assert at.clock.waits == [0.05]
    assert (await record(at.store, 1)).owner == ME
    at.clock.advance(0.05)
    await until(lambda: at.overflows)
    assert (await record(at.store, 1)).owner is None


async def test_a_job_whose_start_cannot_be_written_down_goes_back_unstarted(at: Shop) -> None:
    block = Blocking()
    at.add(block)
    await at.insert(1)
    at.marks.full = True
    with capture_logs() as lines:
        at.open()
        await at.quiet()
    assert block.started == []
    job = await record(at.store, 1)
    assert (job.state, job.attempt, job.owner) == ("queued", 0, None)
    assert lines[0]["event"] == "job.not_started"
    at.marks.full = False
    at.clock.advance(1)
    await at.quiet()
    assert len(block.started) == 1
    block.go_on.set()


async def test_a_job_cancelled_while_it_goes_back_is_told_of(at: Shop) -> None:
    at.add(fast)
    await at.insert(1)
    (job,) = await claim_all(at.store)
    await at.store.cancel(job.id, "no need", at.clock.now())
    at.marks.full = True
    at.worker.open()
    at.worker.take_slot(True)
    at.worker.start(job, None, is_async=True)
    await at.quiet()
    assert at.ended == [job.id]


async def test_what_expires_while_it_waits_is_told_of(at: Shop) -> None:
    block = Blocking()
    at.add(block)
    await at.insert(1, 2)
    await at.insert(3, start_by=at.clock.now() + 5)
    at.open()
    await at.quiet()
    at.clock.advance(5)
    await at.quiet()
    assert at.ended == [job_id(3)]
    block.go_on.set()


# New tasks, unknown tasks.


async def test_a_task_that_is_enqueued_for_the_first_time_is_learned(at: Shop) -> None:
    at.add(fast)
    at.open()
    await at.quiet()
    await at.insert(1)
    at.worker.wake()
    await at.ended_attempts(1)


async def test_jobs_of_a_task_that_nobody_knows_are_held_and_told_of(at: Shop) -> None:
    await at.store.add_process(ME, 1, at.clock.now(), runs_jobs=True)
    await at.insert(1, task="shop:lost")
    with capture_logs():
        at.open()
        await at.quiet()
    assert at.held == [job_id(1)]
    await at.store.add_process(OTHER, 2, at.clock.now(), runs_jobs=True)
    await at.insert(2, task="shop:lost")
    await at.store.remove_process(OTHER)
    at.worker.wake()
    await at.quiet()
    assert at.held == [job_id(1), job_id(2)]


# Suspects.


async def suspects(at: Shop, *numbers: int) -> None:
    await at.insert(*numbers)
    ids = ", ".join(f"'{job_id(number)}'" for number in numbers)
    await write(at.store, f"UPDATE jobs SET crashes = 2 WHERE id IN ({ids})")


async def test_one_suspect_runs_at_a_time(at: Shop) -> None:
    block = Blocking()
    at.add(block)
    await suspects(at, 1, 2)
    at.open()
    await at.quiet()
    assert len(block.started) == 1
    block.go_on.set()
    await at.ended_attempts(2)
    assert block.most == 1


async def test_a_suspect_that_has_run_for_half_a_minute_is_none_any_more(at: Shop) -> None:
    block = Blocking()
    at.add(block)
    await suspects(at, 1, 2)
    at.open()
    await at.quiet()
    at.clock.advance(30)
    await at.quiet()
    assert len(block.started) == 2
    crashes = [(await record(at.store, n)).crashes for n in (1, 2)]
    assert sorted(crashes) == [0, 2]
    block.go_on.set()


async def test_innocents_run_beside_a_suspect(at: Shop) -> None:
    block = Blocking()
    at.add(block)
    await at.insert(5, args=named("innocent"))
    await suspects(at, 1, 2)
    at.open()
    await at.quiet()
    assert sorted(block.started) == ["", "innocent"]
    block.go_on.set()


async def test_after_a_death_suspects_rest_while_innocents_run(at: Shop) -> None:
    block = Blocking()
    at.add(block)
    await at.insert(5, args=named("innocent"))
    await suspects(at, 1)
    at.worker.suspects.rest()
    at.open()
    await at.quiet()
    assert block.started == ["innocent"]
    at.clock.advance(0.5)
    at.worker.suspects.rest()
    at.clock.advance(0.75)
    await at.quiet()
    assert block.started == ["innocent"]
    at.clock.advance(0.5)
    await at.quiet()
    assert block.started == ["innocent", ""]
    block.go_on.set()


# The end.


async def test_a_worker_that_stops_hands_back_what_has_not_started(at: Shop) -> None:
    block = Blocking()
    await claim_ahead(at, block)
    assert await owned(at) > 2
    at.worker.drain()
    await at.quiet()
    assert await owned(at) == 2
    assert at.clock.waits == []
    before = len(at.store.claims)
    block.go_on.set()
    await at.ended_attempts(22)
    at.worker.wake()
    await at.quiet()
    assert len(at.store.claims) == before


async def test_a_claim_that_comes_back_after_the_end_is_handed_back(at: Shop) -> None:
    block = Blocking()
    at.add(block)
    await at.insert(1, 2)
    at.store.gate = asyncio.Event()
    at.open()
    await at.store.claimed.wait()
    at.worker.drain()
    at.store.gate.set()
    await at.quiet()
    assert block.started == []
    for number in (1, 2):
        job = await record(at.store, number)
        assert (job.state, job.owner, job.attempt) == ("queued", None, 0)


async def test_a_job_that_comes_after_the_end_is_not_started(at: Shop) -> None:
    at.add(fast)
    at.open()
    await at.quiet()
    await at.insert(1)
    (job,) = await claim_all(at.store)
    stopping = asyncio.create_task(at.worker.stop(0.0))
    await at.quiet()
    await stopping
    assert at.worker.start(job, None, is_async=True) is None
    await at.quiet()
    assert (await record(at.store, 1)).state is JobState.QUEUED
    assert at.outcomes == []


async def test_more_due_than_slots_is_told_to_the_siblings(at: Shop) -> None:
    block = Blocking()
    at.add(block)
    await at.insert(1)
    at.open()
    await at.quiet()
    assert at.overflows == 0
    await at.insert(2, 3, 4)
    at.worker.wake()
    await at.quiet()
    assert at.overflows >= 1
    block.go_on.set()
