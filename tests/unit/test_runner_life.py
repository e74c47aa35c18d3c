"""Opening and closing a runner: what works when, and that nothing is left running.

What lives here: the runner's life in one process. What does not: jobs and their ends
(`test_runner_results.py`), several processes (`tests/crash`). Called by pytest.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from embedded_tasks.errors import (
    ConfigurationError,
    NotStartedError,
    StoreFormatError,
    StoreUnavailableError,
)
from embedded_tasks.events import EventName
from embedded_tasks.handle import Job
from embedded_tasks.job import JobState
from embedded_tasks.retry import Backoff
from tests.support import tasks
from tests.support.clock import FakeClock
from tests.support.runners import Timed, TimedRunner, running
from tests.support.tasks import world
from tests.support.turns import until

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_test_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBEDDED_TASKS_TESTING", raising=False)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "tasks.db")


@pytest.fixture
async def at() -> AsyncIterator[Timed]:
    async with running(concurrency=2) as at:
        yield at


def runner(path: str = ":memory:", **options: Any) -> TimedRunner:
    world.reset()
    values = {"modules": ["tests"], "synchronous": "OFF"} | options
    return TimedRunner(FakeClock(), path, **values)


# Not open.


async def test_a_runner_that_is_not_open_says_what_to_write() -> None:
    closed = runner()
    job: Job[Any] = Job("1", "shop:send", closed)
    assert not closed.is_running
    calls = [
        closed.enqueue(tasks.note), closed.get("1"), closed.counts(), closed.health(),
        closed.cancel("1"), closed.retry("1"), job.result(),
    ]  # fmt: skip  # all that ask
    for call in calls:
        with pytest.raises(NotStartedError, match="async with runner:"):
            await call
    with pytest.raises(NotStartedError, match="enqueue_sync"):
        closed.enqueue_sync(tasks.note)


async def test_a_runner_is_open_for_the_length_of_a_block() -> None:
    one = runner()
    async with one.open() as same:
        assert same is one
        assert one.is_running
        assert one.runs_on_this_loop()
    assert not one.is_running


async def test_a_runner_can_be_opened_again(file: str) -> None:
    one = runner(file)
    async with one:
        job = await one.enqueue(tasks.note, 1)
    async with one.open(run_jobs=True):
        again = await one.get(job.id)
        assert await again.result() == 1


async def test_a_runner_that_cannot_open_its_file_stays_closed(tmp_path: Path) -> None:
    bad = tmp_path / "tasks.db"
    bad.write_text("dear diary" * 1000)
    one = runner(str(bad))
    with pytest.raises(StoreFormatError):
        await one.open().__aenter__()
    assert not one.is_running
    bad.unlink()
    async with one:
        assert one.is_running


# Enqueuing only.


async def test_async_with_enqueues_and_runs_nothing(file: str) -> None:
    async with runner(file) as one:
        job = await one.enqueue(tasks.note)
        await one.counts()
        assert (await job.refresh()).state == "queued"
    assert world.calls == []


async def test_an_open_block_may_stand_inside_another(file: str) -> None:
    one = runner(file)
    async with one.open(run_jobs=True):
        async with one:
            job = await one.enqueue(tasks.note)
        assert await job.result() == 1
        assert one.is_running


async def test_a_runner_that_only_enqueues_is_not_opened_for_more() -> None:
    async with runner() as one:
        with pytest.raises(ConfigurationError, match="only to enqueue"):
            await one.open(run_jobs=True).__aenter__()
        assert one.is_running


async def test_without_slots_a_runner_only_enqueues() -> None:
    async with running(concurrency=0) as at:
        job = await at.runner.enqueue(tasks.note)
        await at.runner.counts()
        assert (await job.refresh()).state == "queued"
        assert (await at.runner.health()).slots == {"async": 0, "sync": 0}


OWN_OPTIONS: list[tuple[dict[str, Any], BaseException, str]] = [
    ({"max_attempts": 2, "backoff": [7]}, ValueError(), "succeeded"),
    ({"max_attempts": 2, "backoff": [7], "retry_on": [tasks.OwnError]}, ValueError(), "failed"),
    (
        {"max_attempts": 2, "backoff": [7], "retry_on": [tasks.OwnError]},
        tasks.ChildError(),
        "succeeded",
    ),
    (
        {"max_attempts": 2, "backoff": [7], "give_up_on": [tasks.OwnError]},
        tasks.ChildError(),
        "failed",
    ),
    ({"max_attempts": 2, "backoff": tasks.waits_seven_seconds}, ValueError(), "succeeded"),
    ({"max_attempts": 2, "backoff": Backoff(first=7, jitter=0)}, ValueError(), "succeeded"),
]


@pytest.mark.parametrize(("options", "error", "end"), OWN_OPTIONS)
async def test_a_job_s_own_options_hold_where_another_runner_runs_it(
    file: str, options: Any, error: BaseException, end: str
) -> None:
    async with running(file) as at:
        async with runner(file) as other:
            world.raises = [error]
            job = await other.options(**options).enqueue(tasks.note)
        at.runner._running("test").worker.wake()
        if end == "succeeded":
            event = await at.events.wait(EventName.RETRY_SCHEDULED)
            assert event.details["delay"] == pytest.approx(7)
            at.clock.advance(7)
            await at.events.wait(EventName.SUCCEEDED)
        else:
            await at.events.wait(EventName.FAILED)
        assert (await at.runner.get(job.id)).state == end


# From threads and scripts.


async def test_a_thread_enqueues_without_waiting_for_the_loop_s_code(at: Timed) -> None:
    job = await anyio.to_thread.run_sync(lambda: at.runner.enqueue_sync(tasks.note, 5))
    assert await job.result() == 1
    assert world.calls == [(5,)]


async def test_a_thread_s_job_may_have_options(at: Timed) -> None:
    own = at.runner.options(queue="mail", delay=60)
    job = await anyio.to_thread.run_sync(lambda: own.enqueue_sync(tasks.note))
    record = (await job.refresh()).record
    assert record is not None
    assert (record.queue, record.due_at) == ("mail", at.clock.now() + 60)


async def test_enqueue_sync_on_the_loop_says_what_to_write(at: Timed) -> None:
    with pytest.raises(ConfigurationError, match=r"await runner\.enqueue"):
        at.runner.enqueue_sync(tasks.note)


def test_a_script_enqueues_and_leaves_no_thread(file: str) -> None:
    before = set(threading.enumerate())
    one = runner(file)
    with one as same:
        assert same is one
        ids = [one.enqueue_sync(tasks.note, n).id for n in range(3)]
    left = [thread for thread in threading.enumerate() if thread not in before]
    for thread in left:
        thread.join(timeout=60)
    connection = sqlite3.connect(file)
    assert [row[0] for row in connection.execute("SELECT id FROM jobs ORDER BY seq")] == ids
    connection.close()


# Working.


async def test_work_can_wait_until_the_app_is_ready(file: str) -> None:
    one = runner(file)
    async with one.open(run_jobs=True, start_work=False):
        job = await one.enqueue(tasks.note)
        await one.counts()
        assert (await job.refresh()).state == "queued"
        async with one.working():
            assert await job.result() == 1
        later = await one.enqueue(tasks.note)
        await one.counts()
        assert (await later.refresh()).state == "queued"


async def test_a_lifespan_runs_jobs_and_yields_nothing() -> None:
    one = runner()
    async with one.lifespan(object()) as state:
        assert state is None
        assert await (await one.enqueue(tasks.note)).result() == 1


async def test_two_runners_in_one_process_do_not_know_each_other(tmp_path: Path) -> None:
    first, second = (runner(str(tmp_path / name)) for name in ("a.db", "b.db"))
    async with first.open(run_jobs=True), second.open(run_jobs=True):
        jobs = [await one.enqueue(tasks.note) for one in (first, second)]
        for job in jobs:
            await job.result()
        assert (await first.counts())[JobState.SUCCEEDED] == 1
        assert (await second.counts())[JobState.SUCCEEDED] == 1


async def test_under_test_a_runner_has_a_file_of_its_own(
    monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")
    one = runner(file)
    async with one:
        await one.enqueue(tasks.note)
    assert not Path(file).exists()  # noqa: ASYNC240  # one look


# Closing.


async def test_closing_lets_running_jobs_end_within_the_grace() -> None:
    async with running(shutdown_grace=4) as at:
        await at.runner.enqueue(tasks.wait, "a")
        await world.started.wait()
        closing = asyncio.create_task(at.close(step=0.0))
        await until(lambda: 4.0 in at.clock.waits)
        world.go_on.set()
        await closing
    assert at.events.names == ["job.succeeded"]


async def test_a_job_that_is_ending_may_still_enqueue_another(file: str) -> None:
    async with running(file) as at:
        world.runner = at.runner
        await at.runner.enqueue(tasks.wait_then_enqueue)
        await world.started.wait()
        closing = asyncio.create_task(at.close(step=0.0))
        await until(lambda: 4.0 in at.clock.waits)
        world.go_on.set()
        await closing
        assert at.events.names == ["job.succeeded"]
        await at.open(run_jobs=False)
        assert (await at.runner.counts())[JobState.QUEUED] == 1


async def test_after_the_grace_an_async_job_goes_back_uncharged(file: str) -> None:
    async with running(file) as at:
        job = await at.runner.options(max_attempts=1).enqueue(tasks.wait)
        await world.started.wait()
        await at.close()
        await at.open(run_jobs=False)
        record = (await at.runner.get(job.id)).record
        assert record is not None
        assert (record.state, record.failures, record.crashes) == ("queued", 0, 0)
        assert [item.outcome for item in record.attempts] == ["interrupted"]


async def test_a_job_interrupted_by_a_shutdown_runs_at_the_next_start(file: str) -> None:
    async with running(file) as at:
        job = await at.runner.enqueue(tasks.wait, "a")
        await world.started.wait()
        await at.close()
        world.go_on.set()
        await at.open()
        assert await (await at.runner.get(job.id)).result() == "a"


async def test_a_thread_that_outlives_the_runner_keeps_its_job(file: str) -> None:
    async with running(file) as at:
        job = await at.runner.enqueue(tasks.block)
        await until(lambda: world.contexts)
        await at.close()
        assert world.contexts[0].stopping
        await at.open(run_jobs=False)
        record = (await at.runner.get(job.id)).record
        assert record is not None
        # Its process lives, so nobody takes it while the thread runs.
        assert record.state is JobState.RUNNING
        world.thread_go_on.set()


async def test_nothing_is_left_running_after_closing(file: str) -> None:
    before = asyncio.all_tasks()
    threads = set(threading.enumerate())
    async with running(file) as at:
        await (await at.runner.enqueue(tasks.note)).result()
        await (await at.runner.enqueue(tasks.note_sync)).result()
        await at.runner.options(delay=60).enqueue(tasks.note)
    assert asyncio.all_tasks() == before
    assert at.clock.waits == []
    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    folder = Path(f"{file}.processes")
    assert sorted(path.name for path in folder.iterdir()) == ["writers.lock"]  # noqa: ASYNC240


async def test_an_idle_runner_asks_nothing_of_its_store(at: Timed) -> None:
    await (await at.runner.enqueue(tasks.note)).result()
    session = at.runner._running("test")
    before = session.store.writer.commits
    for _ in range(20):
        at.clock.advance(600)
        await at.runner.counts()
    # Retention has looked once an hour, and nobody else.
    assert session.store.writer.commits - before <= 4


async def test_an_observer_that_fails_hurts_nobody() -> None:
    def observe(event: object) -> None:
        raise ValueError("broken")

    with capture_logs() as lines:
        async with running(observers=[observe]) as at:
            assert await (await at.runner.enqueue(tasks.note)).result() == 1
    assert "observer.failed" in {line["event"] for line in lines}


async def test_a_full_store_is_told_to_who_enqueues(at: Timed) -> None:
    store = at.runner._running("test").store
    store.writer._closing = True
    with pytest.raises(StoreUnavailableError):
        await at.runner.enqueue(tasks.note)
    store.writer._closing = False
    assert await (await at.runner.enqueue(tasks.note)).result() == 1
