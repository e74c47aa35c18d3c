"""What can be asked of the store, and in which words it answers.

What lives here: one job, pages, counts and the like. What does not: changes. Called by pytest, for
each store.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from embedded_tasks.errors import ConfigurationError
from embedded_tasks.job import (
    AttemptError,
    Failed,
    Held,
    JobState,
    RetryLater,
    ShownState,
    Succeeded,
    shown_state,
)
from embedded_tasks.store import JobFilter, Store
from tests.support.jobs import ME, NOW, OTHER, claimed_job, job_id, new_job, running_job, settled
from tests.support.stores import record, rows, write

pytestmark = pytest.mark.anyio

ERROR = AttemptError("ValueError", "bad", "Traceback ...")


async def one_of_each_state(store: Store) -> dict[str, int]:
    """Store jobs 1 to 9, one of each state that people see; return their numbers."""
    await store.insert([new_job(1), new_job(2, due_at=NOW + 60), running_job(3)])
    await store.insert([running_job(n) for n in (4, 5, 6, 7)])
    await store.insert([new_job(8), new_job(9, start_by=NOW + 1, due_at=NOW + 99)])
    await store.settle([settled(claimed_job(4), Succeeded("[1,1]"))])
    await store.settle([settled(claimed_job(5), Failed("bad", ERROR))])
    await store.settle([settled(claimed_job(6), RetryLater(0, ERROR))])
    await store.settle([settled(claimed_job(7), Held("gone", "arguments"))])
    await store.cancel(job_id(8), "no need", NOW)
    await store.expire(NOW + 1)
    names = "queued scheduled running succeeded failed retrying held cancelled expired"
    return {name: number for number, name in enumerate(names.split(), start=1)}


async def test_a_job_is_read_as_it_was_stored(store: Store) -> None:
    job = new_job(
        1,
        queue="mail",
        tags=json.dumps(["a", "b"]),
        priority=-7,
        args='[[1,"\\u00e9\\ud83d\\ude00"],{}]',
        options='{"max_attempts": 3}',
        on_crash="hold",
        start_by=NOW + 1.25,
        finish_by=NOW + 2.5,
        request_id="r-1",
        traceparent="00-1-2-01",
        created_at=NOW - 1,
    )
    await store.insert([job])
    kept = await record(store, 1)
    names = "id task queue priority args on_crash start_by finish_by request_id traceparent"
    for name in (*names.split(), "created_at", "due_at", "state", "owner", "attempt"):
        assert getattr(kept, name) == getattr(job, name), name
    assert kept.tags == ("a", "b")
    assert (kept.started_at, kept.finished_at, kept.reason, kept.result) == (None,) * 4
    assert kept.attempts == ()


async def test_a_job_that_is_not_there_is_none(store: Store) -> None:
    assert await store.read.get(job_id(1), NOW) is None
    assert await store.read.get("no id at all", NOW) is None


async def test_people_see_queued_jobs_told_apart(store: Store) -> None:
    numbers = await one_of_each_state(store)
    for name, number in numbers.items():
        assert (await record(store, number, now=NOW + 1)).shown == name
    assert (await record(store, numbers["scheduled"], now=NOW + 60)).shown == "queued"


async def test_jobs_are_listed_by_the_state_that_people_see(store: Store) -> None:
    numbers = await one_of_each_state(store)
    for name, number in numbers.items():
        for state in (name, ShownState(name)):
            page = await store.read.page(JobFilter(state=state), NOW + 1)
            assert [(job.id, job.shown) for _, job in page] == [(job_id(number), name)]


def test_a_state_that_there_is_not_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected one of scheduled, retrying, queued"):
        JobFilter(state="done")


async def test_the_view_of_the_file_says_what_shown_state_says(store: Store) -> None:
    # The view asks SQLite for the time, so these jobs are far from now on either side.
    await one_of_each_state(store)
    far, long_ago = 9_000_000_000.0, 1_000.0
    await write(store, f"UPDATE jobs SET due_at = {far} WHERE due_at > {NOW + 50}")
    await write(store, f"UPDATE jobs SET due_at = {long_ago} WHERE due_at < {far}")
    seen = await rows(store, "SELECT state, due_at, attempt, shown FROM shown_jobs")
    now = 5_000_000.0
    assert [shown_state(JobState(row[0]), row[1], row[2], now) for row in seen] == [
        row[3] for row in seen
    ]
    assert {row[3] for row in seen} == {state.value for state in ShownState}


async def test_pages_are_newest_first_and_go_on_by_key(store: Store) -> None:
    await store.insert([new_job(n) for n in range(10)])
    found: list[str] = []
    before: int | None = None
    while page := await store.read.page(JobFilter(before=before, limit=4), NOW):
        assert len(page) <= 4
        found += [job.id for _, job in page]
        before = page[-1][0]
        await store.insert([new_job(100 + len(found))])
    assert found == [job_id(n) for n in reversed(range(10))]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({"queue": "mail"}, [3, 1]),
        ({"task": "shop:other"}, [3, 2]),
        ({"task": "shop:other", "queue": "mail"}, [3]),
        ({"task": "shop:nobody"}, []),
        ({"limit": 2}, [3, 2]),
        ({"queue": "mail", "state": ShownState.RUNNING}, []),
    ],
)
async def test_jobs_are_listed_by_task_and_queue(
    store: Store, wanted: dict[str, Any], numbers: list[int]
) -> None:
    await store.insert([new_job(0), new_job(1, queue="mail")])
    await store.insert([new_job(2, task="shop:other")])
    await store.insert([new_job(3, task="shop:other", queue="mail")])
    page = await store.read.page(JobFilter(**wanted), NOW)
    assert [job.id for _, job in page] == [job_id(n) for n in numbers]


async def test_every_state_is_counted(store: Store) -> None:
    await one_of_each_state(store)
    assert await store.read.counts() == {
        JobState.QUEUED: 3,
        JobState.RUNNING: 1,
        JobState.SUCCEEDED: 1,
        JobState.FAILED: 1,
        JobState.CANCELLED: 1,
        JobState.EXPIRED: 1,
        JobState.HELD: 1,
    }


async def test_what_has_ended_is_held_or_is_not_there_is_told(store: Store) -> None:
    numbers = await one_of_each_state(store)
    ended = await store.read.ended([job_id(n) for n in range(1, 12)])
    wanted = ("succeeded", "failed", "cancelled", "expired", "held")
    there = [numbers[name] for name in wanted]
    assert sorted(ended) == [job_id(n) for n in sorted([*there, 10, 11])]
    assert await store.read.ended([]) == []


async def test_processes_and_owners_are_told(store: Store) -> None:
    await store.add_process(ME, 4711, NOW, runs_jobs=True)
    await store.add_process("c" * 32, 4712, NOW + 1, runs_jobs=False)
    await store.insert([running_job(1, owner=OTHER)])
    processes = await store.read.processes()
    assert [(p.id, p.pid, p.started_at, p.runs_jobs) for p in processes] == [
        (ME, 4711, NOW, True),
        ("c" * 32, 4712, NOW + 1, False),
    ]
    assert sorted(await store.read.owners()) == sorted([ME, OTHER, "c" * 32])


async def test_a_process_s_jobs_are_told_for_its_recovery(store: Store) -> None:
    await store.insert([running_job(1, on_crash="hold", leads=True)])
    await store.insert([new_job(2, owner=ME, after=job_id(1)), running_job(3, owner=OTHER)])
    first, second = sorted(await store.read.owned(ME), key=lambda job: job.id)
    assert (first.task, first.state, first.attempt) == ("shop:send", JobState.RUNNING, 1)
    assert (first.on_crash, first.leads, first.crashes) == ("hold", True, 0)
    assert (second.state, second.attempt, second.leads) == (JobState.QUEUED, 0, False)


async def test_task_names_are_numbered_once(store: Store) -> None:
    await store.insert([new_job(1, task="shop:a")])
    await store.insert([new_job(2, task="shop:b"), new_job(3, task="shop:a")])
    assert await store.read.task_names() == {1: "shop:a", 2: "shop:b"}


async def test_a_store_that_is_well_answers(store: Store) -> None:
    await store.read.ping()
