"""How many attempts run at once: places, who waits for one, and jobs claimed ahead of one.

What lives here: `embedded_tasks/slots.py` and `embedded_tasks/lanes.py`. What does not: running
anything. Called by pytest.
"""

from __future__ import annotations

import asyncio

import pytest

from embedded_tasks.lanes import Lane, Ready
from embedded_tasks.slots import Slots
from tests.support.jobs import claimed_job, job_id

pytestmark = pytest.mark.anyio


async def waiting(slots: Slots) -> asyncio.Task[None]:
    task = asyncio.create_task(slots.wait())
    await asyncio.sleep(0)
    return task


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def test_places_are_taken_as_far_as_they_are_free() -> None:
    slots = Slots(3)
    assert (slots.take(), slots.take(5), slots.take()) == (1, 2, 0)
    slots.give_back(2)
    assert slots.free == 2


async def test_a_free_place_is_had_without_waiting() -> None:
    slots = Slots(1)
    await slots.wait()
    assert slots.free == 0


async def test_who_waits_longest_gets_the_next_place() -> None:
    slots = Slots(0)
    first, second = await waiting(slots), await waiting(slots)
    slots.give_back()
    await settle()
    assert (first.done(), second.done(), slots.free) == (True, False, 0)
    slots.give_back(2)
    await second
    assert slots.free == 1


async def test_who_waits_goes_before_who_takes() -> None:
    slots = Slots(1)
    slots.take()
    task = await waiting(slots)
    slots.give_back()
    assert slots.take() == 0
    await task


async def test_who_gave_up_waiting_does_not_get_a_place() -> None:
    slots = Slots(0)
    first, second = await waiting(slots), await waiting(slots)
    first.cancel()
    await settle()
    slots.give_back()
    await second
    assert slots.free == 0


async def test_a_place_that_came_with_a_cancellation_is_given_on() -> None:
    slots = Slots(0)
    first, second = await waiting(slots), await waiting(slots)
    slots.give_back()
    first.cancel()
    await settle()
    assert first.cancelled()
    await second
    assert slots.free == 0


def lane(size: int = 2) -> Lane:
    return Lane(True, Slots(size))


def test_a_lane_with_nothing_due_wants_nothing() -> None:
    one = lane()
    one.due = False
    assert one.want() is None
    assert one.slots.free == 2


def test_a_lane_wants_as_many_as_it_has_places() -> None:
    one = lane(3)
    one.slots.take()
    want = one.want()
    assert want is not None
    assert (want.is_async, want.places, want.limit) == (True, 2, 2)
    assert (one.slots.free, one.due) == (0, False)


def test_a_full_lane_wants_nothing_and_stays_due() -> None:
    one = lane(1)
    one.slots.take()
    assert one.want() is None
    assert one.due


def test_a_lane_wants_as_many_ahead_as_ended_since_the_last_claim() -> None:
    one = lane(2)
    one.ended = 5
    want = one.want()
    assert want is not None
    assert (want.places, want.limit) == (2, 7)


def line_of(one: Lane, length: int) -> None:
    one.ready.clear()
    one.ready.extend(Ready(claimed_job(number)) for number in range(length))


def test_a_lane_asks_when_no_more_wait_than_end_during_a_claim() -> None:
    one = lane(2)
    assert one.want() is not None
    one.ended = 3
    one.claimed(may_be_more=True)
    one.ended = 9
    line_of(one, 4)
    assert not one.runs_low()
    assert one.want() is None
    assert one.due
    line_of(one, 3)
    assert one.runs_low()
    want = one.want()
    assert want is not None
    assert (want.places, want.limit) == (0, 9)


def test_after_a_claim_that_came_too_late_a_lane_asks_earlier_and_for_twice_as_many() -> None:
    one = lane(2)
    assert one.want() is not None
    one.ended = 3
    one.slots.give_back(2)
    one.claimed(may_be_more=True)
    assert one.slots.take(2) == 2
    line_of(one, 7)
    assert not one.runs_low()
    line_of(one, 6)
    want = one.want()
    assert want is not None
    assert (want.places, want.limit) == (0, 6)


def test_a_lane_asks_ever_earlier_while_claims_come_too_late() -> None:
    one = lane(2)
    for expected in (6, 12, 24):
        one.ready.clear()
        assert one.want() is not None
        one.ended += 3 if expected == 6 else 1
        one.slots.give_back(2)
        one.claimed(may_be_more=True)
        line_of(one, expected)
        assert one.runs_low()
        line_of(one, expected + 1)
        assert not one.runs_low()
        one.ended += 1


def test_free_slots_alone_do_not_make_a_lane_ask_for_twice_as_many() -> None:
    one = lane(2)
    assert one.want() is not None
    one.slots.give_back(2)
    one.claimed(may_be_more=True)
    one.ended = 3
    want = one.want()
    assert want is not None
    assert (want.places, want.limit) == (2, 5)


def test_where_nothing_ends_during_a_claim_a_lane_asks_only_for_free_slots() -> None:
    one = lane(2)
    assert one.want() is not None
    one.claimed(may_be_more=True)
    one.ended = 1
    line_of(one, 1)
    assert one.want() is None
    one.ready.clear()
    one.slots.give_back()
    want = one.want()
    assert want is not None
    assert (want.places, want.limit) == (1, 2)


def test_there_is_a_limit_to_how_many_are_wanted_ahead() -> None:
    one = lane(2)
    one.ended = 10_000
    want = one.want()
    assert want is not None
    assert want.limit == 2 + 96
    one.ended = 20_000
    one.slots.give_back(2)
    one.claimed(may_be_more=True)
    assert one.slots.take(2) == 2
    line_of(one, 97)
    assert one.want() is None
    line_of(one, 96)
    want = one.want()
    assert want is not None
    assert want.limit == 96


def test_those_stay_in_a_lane_for_whom_there_will_be_a_slot_soon() -> None:
    one = lane(2)
    one.slots.take(2)
    one.ended = 3
    one.ready.extend(Ready(claimed_job(number)) for number in range(1, 6))
    assert one.late() == [job_id(4), job_id(5)]
    one.ended = 4
    assert one.late() == [job_id(2), job_id(3)]
    one.slots.give_back()
    assert one.late() == []
    one.slots.take()
    assert one.late() == [job_id(1)]
    assert one.late() == []


def test_a_lane_takes_no_more_when_others_have_waited_longer_or_too_many_wait() -> None:
    one = lane()
    assert not one.takes()
    one.due = False
    assert one.takes()
    one.ready.extend(Ready(claimed_job(number)) for number in range(200))
    one.behind.extend(Ready(claimed_job(number)) for number in range(56))
    assert not one.takes()
    none = lane(0)
    none.due = False
    assert not none.takes()


def test_those_that_come_during_a_claim_wait_behind_what_it_brings() -> None:
    one = lane()
    assert one.want() is not None
    assert one.claiming
    one.behind.append(Ready(claimed_job(2)))
    one.ready.append(Ready(claimed_job(1)))
    assert one.claimed(may_be_more=False) == []
    assert [ready.job.id for ready in one.ready] == [job_id(1), job_id(2)]
    assert (one.due, one.claiming, one.behind) == (False, False, [])


def test_those_that_come_during_a_claim_go_back_when_more_may_have_waited_longer() -> None:
    one = lane()
    one.want()
    one.behind.append(Ready(claimed_job(2)))
    assert one.claimed(may_be_more=True) == [job_id(2)]
    assert (one.due, one.claiming, one.behind) == (True, False, [])


def test_a_lane_gives_back_what_was_claimed_ahead() -> None:
    one = lane()
    one.ready.append(Ready(claimed_job(1)))
    one.behind.append(Ready(claimed_job(2)))
    assert one.drain() == [job_id(1), job_id(2)]
    assert not one.ready
    assert not one.behind
