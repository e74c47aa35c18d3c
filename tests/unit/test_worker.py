"""The worker: it claims while there are free slots, sleeps while nothing is due, and hands back.

What lives here: claims, slots and timers of one process. What does not: attempts themselves
(`test_running.py`), several processes (`tests/crash`). Called by pytest.
"""

from __future__ import annotations

import asyncio

import pytest

from embedded_tasks.job import Held, JobState, Succeeded
from tests.support.jobs import job_id
from tests.support.stores import record
from tests.support.workers import (
    Blocking,
    Shop,
    claim_ahead,
    fast,
    fast_sync,
    named,
    owned,
    shop,
)

pytestmark = pytest.mark.anyio


# Claiming.


async def test_due_jobs_are_claimed_and_attempted(at: Shop) -> None:
    at.add(fast)
    at.add(fast_sync)
    await at.insert(1, 2, 3, task="shop:0")
    await at.insert(4, 5, task="shop:1")
    at.open()
    await at.ended_attempts(5)
    assert sorted(id for id, _ in at.outcomes) == [job_id(n) for n in range(1, 6)]
    assert all(isinstance(outcome, Succeeded) for _, outcome in at.outcomes)


async def test_nothing_is_claimed_before_the_work_begins(at: Shop) -> None:
    at.add(fast)
    await at.insert(1)
    await at.quiet()
    assert at.store.claims == []


async def test_attempts_that_start_together_are_written_down_together() -> None:
    async with shop(slots=(10, 2)) as at:
        at.add(fast)
        await at.insert(*range(100))
        at.open()
        await at.ended_attempts(100)
        assert at.marks.made == 100
        assert at.marks.writes <= 20


async def test_no_more_jobs_run_than_there_are_slots(at: Shop) -> None:
    block = Blocking()
    at.add(block)
    await at.insert(*range(10))
    at.open()
    await at.quiet()
    assert (block.most, at.worker.is_full()) == (2, True)
    block.go_on.set()
    await at.ended_attempts(10)
    assert block.most == 2


async def test_each_kind_of_function_has_slots_of_its_own(at: Shop) -> None:
    block = Blocking()
    at.add(block)
    at.add(fast_sync)
    await at.insert(1, 2, 3, task="shop:0")
    await at.insert(4, 5, 6, task="shop:1")
    at.open()
    await at.ended_attempts(3)
    assert at.worker.sizes() == {"async": 2, "sync": 2}
    block.go_on.set()


async def test_jobs_start_by_priority_when_slots_are_few() -> None:
    async with shop(slots=(1, 1)) as at:
        block = Blocking()
        at.add(block)
        for number, priority in [(1, 0), (2, 5), (3, -5), (4, 9)]:
            await at.insert(number, priority=priority, args=named(str(priority)))
        block.go_on.set()
        at.open()
        await at.ended_attempts(4)
        assert block.started == ["9", "5", "0", "-5"]


async def test_claims_ask_for_no_more_than_slots_and_what_has_just_ended(at: Shop) -> None:
    at.add(fast)
    await at.insert(*range(60))
    at.open()
    await at.ended_attempts(60)
    before, last = 0, 0
    for claim, result in zip(at.store.claims, at.store.results, strict=False):
        for _, limit in claim.wanted:
            # Twice, when the slots stood empty before it came.
            assert limit <= 2 + 2 * (before + last)
        before, last = last, len(result.jobs)


async def test_jobs_go_on_while_the_next_are_claimed(at: Shop) -> None:
    at.add(fast)
    await at.insert(*range(200))
    lane = at.worker._lanes[True]
    waiting: list[int] = []
    at.store.on_claim = lambda: waiting.append(len(lane.ready))
    at.open()
    await at.ended_attempts(200)
    assert max(waiting) > 0


# Idle is free.


async def test_with_nothing_due_there_is_one_claim_and_no_timer(at: Shop) -> None:
    at.add(fast)
    at.open()
    await at.quiet()
    for _ in range(5):
        at.clock.advance(3600)
        await at.quiet()
    assert len(at.store.claims) == 1
    assert at.clock.waits == []


async def test_a_job_of_the_future_is_slept_for_and_the_clock_looked_at_meanwhile(
    at: Shop,
) -> None:
    at.add(fast)
    await at.insert(1, due_at=at.clock.now() + 70)
    at.open()
    for wait in (30, 30, 10):
        await at.quiet()
        # The first claim learns the name of the task, the second one asks for its jobs.
        assert (at.clock.waits, len(at.store.claims)) == ([wait], 2)
        at.clock.advance(wait)
    await at.ended_attempts(1)


async def test_a_clock_that_is_put_back_is_noticed_within_half_a_minute(at: Shop) -> None:
    at.add(fast)
    await at.insert(1, due_at=at.clock.now() + 70)
    at.open()
    await at.quiet()
    before = len(at.store.claims)
    at.clock.jump(-3600)
    at.clock.advance(30)
    await at.quiet()
    assert len(at.store.claims) == before + 1


async def test_a_clock_that_jumps_ahead_is_noticed_within_half_a_minute(at: Shop) -> None:
    at.add(fast)
    await at.insert(1, due_at=at.clock.now() + 3600)
    at.open()
    await at.quiet()
    at.clock.jump(3600)
    at.clock.advance(30)
    await at.ended_attempts(1)


async def test_a_full_lane_does_not_keep_the_worker_busy(at: Shop) -> None:
    block = Blocking()
    at.add(block)
    at.add(fast_sync)
    await at.insert(*range(10))
    at.open()
    await at.quiet()
    before = len(at.store.claims)
    for _ in range(5):
        await at.quiet()
    assert len(at.store.claims) == before <= 3
    await at.insert(50, task="shop:1")
    at.worker.wake()
    await at.ended_attempts(1)
    await at.quiet()
    assert len(at.store.claims) - before <= 3
    block.go_on.set()


async def test_a_full_worker_asks_again_when_a_slot_is_free(at: Shop) -> None:
    block = Blocking()
    at.add(block)
    await at.insert(1, 2)
    at.open()
    await at.quiet()
    await at.insert(3)
    assert len(block.started) == 2
    block.go_on.set()
    at.worker.wake()
    await at.ended_attempts(3)


async def test_the_earlier_timer_stays(at: Shop) -> None:
    at.add(fast)
    at.open()
    await at.quiet()
    for delay, waits in [(20, [20]), (5, [5]), (12, [5]), (29, [5])]:
        at.worker.wake_at(at.clock.now() + delay)
        assert at.clock.waits == waits


async def test_a_wake_up_that_is_due_looks_at_once(at: Shop) -> None:
    at.add(fast)
    at.open()
    await at.quiet()
    await at.insert(1)
    at.worker.wake_at(at.clock.now())
    await at.ended_attempts(1)


# Slots for jobs that are about to be stored.


async def test_a_slot_is_taken_for_a_job_that_is_about_to_be_stored(at: Shop) -> None:
    at.add(fast)
    at.open()
    await at.quiet()
    assert [at.worker.take_slot(True) for _ in range(3)] == [True, True, False]
    at.worker.give_slot_back(True)
    assert at.worker.take_slot(True)
    assert at.worker.take_slot(False)


async def test_no_slot_is_taken_before_jobs_that_have_waited_longer(at: Shop) -> None:
    block = Blocking()
    at.add(block)
    assert not at.worker.take_slot(True)
    await at.insert(1, 2, 3)
    at.open()
    await at.quiet()
    block.go_on.set()
    assert not at.worker.take_slot(True)
    await at.ended_attempts(3)
    await at.quiet()
    assert at.worker.take_slot(True)


async def test_who_waits_for_a_slot_gets_one_and_none_at_the_end(at: Shop) -> None:
    at.add(fast)
    at.open()
    await at.quiet()
    assert await at.worker.wait_for_slot(True)
    assert await at.worker.wait_for_slot(True)
    waiting = asyncio.create_task(at.worker.wait_for_slot(True))
    await asyncio.sleep(0)
    assert not waiting.done()
    at.worker.give_slot_back(True)
    assert await waiting
    at.worker.drain()
    assert not await at.worker.wait_for_slot(True)


# Claimed ahead.


async def test_what_was_claimed_ahead_goes_back_when_the_slots_stay_taken(at: Shop) -> None:
    block = Blocking()
    await claim_ahead(at, block)
    assert await owned(at) > 2
    for _ in range(4):
        at.clock.advance(0.05)
        await at.quiet()
    assert await owned(at) == 2
    waiting = [await record(at.store, n) for n in range(100, 140)]
    assert all(job.attempt == 0 for job in waiting if job.state is JobState.QUEUED)
    assert at.clock.waits == []
    block.go_on.set()


async def test_what_was_claimed_ahead_needs_no_further_claim(at: Shop) -> None:
    block = Blocking()
    await claim_ahead(at, block)
    ahead = await owned(at) - 2
    assert ahead > 0
    at.store.gate = asyncio.Event()
    block.go_on.set()
    await at.ended_attempts(20 + 2 + ahead)
    at.store.gate.set()


async def test_jobs_that_end_at_once_do_not_pile_up_on_the_stack() -> None:
    async with shop(slots=(1, 1)) as at:
        at.add(fast)
        await at.insert(*range(300), args="[]")
        at.worker._lanes[True].ended = 500
        at.open()
        await at.ended_attempts(300)
        assert all(isinstance(outcome, Held) for _, outcome in at.outcomes)


async def test_what_is_claimed_beside_a_job_that_ends_at_once_starts_too() -> None:
    async with shop(slots=(1, 1)) as at:
        at.add(fast)
        await at.insert(1, args="[]", priority=5)
        await at.insert(2, 3, 4)
        at.worker._lanes[True].ended = 10
        at.open()
        await at.ended_attempts(4)
        assert at.worker._lanes[True].slots.free == 1
