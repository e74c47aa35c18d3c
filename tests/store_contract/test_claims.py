"""Who gets which job, and in which order.

What lives here: claims. What does not: what becomes of a claimed job (`test_transitions.py`).
Called by pytest, for each kind of store.
"""

from __future__ import annotations

import itertools
import random

import pytest

from embedded_tasks.job import ClaimedJob, Interrupted, JobState, Snoozed
from embedded_tasks.store import Act, Claim, Recovery, Store
from tests.support.jobs import ME, NOW, OTHER, job_id, new_job, running_job, settled
from tests.support.stores import claim, claim_all, record, write

pytestmark = pytest.mark.anyio


def numbers(jobs: list[ClaimedJob]) -> list[int]:
    return [int(job.id[-12:], 16) for job in jobs]


async def test_jobs_are_claimed_by_priority_then_due_time_then_age(store: Store) -> None:
    keys = list(itertools.product([-1, 0, 5], [NOW - 2, NOW - 1, NOW], [0, 1]))
    order = random.Random(7).sample(range(len(keys)), len(keys))
    await store.insert([new_job(n, priority=keys[n][0], due_at=keys[n][1]) for n in order])
    age = {n: order.index(n) for n in order}
    wanted = sorted(order, key=lambda n: (-keys[n][0], keys[n][1], age[n]))
    assert numbers(await claim_all(store)) == wanted


async def test_a_short_claim_takes_the_first_ones_in_that_order(store: Store) -> None:
    keys = [(0, NOW), (5, NOW), (5, NOW - 1), (0, NOW - 1), (7, NOW)]
    await store.insert([new_job(n, priority=p, due_at=due) for n, (p, due) in enumerate(keys)])
    taken = [numbers(await claim_all(store, limit=1)) for _ in range(6)]
    assert taken == [[4], [2], [1], [3], [0], []]


async def test_due_jobs_of_a_low_priority_are_not_hidden_by_future_ones_of_a_high_one(
    store: Store,
) -> None:
    future = [new_job(n, priority=9, due_at=NOW + 60) for n in range(300)]
    await store.insert([*future, new_job(999, priority=-3)])
    result = await claim(store, limit=10)
    assert numbers(result.jobs) == [999]
    assert result.wake_at == NOW + 60


async def test_a_job_is_claimed_when_it_is_due_and_not_before(store: Store) -> None:
    await store.insert([new_job(1, due_at=NOW + 10)])
    assert await claim_all(store, now=NOW + 9.999) == []
    assert numbers(await claim_all(store, now=NOW + 10)) == [1]


async def test_no_more_are_claimed_than_were_asked_for(store: Store) -> None:
    await store.insert([new_job(n) for n in range(10)])
    assert len(await claim_all(store, limit=3)) == 3
    assert len(await claim_all(store, limit=100)) == 7


async def test_unknown_tasks_are_neither_claimed_nor_waited_for(store: Store) -> None:
    await store.insert([new_job(1, task="shop:lost", priority=9), new_job(2, task="shop:send")])
    await store.insert([new_job(3, task="shop:lost", due_at=NOW + 5)])
    result = await claim(store, tasks=["shop:send"])
    assert numbers(result.jobs) == [2]
    assert result.wake_at is None
    assert (await record(store, 1)).state is JobState.QUEUED


async def test_a_claim_tells_of_task_names_that_are_new(store: Store) -> None:
    await store.insert([new_job(1, task="shop:one")])
    await store.insert([new_job(2, task="shop:two")])
    result = await store.claim(Claim(ME, NOW, [], {}, seen=1))
    assert result.new_tasks == [(2, "shop:two")]
    assert result.jobs == []


async def test_each_group_of_tasks_has_a_limit_of_its_own(store: Store) -> None:
    await store.insert([new_job(n, task="shop:async") for n in range(5)])
    await store.insert([new_job(n, task="shop:sync") for n in range(5, 10)])
    names = await store.read.task_names()
    groups = [([number], 1 + place) for place, number in enumerate(sorted(names))]
    result = await store.claim(Claim(ME, NOW, groups, names, max(names)))
    assert sorted(job.task for job in result.jobs) == ["shop:async", "shop:sync", "shop:sync"]


async def test_a_claimed_job_is_this_process_s_and_its_attempt_is_counted(store: Store) -> None:
    await store.insert([new_job(1, queue="mail", request_id="r1", traceparent="t1")])
    (job,) = await claim_all(store, now=NOW + 3)
    assert (job.attempt, job.queue, job.request_id, job.traceparent) == (1, "mail", "r1", "t1")
    kept = await record(store, 1)
    assert (kept.state, kept.owner, kept.attempt, kept.started_at) == ("running", ME, 1, NOW + 3)


async def test_reserved_and_blocked_jobs_are_nobody_else_s(store: Store) -> None:
    leader = running_job(1, leads=True)
    follower = new_job(2, owner=ME, after=leader.id)
    await store.insert([leader, follower])
    assert await claim_all(store, owner=OTHER) == []


async def test_a_thousand_jobs_are_claimed_by_two_processes_each_once(store: Store) -> None:
    for start in range(0, 1000, 250):
        await store.insert([new_job(n) for n in range(start, start + 250)])
    taken: dict[str, list[int]] = {ME: [], OTHER: []}
    for owner, limit in zip(
        itertools.cycle([ME, OTHER]), itertools.cycle([7, 13, 1]), strict=False
    ):
        got = numbers(await claim_all(store, owner=owner, limit=limit))
        if not got:
            break
        taken[owner] += got
    assert sorted(taken[ME] + taken[OTHER]) == list(range(1000))
    assert taken[ME]
    assert taken[OTHER]


async def test_a_claim_expires_what_is_too_late_and_says_when_the_next_one_is(
    store: Store,
) -> None:
    await store.insert([new_job(1, start_by=NOW + 5), new_job(2, start_by=NOW + 20)])
    result = await claim(store, now=NOW + 5, limit=0)
    assert result.expired == [job_id(1)]
    assert result.wake_at is not None
    assert result.wake_at <= NOW + 20
    assert (await record(store, 1)).state is JobState.EXPIRED


async def test_the_next_due_time_is_the_earliest_of_all_priorities(store: Store) -> None:
    await store.insert(
        [new_job(1, priority=9, due_at=NOW + 50), new_job(2, priority=0, due_at=NOW + 30)]
    )
    assert (await claim(store)).wake_at == NOW + 30


async def make_suspects(store: Store, *which: int) -> None:
    ids = ", ".join(f"'{job_id(number)}'" for number in which)
    await write(store, f"UPDATE jobs SET crashes = 2 WHERE id IN ({ids})")


async def test_one_suspect_is_claimed_at_a_time_and_innocents_beside_it(store: Store) -> None:
    await store.insert([new_job(n, due_at=NOW - n) for n in range(6)])
    await make_suspects(store, 1, 2)
    first = await claim_all(store)
    assert sorted(numbers(first)) == [0, 2, 3, 4, 5]
    assert [job.crashes for job in first if job.id == job_id(2)] == [2]
    assert await claim_all(store, suspects=False) == []
    assert numbers(await claim_all(store)) == [1]


async def test_a_suspect_that_is_due_later_is_waited_for(store: Store) -> None:
    await store.insert([new_job(1, due_at=NOW + 40)])
    await make_suspects(store, 1)
    assert (await claim(store)).wake_at == NOW + 40
    assert (await claim(store, suspects=False)).wake_at is None


async def test_a_suspect_that_may_not_start_yet_is_waited_for(store: Store) -> None:
    await store.insert([new_job(1)])
    await make_suspects(store, 1)
    names = await store.read.task_names()
    asked = Claim(ME, NOW, [(list(names), 10)], names, max(names), no_suspect_before=NOW + 1)
    result = await store.claim(asked)
    assert (result.jobs, result.wake_at) == ([], NOW + 1)


@pytest.mark.parametrize("paused", [False, True], ids=["", "beside a paused queue"])
async def test_a_suspect_that_has_one_chance_left_may_have_to_wait_longer(
    store: Store, paused: bool
) -> None:
    if paused:
        await store.steering.pause(Act(NOW, "ada", "pause", "another"))
    await store.insert([new_job(1), new_job(2, due_at=NOW + 1)])
    await make_suspects(store, 1, 2)
    await write(store, f"UPDATE jobs SET crashes = 3 WHERE id = '{job_id(1)}'")
    names = await store.read.task_names()

    async def ask(now: float) -> tuple[list[int], float | None]:
        result = await store.claim(
            Claim(
                ME,
                now,
                [(list(names), 10)],
                names,
                max(names),
                no_suspect_before=NOW + 2,
                no_last_chance_before=NOW + 3,
            )
        )
        return numbers(result.jobs), result.wake_at

    assert await ask(NOW + 1) == ([], NOW + 2)
    assert (await ask(NOW + 2))[0] == [2]
    assert await ask(NOW + 2) == ([], NOW + 3)
    assert (await ask(NOW + 3))[0] == [1]


async def test_one_job_is_found_behind_one_of_another_task(store: Store) -> None:
    await store.insert([new_job(1, task="shop:other", due_at=NOW - 1), new_job(2)])
    assert numbers(await claim_all(store, tasks=["shop:send"], limit=1)) == [2]


async def test_a_suspect_counts_against_the_limit(store: Store) -> None:
    await store.insert([new_job(n) for n in range(4)])
    await make_suspects(store, 3)
    assert len(await claim_all(store, limit=2)) == 2


async def test_an_acquitted_job_is_no_suspect_any_more(store: Store) -> None:
    await store.insert([new_job(1), new_job(2)])
    await make_suspects(store, 1, 2)
    (job,) = await claim_all(store)
    await store.acquit(job.id, OTHER)
    assert (await record(store, 1)).crashes == 2
    await store.acquit(job.id, ME)
    assert (await record(store, 1)).crashes == 0


@pytest.mark.parametrize("outcome", [Snoozed(0.0, ""), Interrupted()])
async def test_a_job_that_goes_back_can_be_claimed_again(
    store: Store, outcome: Snoozed | Interrupted
) -> None:
    await store.insert([new_job(1)])
    (job,) = await claim_all(store)
    await store.settle([settled(job, outcome)])
    (again,) = await claim_all(store, now=NOW + 1, owner=OTHER)
    assert again.attempt == 2


async def test_a_recovered_job_can_be_claimed_again(store: Store) -> None:
    await store.insert([running_job(1)])
    row = Recovery(
        id=job_id(1), attempt=1, owner=ME, state=JobState.QUEUED, outcome="crashed", crashed=1,
        reason="died", held_for=None, now=NOW, prune_at=None, error_type="ProcessDied",
        error_message="died", unblocks=False,
    )  # fmt: skip  # all columns
    await store.recover(ME, [], [row], NOW)
    (job,) = await claim_all(store, owner=OTHER)
    assert (job.attempt, job.crashes) == (2, 1)
