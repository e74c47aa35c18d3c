"""Many callers, few commits; and each caller is told the truth about its own jobs.

What lives here: batches, what a bad row costs, and jobs that are taken back. What does not: errors
of the disk (`tests/unit/test_store_failures.py`). Called by pytest, for each store.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from pathlib import Path

import pytest

from embedded_tasks.errors import StoreError, StoreUnavailableError
from embedded_tasks.job import JobState, NewJob, Succeeded
from embedded_tasks.store import Store, StoreSettings
from tests.support.jobs import (
    ME,
    NOW,
    OTHER,
    claimed_job,
    job_id,
    new_job,
    running_job,
    settled,
)
from tests.support.stores import Gate, claim_all, opened, record, rows, write

pytestmark = pytest.mark.anyio

DONE = Succeeded("[1,1]")


@pytest.fixture
async def gate() -> Gate:
    return Gate()


@pytest.fixture(params=["file", "memory"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "tasks.db") if request.param == "file" else ":memory:"


@pytest.fixture
async def gated(path: str, gate: Gate) -> AsyncIterator[Store]:
    async with opened(path, gate, wait=60.0) as store:
        yield store


async def stored(store: Store) -> list[int]:
    found = [await store.read.get(job_id(n), NOW) for n in range(100)]
    return [number for number, job in enumerate(found) if job is not None]


async def together(calls: Sequence[Awaitable[object]]) -> list[BaseException]:
    """Make these calls at once; return what they raised."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    return [result for result in results if isinstance(result, BaseException)]


async def inserts(store: Store, jobs: list[NewJob]) -> list[BaseException]:
    """Insert each job for a caller of its own."""
    return await together([store.insert([job]) for job in jobs])


async def test_concurrent_inserts_share_few_commits(store: Store) -> None:
    before = store.writer.commits
    assert await inserts(store, [new_job(n) for n in range(200)]) == []
    assert store.writer.commits - before <= 3
    assert (await store.read.counts())[JobState.QUEUED] == 200


async def test_a_batch_is_bounded_in_rows(store: Store) -> None:
    before = store.writer.commits
    await inserts(store, [new_job(n) for n in range(2_500)])
    assert store.writer.commits - before >= 3


async def test_a_batch_is_bounded_in_bytes(store: Store) -> None:
    before = store.writer.commits
    await inserts(store, [new_job(n, args="[[],{}]".ljust(1_500_000)) for n in range(9)])
    assert store.writer.commits - before >= 3


async def test_outcomes_and_inserts_share_the_next_commit(gated: Store, gate: Gate) -> None:
    await gated.insert([running_job(n) for n in range(5)])
    gate.shut()
    first = asyncio.create_task(gated.insert([new_job(50)]))
    await gate.reached.wait()
    before = gated.writer.commits
    outcomes = [gated.settle([settled(claimed_job(n), DONE)]) for n in range(5)]
    calls = [*outcomes, *(gated.insert([new_job(n)]) for n in range(60, 70))]
    rest = asyncio.create_task(together(calls))
    await asyncio.sleep(0)
    gate.let_go()
    await first
    assert await rest == []
    assert gated.writer.commits - before == 2


async def test_the_jobs_of_one_call_are_stored_all_or_none(store: Store) -> None:
    await store.insert([new_job(7)])
    with pytest.raises(StoreError):
        await store.insert([new_job(6), new_job(7), new_job(8)])
    assert await stored(store) == [7]


BAD_ROWS = {
    "an id that is there": new_job(7),
    "an impossible state": new_job(8, attempt=1, owner=None),
    "an unknown word": new_job(8, on_crash="explode"),
    "a value of another type": new_job(8, due_at="soon"),
}


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS.keys())
async def test_a_bad_row_costs_only_its_own_caller(store: Store, bad: NewJob) -> None:
    await store.insert([new_job(7), running_job(9)])
    good = [new_job(n, task=f"shop:task{n % 3}") for n in range(5)]
    calls: list[Awaitable[object]] = [store.insert([job]) for job in good]
    calls.insert(2, store.insert([bad]))
    calls.append(store.settle([settled(claimed_job(9), DONE)]))
    (error,) = await together(calls)
    assert isinstance(error, StoreError)
    assert not isinstance(error, StoreUnavailableError)
    assert await stored(store) == [0, 1, 2, 3, 4, 7, 9]
    assert (await record(store, 9)).state is JobState.SUCCEEDED
    assert {(await record(store, n)).task for n in range(3)} == {f"shop:task{n}" for n in range(3)}


async def test_a_value_that_sqlite_cannot_take_costs_only_its_own_caller(store: Store) -> None:
    await store.insert([new_job(1)])
    calls: list[Awaitable[object]] = [store.insert([new_job(n)]) for n in (2, 3)]
    calls.insert(1, store.cancel(job_id(1), "a lone surrogate: \ud800", NOW))
    (error,) = await together(calls)
    assert isinstance(error, UnicodeEncodeError)
    assert await stored(store) == [1, 2, 3]
    assert (await record(store, 1)).state is JobState.QUEUED


async def test_two_bad_rows_are_two_errors(store: Store) -> None:
    await store.insert([new_job(7)])
    errors = await inserts(store, [new_job(7), new_job(1), new_job(7), new_job(2)])
    assert len(errors) == 2
    assert await stored(store) == [1, 2, 7]


async def test_task_names_of_a_batch_that_failed_are_stored_the_next_time(store: Store) -> None:
    bad = [new_job(1, task="shop:fresh"), new_job(1, task="shop:fresh")]
    with pytest.raises(StoreError):
        await store.insert(bad)
    await store.insert([new_job(2, task="shop:fresh")])
    assert (await record(store, 2)).task == "shop:fresh"


# Taken back: the caller was told that its jobs are not stored.

RESERVED = [
    [new_job(1)],
    [running_job(1), new_job(2, owner=ME, after=job_id(1))],
    [new_job(1, due_at=NOW + 60), running_job(2), new_job(3, owner=ME, after=job_id(2))],
    [running_job(1), new_job(2, due_at=NOW + 60)],
]
REQUESTS = pytest.mark.parametrize("jobs", RESERVED, ids=["one", "chain", "later first", "later"])


async def give_up(task: asyncio.Task[None]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@REQUESTS
async def test_jobs_given_up_before_their_commit_are_never_there(
    gated: Store, gate: Gate, jobs: list[NewJob]
) -> None:
    gate.shut()
    first = asyncio.create_task(gated.insert([new_job(50)]))
    await gate.reached.wait()
    second = asyncio.create_task(gated.insert(jobs))
    await asyncio.sleep(0)
    await give_up(second)
    gate.let_go()
    await first
    await gated.insert([new_job(51)])
    assert await stored(gated) == [50, 51]


@REQUESTS
async def test_jobs_given_up_while_their_commit_waits_are_never_there(
    gated: Store, gate: Gate, jobs: list[NewJob]
) -> None:
    gate.shut()
    task = asyncio.create_task(gated.insert(jobs))
    await gate.reached.wait()
    await give_up(task)
    gate.let_go()
    await gated.insert([new_job(51)])
    assert await stored(gated) == [51]


async def watch_inserts(store: Store) -> None:
    """Keep the ids of all jobs that are ever committed, also of those that are taken back."""
    await write(store, "CREATE TEMP TABLE committed (id TEXT)")
    await write(
        store,
        "CREATE TEMP TRIGGER watch AFTER INSERT ON main.jobs "
        "BEGIN INSERT INTO committed VALUES (new.id); END",
    )


async def test_jobs_given_up_before_their_transaction_are_not_even_written(
    gated: Store, gate: Gate
) -> None:
    await watch_inserts(gated)
    gate.shut()
    task = asyncio.create_task(gated.insert([new_job(1)]))
    await gate.reached.wait()
    await give_up(task)
    gate.let_go()
    await gated.insert([new_job(51)])
    assert await rows(gated, "SELECT id FROM committed") == [(job_id(51),)]


async def test_jobs_given_up_between_two_tries_of_their_batch_are_not_even_written(
    gated: Store, gate: Gate
) -> None:
    await watch_inserts(gated)
    gate.shut()
    first = asyncio.create_task(gated.insert([new_job(50)]))
    await gate.reached.wait()
    good = asyncio.create_task(gated.insert([new_job(1)]))
    bad = asyncio.create_task(gated.insert([new_job(50)]))
    await asyncio.sleep(0)
    gate.next()
    await first
    # Together they are refused for the bad one; then each is tried by itself.
    await gate.reached.wait()
    gate.next()
    await gate.reached.wait()
    await give_up(good)
    gate.let_go()
    with pytest.raises(StoreError):
        await bad
    assert await rows(gated, "SELECT id FROM committed") == [(job_id(50),)]


@REQUESTS
async def test_jobs_given_up_after_their_commit_are_taken_back(
    gated: Store, gate: Gate, jobs: list[NewJob]
) -> None:
    gate.shut(after=True)
    task = asyncio.create_task(gated.insert(jobs))
    await gate.reached.wait()
    await give_up(task)
    gate.let_go()
    # The next commit, or the one behind it, takes them back.
    await gated.insert([new_job(51)])
    await gated.insert([new_job(52)])
    assert await stored(gated) == [51, 52]


async def test_requests_given_up_together_are_all_taken_back(gated: Store, gate: Gate) -> None:
    gate.shut(after=True)
    first = asyncio.create_task(gated.insert([new_job(50)]))
    await gate.reached.wait()
    requests = [[new_job(1)], [running_job(2)], [new_job(3)], [running_job(4), running_job(5)]]
    tasks = [asyncio.create_task(gated.insert(jobs)) for jobs in requests]
    await asyncio.sleep(0)
    gate.next()
    await first
    await gate.reached.wait()
    for task in tasks:
        await give_up(task)
    gate.let_go()
    await gated.insert([new_job(51)])
    await gated.insert([new_job(52)])
    assert await stored(gated) == [50, 51, 52]


async def test_a_job_that_another_process_has_started_is_not_taken_back(
    gated: Store, gate: Gate
) -> None:
    gate.shut(after=True)
    task = asyncio.create_task(gated.insert([new_job(1)]))
    await gate.reached.wait()
    claim = asyncio.create_task(claim_all(gated, owner=OTHER))
    await give_up(task)
    gate.let_go()
    taken = await claim
    await gated.insert([new_job(51)])
    await gated.insert([new_job(52)])
    assert await stored(gated) == ([1, 51, 52] if taken else [51, 52])


async def test_who_waits_too_long_is_told_so_and_nothing_is_stored(path: str, gate: Gate) -> None:
    async with opened(path, gate, wait=0.0) as store:
        gate.shut()
        with pytest.raises(StoreUnavailableError, match="did not commit within 0 s"):
            await store.insert([new_job(1)])
        gate.let_go()
        await store.expire(NOW)
        assert await stored(store) == []


async def test_an_outcome_has_no_limit_and_is_never_given_up(path: str, gate: Gate) -> None:
    async with opened(path, gate, wait=0.0) as store:
        gate.shut()
        task = asyncio.create_task(store.settle([settled(claimed_job(1), DONE)]))
        await gate.reached.wait()
        await asyncio.sleep(0)
        assert not task.done()
        gate.let_go()
        assert await task == {}


async def test_what_waits_is_written_before_the_store_closes(path: str, gate: Gate) -> None:
    store = await Store.open(StoreSettings(path, synchronous="OFF"), gate)
    gate.shut()
    first = asyncio.create_task(store.insert([new_job(1)]))
    await gate.reached.wait()
    second = asyncio.create_task(store.settle([settled(claimed_job(9), DONE)]))
    await asyncio.sleep(0)
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.insert([new_job(2)])
    gate.let_go()
    await closing
    await first
    assert await second == {}
