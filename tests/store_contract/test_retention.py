"""The file does not grow without end: finished jobs leave it when their time is over.

What lives here: what is removed, what is kept, and the size of a batch. What does not: the loop
that asks for it (`tests/unit/test_pruner.py`). Called by pytest, for each store.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from embedded_tasks.config import Retention
from embedded_tasks.job import (
    AttemptError,
    Cancelled,
    Expired,
    Failed,
    Held,
    JobState,
    Outcome,
    RetryLater,
    Succeeded,
)
from embedded_tasks.settling import Times, settlement
from embedded_tasks.store import Store
from tests.support.jobs import ME, NOW, claimed_job, job_id, new_job, running_job
from tests.support.stores import claim_all, rows

pytestmark = pytest.mark.anyio

KEEP = Retention(succeeded=10, failed=timedelta(seconds=20), cancelled=30, expired=40)
ENDS: dict[str, tuple[Outcome, float]] = {
    "succeeded": (Succeeded("[1,1]"), 10),
    "failed": (Failed("bad", AttemptError("ValueError", "bad")), 20),
    "cancelled": (Cancelled("no need"), 30),
    "expired": (Expired("late"), 40),
}
AFTER = pytest.mark.parametrize(("outcome", "kept"), ENDS.values(), ids=ENDS.keys())


async def end(store: Store, number: int, outcome: Outcome) -> None:
    await store.insert([running_job(number)])
    row = settlement(claimed_job(number), ME, outcome, Times(NOW, NOW), KEEP)
    await store.settle([row])


@AFTER
async def test_a_finished_job_is_kept_as_long_as_its_state_says(
    store: Store, outcome: Outcome, kept: float
) -> None:
    await end(store, 1, outcome)
    assert await store.read.next_prune() == NOW + kept
    assert await store.prune(NOW + kept - 0.001) == 0
    assert await store.prune(NOW + kept) == 1
    assert await store.read.get(job_id(1), NOW) is None


async def test_the_attempts_go_with_their_job(store: Store) -> None:
    await store.insert([running_job(1)])
    error = AttemptError("ValueError", "bad", "Traceback ...")
    again = settlement(claimed_job(1), ME, RetryLater(0, error), Times(NOW, NOW), KEEP)
    await store.settle([again])
    (job,) = await claim_all(store)
    await store.settle([settlement(job, ME, Failed("bad", error), Times(NOW, NOW), KEEP)])
    assert await rows(store, "SELECT count(*) FROM attempts") == [(2,)]
    assert await store.prune(NOW + 1000) == 1
    assert await rows(store, "SELECT count(*) FROM attempts") == [(0,)]


async def test_held_waiting_and_running_jobs_are_never_removed(store: Store) -> None:
    await end(store, 1, Held("died", "crash"))
    await store.insert([running_job(2), new_job(3), new_job(4, owner=ME)])
    assert await store.prune(NOW + 10**9) == 0
    assert await store.read.next_prune() is None


@pytest.mark.parametrize("state", ["cancelled", "expired"])
async def test_what_ended_while_it_waited_is_removed_too(store: Store, state: str) -> None:
    await store.insert([new_job(1, start_by=NOW + 1)])
    if state == "cancelled":
        await store.cancel(job_id(1), "no need", NOW + 1)
    else:
        await store.expire(NOW + 1)
    week = 7 * 86400.0
    assert await store.read.next_prune() == NOW + 1 + week
    assert await store.prune(NOW + 1 + week) == 1


async def test_removal_goes_in_batches(store: Store) -> None:
    await store.insert([running_job(n) for n in range(900)])
    ended = [
        settlement(claimed_job(n), ME, Succeeded("[1,1]"), Times(NOW, NOW), KEEP)
        for n in range(900)
    ]
    await store.settle(ended)
    assert await store.prune(NOW + 10) == 500
    assert (await store.read.counts())[JobState.SUCCEEDED] == 400
    assert await store.prune(NOW + 10) == 400
    assert await store.prune(NOW + 10) == 0
