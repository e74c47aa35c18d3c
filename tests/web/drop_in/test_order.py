"""The order within a request: by first attempts, and nobody is dropped because another failed.

What lives here: durable and non-durable tasks after one another. What does not: what makes a task
non-durable (test_non_durable.py). Run by pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI

from embedded_tasks import NotDurableWarning, Snooze, TaskRunner
from tests.web.drop_in import tasks
from tests.web.drop_in.serving import all_ended, client_of, serving, stored

pytestmark = pytest.mark.anyio

Add = Callable[[BackgroundTasks], None]


def app_that(runner: TaskRunner, add: Add) -> FastAPI:
    app = FastAPI()
    runner.install(app)

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        add(background_tasks)

    return app


async def snooze() -> None:
    tasks.seen.append("snoozed")
    raise Snooze(3600)


async def for_ever() -> None:
    tasks.STARTED.set()
    await asyncio.Event().wait()


def here(value: Any, error: Exception | None = None) -> Callable[[], None]:
    """A function that cannot be stored."""

    def noted() -> None:
        tasks.note(value)
        if error is not None:
            raise error

    return noted


@pytest.mark.usefixtures("mode", "way")
async def test_sync_and_async_tasks_run_in_the_order_of_their_adding(runner: TaskRunner) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        for number in range(0, 12, 3):
            background_tasks.add_task(tasks.slow_note, number)
            background_tasks.add_task(tasks.note, number + 1)
            background_tasks.add_task(tasks.anote, number + 2)

    async with serving(app_that(runner, add)) as client:
        await client.get("/")
        await all_ended(runner)
    assert tasks.seen == list(range(12))


@pytest.mark.usefixtures("mode", "way")
async def test_a_non_durable_task_waits_for_the_first_attempts_before_it(
    runner: TaskRunner,
) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(here(0))
        background_tasks.add_task(tasks.slow_note, 1)
        background_tasks.add_task(tasks.note, 2)
        background_tasks.add_task(here(3))
        background_tasks.add_task(tasks.anote, 4)

    async with serving(app_that(runner, add)) as client:
        with pytest.warns(NotDurableWarning):
            await client.get("/")
        assert tasks.seen[:4] == [0, 1, 2, 3]
        await all_ended(runner)
    assert tasks.seen == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("mode", "way")
async def test_a_failed_task_does_not_take_the_later_ones_along(runner: TaskRunner) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.fail, 1)
        background_tasks.add_task(here(2, tasks.TaskError("here")))
        background_tasks.add_task(tasks.afail, 3)
        background_tasks.add_task(here(4))
        background_tasks.add_task(tasks.note, 5)

    async with serving(app_that(runner, add)) as client:
        with pytest.warns(NotDurableWarning), pytest.raises(tasks.TaskError, match="here"):
            await client.get("/")
        await all_ended(runner)
    assert tasks.seen == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("mode")
async def test_of_several_errors_in_the_request_the_first_is_raised_and_all_are_logged(
    runner: TaskRunner, capsys: pytest.CaptureFixture[str]
) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(here(1, tasks.TaskError("first")))
        background_tasks.add_task(here(2, tasks.TaskError("second")))

    async with serving(app_that(runner, add)) as client:
        with pytest.warns(NotDurableWarning), pytest.raises(tasks.TaskError, match="first"):
            await client.get("/")
    assert tasks.seen == [1, 2]
    assert "second" in capsys.readouterr().out


@pytest.mark.usefixtures("mode", "way")
@pytest.mark.parametrize(
    ("function", "arguments", "noted"),
    [(tasks.fail_until_tomorrow, ("tried",), "tried"), (snooze, (), "snoozed")],
)
async def test_a_retry_or_a_snooze_does_not_hold_up_the_next_one(
    runner: TaskRunner, function: Any, arguments: Any, noted: str
) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(function, *arguments)
        background_tasks.add_task(tasks.note, "next")

    async with serving(app_that(runner, add)) as client:
        assert (await client.get("/")).status_code == 200
        records = await stored(runner)
        await (await runner.get(records[1].id)).result(timeout=30)
        assert tasks.seen == [noted, "next"]


@pytest.mark.usefixtures("production")
async def test_a_cancelled_task_lets_the_next_one_go_on(runner: TaskRunner) -> None:
    def add(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(for_ever)
        background_tasks.add_task(tasks.note, "next")

    async with serving(app_that(runner, add)) as client:
        await client.get("/")
        first, second = await stored(runner)
        await asyncio.to_thread(tasks.STARTED.wait, 30)
        await runner.cancel(first.id)
        await (await runner.get(second.id)).result(timeout=30)
    assert tasks.seen == ["next"]


@pytest.mark.usefixtures("mode", "way")
async def test_one_slot_is_enough_for_many_requests_of_several_tasks(path: Path) -> None:
    runner = TaskRunner(path, concurrency=1)

    def add(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.slow_note, 1)
        background_tasks.add_task(tasks.note, 2)
        background_tasks.add_task(tasks.anote, 3)

    async with serving(app_that(runner, add)) as client:
        await asyncio.gather(*(client.get("/") for _ in range(5)))
        jobs = await all_ended(runner)
        assert [job.state for job in jobs] == ["succeeded"] * 15
    assert sorted(tasks.seen) == sorted([1, 2, 3] * 5)


@pytest.mark.usefixtures("mode", "way")
@pytest.mark.parametrize("sizes", [(0, 0), (0, 1), (1, 0)])
async def test_a_process_without_slots_keeps_nobody_waiting(
    path: Path, sizes: tuple[int, int]
) -> None:
    runner = TaskRunner(path, concurrency=sizes[0], sync_concurrency=sizes[1])

    def add(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.anote, "async")
        background_tasks.add_task(tasks.note, "sync")
        background_tasks.add_task(here("here"))

    async with serving(app_that(runner, add)) as client:
        with pytest.warns(NotDurableWarning):
            assert (await client.get("/")).status_code == 200
        assert "here" in tasks.seen
        assert len(await stored(runner)) == 2
    assert "async" not in tasks.seen or sizes[0]
    assert "sync" not in tasks.seen or sizes[1]


@pytest.mark.usefixtures("mode", "way")
async def test_tasks_of_several_requests_run_beside_one_another(runner: TaskRunner) -> None:
    app = FastAPI()
    runner.install(app)

    @app.get("/waits")
    async def waits(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.wait, "waited")

    @app.get("/notes")
    async def notes(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "noted")

    async with serving(app) as client:
        first = asyncio.create_task(client.get("/waits"))
        await asyncio.to_thread(tasks.STARTED.wait, 30)
        await client.get("/notes")
        await (await runner.get((await stored(runner))[1].id)).result(timeout=30)
        assert tasks.seen == ["noted"]
        tasks.GO_ON.set()
        await first
        await all_ended(runner)
    assert tasks.seen == ["noted", "waited"]


@pytest.mark.usefixtures("production")
async def test_sync_tasks_do_not_take_the_threads_of_the_endpoints(path: Path) -> None:
    runner = TaskRunner(path, sync_concurrency=50)
    app = app_that(runner, lambda background_tasks: background_tasks.add_task(tasks.wait, "job"))

    @app.get("/sync")
    def sync() -> str:
        return "answered"

    async with serving(app) as client:
        # Plain ones and `def` endpoints share 40 threads.
        await asyncio.gather(*(client.get("/") for _ in range(50)))
        while len(runner._running("test").running) < 50:  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0)
        assert (await client.get("/sync")).json() == "answered"
        assert tasks.seen == []
        tasks.GO_ON.set()
        assert len(await all_ended(runner)) == 50


@pytest.mark.usefixtures("mode", "way")
async def test_a_task_with_a_later_time_is_stored_with_the_others_and_not_waited_for(
    runner: TaskRunner,
) -> None:
    def add(background_tasks: Any) -> None:
        background_tasks.options(delay=3600).add_task(tasks.note, "tomorrow")
        background_tasks.add_task(tasks.note, "today")

    app = app_that(runner, add)
    async with serving(app), client_of(app) as client:
        await client.get("/")
        later, now = await stored(runner)
        await (await runner.get(now.id)).result(timeout=30)
        assert (await runner.get(later.id)).state == "scheduled"
    assert tasks.seen == ["today"]
