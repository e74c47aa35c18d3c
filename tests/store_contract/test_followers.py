"""The jobs of one request, in the store: each may be claimed when the one before it has gone.

What lives here: what sets a follower free, and what does not. What does not: starting them
(`tests/unit/test_chain.py`). Called by pytest, for each store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from embedded_tasks.job import (
    AttemptError,
    Cancelled,
    Expired,
    Failed,
    Held,
    Interrupted,
    JobState,
    Outcome,
    RetryLater,
    Snoozed,
    Succeeded,
)
from embedded_tasks.store import Recovery, Store
from tests.support.jobs import ME, NOW, OTHER, claimed_job, job_id, new_job, running_job, settled
from tests.support.stores import claim_all, record

pytestmark = pytest.mark.anyio

ERROR = AttemptError("ValueError", "bad")


async def request(store: Store, *, reserved: bool = True, **leader: Any) -> None:
    """Store a leader and its follower; without `reserved`, their process has given them away."""
    await store.insert(
        [
            running_job(1, leads=True, **leader),
            new_job(2, owner=ME, after=job_id(1), leads=True),
            new_job(3, owner=ME, after=job_id(2)),
        ]
    )
    if not reserved:
        await store.release([job_id(n) for n in (1, 2, 3)], ME, NOW)


async def free(store: Store) -> list[str]:
    return [job.id for job in await claim_all(store, owner=OTHER)]


async def test_released_followers_wait_for_their_leader_and_come_one_after_another(
    store: Store,
) -> None:
    await request(store, reserved=False)
    for number in (1, 2, 3):
        (job,) = await claim_all(store, owner=OTHER)
        assert job.id == job_id(number)
        assert job.leads == (number < 3)
        await store.settle([settled(job, Succeeded("[1,1]"), owner=OTHER)])
    assert await free(store) == []


@pytest.mark.parametrize(
    "outcome",
    [
        Succeeded("[1,1]"),
        RetryLater(60, ERROR),
        Snoozed(60, ""),
        Failed("bad", ERROR),
        Cancelled("x"),
        Expired("x"),
        Held("x", "arguments"),
    ],
)
async def test_any_end_of_the_first_attempt_sets_the_next_one_free(
    store: Store, outcome: Outcome
) -> None:
    await request(store)
    await store.release([job_id(2), job_id(3)], ME, NOW)
    await store.settle([settled(claimed_job(1, leads=True), outcome)])
    assert await free(store) == [job_id(2)]


async def test_an_interrupted_attempt_sets_nobody_free(store: Store) -> None:
    await request(store)
    await store.release([job_id(2), job_id(3)], ME, NOW)
    await store.settle([settled(claimed_job(1, leads=True), Interrupted())])
    assert await free(store) == [job_id(1)]


async def test_an_outcome_that_is_not_ours_any_more_sets_nobody_free(store: Store) -> None:
    await request(store, reserved=False)
    await claim_all(store, owner=OTHER)
    assert not await store.settle([settled(claimed_job(1, leads=True), Succeeded("[1,1]"))])
    assert await free(store) == []


async def cancel(store: Store) -> object:
    return await store.cancel(job_id(1), "no need", NOW)


async def expire(store: Store) -> object:
    return await store.expire(NOW + 5)


async def hold(store: Store) -> object:
    await store.add_process(ME, 1, NOW, runs_jobs=True)
    names = await store.read.task_names()
    return await store.hold_unknown(ME, [n for n, name in names.items() if name == "shop:first"])


async def claim_too_late(store: Store) -> object:
    return await claim_all(store, owner=ME, now=NOW + 5, limit=0)


@pytest.mark.parametrize("end", [cancel, expire, hold, claim_too_late])
async def test_any_end_of_a_waiting_leader_sets_the_next_one_free(
    store: Store, end: Callable[[Store], Awaitable[object]]
) -> None:
    await request(store, reserved=False, task="shop:first", start_by=NOW + 5)
    await end(store)
    assert (await record(store, 1)).state is not JobState.QUEUED
    assert [job.id for job in await claim_all(store, now=NOW + 5)] == [job_id(2)]


def recovery(state: JobState, *, unblocks: bool) -> Recovery:
    return Recovery(
        id=job_id(1), attempt=1, owner=ME, state=state, outcome="crashed", crashed=1,
        reason="died", held_for="crash" if state is JobState.HELD else None, now=NOW,
        prune_at=None, error_type="ProcessDied", error_message="died", unblocks=unblocks,
    )  # fmt: skip  # all columns


async def test_a_leader_that_its_recovery_holds_sets_the_next_one_free(store: Store) -> None:
    await request(store)
    ids = [job_id(2), job_id(3)]
    await store.recover(ME, ids, [recovery(JobState.HELD, unblocks=True)], NOW)
    assert await free(store) == [job_id(2)]


async def test_a_leader_that_is_recovered_still_goes_first(store: Store) -> None:
    await request(store)
    ids = [job_id(2), job_id(3)]
    await store.recover(ME, ids, [recovery(JobState.QUEUED, unblocks=False)], NOW)
    assert await free(store) == [job_id(1)]


async def test_a_released_leader_that_was_to_be_cancelled_sets_the_next_one_free(
    store: Store,
) -> None:
    await request(store)
    await store.cancel(job_id(1), "no need", NOW)
    assert await store.release([job_id(n) for n in (1, 2, 3)], ME, NOW) == [job_id(1)]
    assert await free(store) == [job_id(2)]


async def test_a_follower_that_is_cancelled_sets_the_one_behind_it_free(store: Store) -> None:
    await request(store)
    await store.release([job_id(2), job_id(3)], ME, NOW)
    assert (await store.cancel(job_id(2), "no need", NOW))[0] == "cancelled"
    assert await free(store) == [job_id(3)]


async def test_a_retry_by_hand_waits_for_nobody(store: Store) -> None:
    await request(store)
    await store.cancel(job_id(3), "no need", NOW)
    assert await store.retry(job_id(3), NOW)
    assert await free(store) == [job_id(3)]
