"""Every change of a job's state: who may make it, and what it leaves.

What lives here: each transition with its guard. What does not: claims (`test_claims.py`) and what
follows for the next job of a request (`test_followers.py`). Called by pytest, for each store.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from embedded_tasks.job import (
    AttemptError,
    Cancelled,
    ClaimedJob,
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
from tests.support.stores import claim_all, record, write

pytestmark = pytest.mark.anyio

ERROR = AttemptError("ValueError", "bad", "Traceback ...")
OUTCOMES: list[tuple[Outcome, str, str, dict[str, Any]]] = [
    (Succeeded("[1,5]"), "succeeded", "succeeded", {"result": "[1,5]", "reason": None}),
    (Succeeded(None, "too odd"), "succeeded", "succeeded", {"result": None, "reason": "too odd"}),
    (RetryLater(9, ERROR), "queued", "retry", {"due_at": NOW + 10, "failures": 1}),
    (Snoozed(9, "later"), "queued", "snoozed", {"due_at": NOW + 10, "snoozes": 1, "failures": 0}),
    (Failed("bad", ERROR), "failed", "failed", {"reason": "bad", "failures": 1}),
    (Cancelled("no need"), "cancelled", "cancelled", {"reason": "no need", "failures": 0}),
    (Expired("late"), "expired", "expired", {"reason": "late", "failures": 0}),
    (Interrupted(), "queued", "interrupted", {"due_at": NOW, "failures": 0}),
    (Held("gone", "arguments"), "held", "held", {"reason": "gone", "failures": 0}),
]
BY_NAME = pytest.mark.parametrize(
    ("outcome", "state", "name", "kept"), OUTCOMES, ids=[str(case[0])[:20] for case in OUTCOMES]
)


def recovery(number: int = 1, **changes: Any) -> Recovery:
    values: dict[str, Any] = {
        "id": job_id(number), "attempt": 1, "owner": ME, "state": JobState.QUEUED,
        "outcome": "crashed", "crashed": 1, "reason": "died", "held_for": None, "now": NOW + 1,
        "prune_at": None, "error_type": "ProcessDied", "error_message": "died", "unblocks": False,
    }  # fmt: skip  # all columns
    return Recovery(**values | changes)


@BY_NAME
async def test_an_outcome_is_written_as_it_is_told(
    store: Store, outcome: Outcome, state: str, name: str, kept: dict[str, Any]
) -> None:
    await store.insert([running_job(1)])
    assert await store.settle([settled(claimed_job(), outcome)]) == {job_id(1): False}
    job = await record(store, 1)
    assert (job.state, job.owner, job.attempt) == (state, None, 1)
    assert {field: getattr(job, field) for field in kept} == kept
    (attempt,) = job.attempts
    assert (attempt.number, attempt.outcome) == (1, name)
    assert (attempt.started_at, attempt.ended_at) == (NOW, NOW + 1)
    assert (job.finished_at is not None) == (
        state in ("succeeded", "failed", "cancelled", "expired")
    )


async def test_an_error_is_kept_with_its_attempt(store: Store) -> None:
    await store.insert([running_job(1)])
    await store.settle([settled(claimed_job(), RetryLater(0, ERROR))])
    (job,) = await claim_all(store, now=NOW + 5)
    await store.settle([settled(job, Succeeded("[1,1]"))])
    attempts = (await record(store, 1)).attempts
    assert [(item.number, item.outcome, item.error) for item in attempts] == [
        (1, "retry", ERROR),
        (2, "succeeded", None),
    ]


async def test_many_outcomes_are_written_together(store: Store) -> None:
    await store.insert([running_job(n) for n in range(len(OUTCOMES))])
    batch = [settled(claimed_job(n), case[0]) for n, case in enumerate(OUTCOMES)]
    assert len(await store.settle(batch)) == len(OUTCOMES)
    states = [(await record(store, n)).state for n in range(len(OUTCOMES))]
    assert states == [case[1] for case in OUTCOMES]


@pytest.mark.parametrize("changes", [{"owner": OTHER}, {"number": 2}, {"number": 0}])
async def test_an_outcome_of_somebody_else_s_attempt_changes_nothing(
    store: Store, changes: dict[str, Any]
) -> None:
    await store.insert([running_job(1)])
    before = await record(store, 1)
    job = claimed_job(1, attempt=changes.get("number", 1))
    owner = changes.get("owner", ME)
    assert await store.settle([settled(job, Failed("no", ERROR), owner=owner)]) == {}
    assert await record(store, 1) == before


async def test_of_many_outcomes_those_of_our_attempts_are_told(store: Store) -> None:
    await store.insert([running_job(1), running_job(2), running_job(3, owner=OTHER)])
    batch = [settled(claimed_job(number), Succeeded("[1,1]")) for number in (1, 2, 3)]
    assert await store.settle(batch) == {job_id(1): False, job_id(2): False}
    assert (await record(store, 3)).state is JobState.RUNNING


async def test_an_outcome_is_written_once(store: Store) -> None:
    await store.insert([running_job(1)])
    await store.settle([settled(claimed_job(), Succeeded("[1,1]"))])
    before = await record(store, 1)
    assert await store.settle([settled(claimed_job(), Failed("no", ERROR))]) == {}
    assert await record(store, 1) == before


# Reserved jobs.


async def test_a_reserved_job_begins_for_its_owner_only(store: Store) -> None:
    await store.insert([running_job(1, leads=True), new_job(2, owner=ME, after=job_id(1))])
    assert await store.begin([job_id(2)], OTHER, NOW) == set()
    assert (await record(store, 2)).attempt == 0
    assert await store.begin([job_id(2)], ME, NOW + 2) == {job_id(2)}
    job = await record(store, 2)
    assert (job.state, job.attempt, job.started_at) == ("running", 1, NOW + 2)
    assert await store.begin([job_id(2)], ME, NOW) == set()


async def test_what_never_started_goes_to_everybody_uncharged(store: Store) -> None:
    await store.insert([running_job(1), new_job(2, owner=ME)])
    await store.release([job_id(1), job_id(2)], ME, NOW)
    for number in (1, 2):
        job = await record(store, number)
        assert (job.state, job.owner, job.attempt) == ("queued", None, 0)
        assert (job.started_at, job.attempts) == (None, ())
    assert [job.attempt for job in await claim_all(store, owner=OTHER)] == [1, 1]


async def test_nobody_releases_the_jobs_of_another_process(store: Store) -> None:
    await store.insert([running_job(1)])
    await store.release([job_id(1)], OTHER, NOW)
    assert (await record(store, 1)).owner == ME


async def test_a_job_that_is_to_be_cancelled_is_cancelled_when_it_is_released(
    store: Store,
) -> None:
    await store.insert([running_job(1), running_job(2)])
    assert await store.cancel(job_id(1), "no need", NOW) == ("requested", ME)
    await store.release([job_id(1), job_id(2)], ME, NOW)
    assert (await record(store, 1)).state is JobState.CANCELLED
    assert (await record(store, 1)).reason == "no need"
    assert (await record(store, 2)).state is JobState.QUEUED


# Recovery.


@pytest.mark.parametrize(
    ("state", "more"),
    [
        (JobState.QUEUED, {}),
        (JobState.HELD, {"held_for": "crash"}),
        (JobState.FAILED, {"prune_at": NOW + 100}),
    ],
)
async def test_a_dead_process_s_job_becomes_what_was_decided(
    store: Store, state: JobState, more: dict[str, Any]
) -> None:
    await store.insert([running_job(1)])
    await store.recover(ME, [], [recovery(state=state, **more)], NOW)
    job = await record(store, 1)
    assert (job.state, job.owner, job.crashes, job.reason) == (state, None, 1, "died")
    (attempt,) = job.attempts
    assert (attempt.number, attempt.outcome, attempt.started_at) == (1, "crashed", NOW)
    assert attempt.error == AttemptError("ProcessDied", "died", None)


@pytest.mark.parametrize("changes", [{"owner": OTHER}, {"attempt": 2}])
async def test_a_job_is_recovered_only_from_the_attempt_that_died(
    store: Store, changes: dict[str, Any]
) -> None:
    await store.insert([running_job(1)])
    before = await record(store, 1)
    await store.recover(ME, [], [recovery(**changes)], NOW)
    assert await record(store, 1) == before


async def test_a_recovery_releases_what_had_not_started_and_forgets_the_process(
    store: Store,
) -> None:
    await store.add_process(ME, 4711, NOW, runs_jobs=True)
    await store.insert([running_job(1), running_job(2), new_job(3, owner=ME, after=job_id(1))])
    assert len(await store.read.owned(ME)) == 3
    assert await store.read.owners() == [ME]
    await store.recover(ME, [job_id(2), job_id(3)], [recovery(1)], NOW)
    assert await store.read.owned(ME) == []
    assert await store.read.owners() == []
    assert [(await record(store, n)).attempt for n in (1, 2, 3)] == [1, 0, 0]


async def test_a_cancellation_outlives_the_process_that_was_asked_for_it(store: Store) -> None:
    await store.insert([running_job(1)])
    await store.cancel(job_id(1), "no need", NOW)
    await store.recover(ME, [], [recovery(1)], NOW)
    assert (await record(store, 1)).state is JobState.CANCELLED


# Cancelling.


@pytest.mark.parametrize("state", [JobState.HELD, JobState.FAILED])
async def test_a_request_to_cancel_ends_with_the_job_that_it_came_too_late_for(
    store: Store, state: JobState
) -> None:
    await store.insert([running_job(1)])
    await store.cancel(job_id(1), "no need", NOW)
    held_for = "crash" if state is JobState.HELD else None
    await store.recover(ME, [], [recovery(state=state, held_for=held_for)], NOW)
    job = await record(store, 1)
    assert (job.state, job.cancel_requested) == (state, False)
    assert await store.retry(job_id(1), NOW)
    assert len(await claim_all(store)) == 1


async def test_a_waiting_job_is_cancelled_at_once(store: Store) -> None:
    await store.insert([new_job(1), new_job(2, owner=ME, after=job_id(9))])
    for number in (1, 2):
        assert await store.cancel(job_id(number), "no need", NOW + 3) == ("cancelled", None)
        job = await record(store, number)
        assert (job.state, job.reason, job.finished_at) == ("cancelled", "no need", NOW + 3)
        assert job.owner is None


async def test_a_running_job_s_process_is_asked(store: Store) -> None:
    await store.insert([running_job(1)])
    assert await store.cancel(job_id(1), "no need", NOW) == ("requested", ME)
    assert (await record(store, 1)).cancel_requested
    assert await store.read.cancel_requests(ME) == [(job_id(1), 1, "no need")]
    assert await store.read.cancel_requests(OTHER) == []


async def test_a_finished_job_and_an_unknown_one_are_left_as_they_are(store: Store) -> None:
    await store.insert([running_job(1)])
    await store.settle([settled(claimed_job(), Succeeded("[1,1]"))])
    before = await record(store, 1)
    assert await store.cancel(job_id(1), "no need", NOW) == ("unchanged", None)
    assert await store.cancel(job_id(99), "no need", NOW) == ("unchanged", None)
    assert await record(store, 1) == before


@pytest.mark.parametrize("outcome", [RetryLater(5, ERROR), Snoozed(5, ""), Interrupted()])
async def test_a_job_that_is_to_be_cancelled_does_not_come_again(
    store: Store, outcome: Outcome
) -> None:
    await store.insert([running_job(1)])
    await store.cancel(job_id(1), "no need", NOW)
    assert await store.settle([settled(claimed_job(), outcome)]) == {job_id(1): True}
    assert (await record(store, 1)).state is JobState.CANCELLED


async def test_a_job_that_came_to_its_end_before_it_was_cancelled_keeps_it(store: Store) -> None:
    await store.insert([running_job(1)])
    await store.cancel(job_id(1), "no need", NOW)
    await store.settle([settled(claimed_job(), Succeeded("[1,1]"))])
    job = await record(store, 1)
    assert (job.state, job.reason, job.cancel_requested) == ("succeeded", None, False)


# Retrying by hand.


async def finish(store: Store, outcome: Outcome, **changes: Any) -> None:
    await store.insert([running_job(1, **changes)])
    await store.settle([settled(claimed_job(), outcome)])


@pytest.mark.parametrize(
    "outcome",
    [Succeeded("[1,1]"), Failed("bad", ERROR), Cancelled("x"), Expired("x"), Held("x", "crash")],
)
async def test_a_retry_by_hand_resets_the_counters_and_keeps_the_history(
    store: Store, outcome: Outcome
) -> None:
    await finish(store, outcome, finish_by=NOW + 50)
    before = (await record(store, 1)).attempts
    assert await store.retry(job_id(1), NOW + 100)
    job = await record(store, 1, now=NOW + 100)
    assert (job.state, job.due_at, job.failures, job.crashes) == ("queued", NOW + 100, 0, 0)
    assert (job.reason, job.result, job.finished_at, job.finish_by) == (None, None, None, None)
    assert job.attempts == before
    assert before[0].number == 1
    (again,) = await claim_all(store, now=NOW + 100)
    assert again.attempt == 2


@pytest.mark.parametrize("job", [new_job(1), running_job(1)])
async def test_a_job_that_waits_or_runs_is_not_retried_by_hand(store: Store, job: Any) -> None:
    await store.insert([job])
    before = await record(store, 1)
    assert not await store.retry(job_id(1), NOW + 100)
    assert await record(store, 1) == before


async def test_a_job_retried_by_hand_is_not_removed_by_retention(store: Store) -> None:
    await finish(store, Failed("bad", ERROR))
    await store.retry(job_id(1), NOW)
    assert await store.prune(NOW + 10**9) == 0


# Expiry.


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        ({"start_by": NOW + 5}, "start_within"),
        ({"finish_by": NOW + 5}, "finish_within"),
        ({"start_by": NOW + 5, "finish_by": NOW + 9}, "start_within"),
        ({"start_by": NOW + 9, "finish_by": NOW + 5}, "finish_within"),
    ],
)
async def test_a_waiting_job_expires_when_its_time_has_passed(
    store: Store, limits: dict[str, float], word: str
) -> None:
    await store.insert([new_job(1, **limits)])
    assert await store.expire(NOW + 4.999) == []
    assert await store.expire(NOW + 5) == [job_id(1)]
    job = await record(store, 1)
    assert (job.state, job.finished_at) == ("expired", NOW + 5)
    assert word in (job.reason or "")


async def test_running_reserved_and_held_jobs_do_not_expire_in_the_store(store: Store) -> None:
    late = {"finish_by": NOW + 1}
    await store.insert([running_job(1, **late), new_job(2, owner=ME, **late)])
    await store.insert([running_job(3, **late)])
    await store.settle([settled(claimed_job(3), Held("x", "crash"), at=NOW)])
    assert await store.expire(NOW + 100) == []


async def test_after_the_first_attempt_only_finish_within_counts(store: Store) -> None:
    await store.insert([running_job(1, start_by=NOW + 1, finish_by=NOW + 50)])
    await store.settle([settled(claimed_job(), RetryLater(0, ERROR))])
    assert await store.expire(NOW + 49) == []
    assert await store.expire(NOW + 50) == [job_id(1)]
    assert "finish_within" in ((await record(store, 1)).reason or "")


# Held for want of code.


async def test_jobs_are_held_when_no_living_process_knows_their_task(store: Store) -> None:
    await store.add_process(ME, 1, NOW, runs_jobs=True)
    await store.add_process(OTHER, 2, NOW, runs_jobs=True)
    await store.insert([new_job(1, task="shop:lost"), new_job(2)])
    (lost,) = [n for n, name in (await store.read.task_names()).items() if name == "shop:lost"]
    assert await store.hold_unknown(ME, [lost]) == []
    assert await store.hold_unknown(OTHER, [lost]) == [job_id(1)]
    job = await record(store, 1)
    assert job.state is JobState.HELD
    assert "shop:lost" in (job.reason or "")
    assert (await record(store, 2)).state is JobState.QUEUED


async def test_a_process_that_only_enqueues_does_not_count_as_knowing(store: Store) -> None:
    await store.add_process(ME, 1, NOW, runs_jobs=True)
    await store.add_process(OTHER, 2, NOW, runs_jobs=False)
    await store.insert([new_job(1)])
    assert await store.hold_unknown(ME, [1]) == [job_id(1)]


async def test_a_process_that_has_left_does_not_count_as_knowing(store: Store) -> None:
    await store.add_process(ME, 1, NOW, runs_jobs=True)
    await store.add_process(OTHER, 2, NOW, runs_jobs=True)
    await store.insert([new_job(1)])
    assert await store.hold_unknown(ME, [1]) == []
    await store.remove_process(OTHER)
    assert await store.hold_unknown(ME, []) == [job_id(1)]


async def test_held_jobs_go_on_when_their_code_is_back(store: Store) -> None:
    await store.add_process(ME, 1, NOW, runs_jobs=True)
    await store.insert([new_job(1), running_job(2), running_job(3)])
    await store.settle([settled(claimed_job(2), Held("does not fit", "arguments"))])
    await store.settle([settled(claimed_job(3), Held("died", "crash"))])
    await store.hold_unknown(ME, [1])
    assert await store.unhold([1]) == {job_id(1), job_id(2)}
    assert (await record(store, 1)).reason is None
    assert (await record(store, 3)).state is JobState.HELD
    assert await store.unhold([]) == set()


Call = Callable[[Store], Awaitable[object]]


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.begin([job_id(9)], ME, NOW),
        lambda store: store.release([job_id(9)], ME, NOW),
        lambda store: store.settle([settled(claimed_job(9), Interrupted())]),
        lambda store: store.recover(ME, [job_id(9)], [recovery(9)], NOW),
        lambda store: store.retry(job_id(9), NOW),
        lambda store: store.acquit(job_id(9), ME),
    ],
)
async def test_a_job_that_is_not_there_stays_that_way(store: Store, call: Call) -> None:
    await store.insert([new_job(1)])
    await call(store)
    assert sum((await store.read.counts()).values()) == 1


async def test_a_job_that_was_taken_by_another_process_is_not_touched(store: Store) -> None:
    await store.insert([new_job(1)])
    await claim_all(store, owner=OTHER)
    before = await record(store, 1)
    await write(store, "UPDATE jobs SET queue = queue")
    assert await store.begin([job_id(1)], ME, NOW) == set()
    await store.release([job_id(1)], ME, NOW)
    await store.acquit(job_id(1), ME)
    await store.recover(ME, [job_id(1)], [recovery(1)], NOW)
    assert await record(store, 1) == before


async def test_a_claimed_job_is_a_plain_value(store: Store) -> None:
    await store.insert([new_job(1, args="[[5],{}]", options='{"max_attempts":2}')])
    (job,) = await claim_all(store)
    assert job == ClaimedJob(
        id=job_id(1),
        task="shop:send",
        attempt=1,
        args="[[5],{}]",
        options='{"max_attempts":2}',
        due_at=NOW,
    )
