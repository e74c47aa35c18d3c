"""The app's own lifespan is composed with, never replaced.

What lives here: start-up and shut-down code of the app beside the runner's. What does not: what
happens without any (test_modes.py). Run by pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, Request

from embedded_tasks import TaskRunner
from tests.web.drop_in import tasks
from tests.web.drop_in.live import live, read_all
from tests.web.drop_in.serving import all_ended, serving, stored

pytestmark = pytest.mark.anyio


def lifespan_of(name: str, during: Any = None) -> Any:
    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, str]]:
        tasks.note(f"{name} starts")
        if during is not None:
            await during()
        yield {name: "kept"}
        tasks.note(f"{name} ends")

    return lifespan


async def noted_twice() -> None:
    """Ends only after others had their turns."""
    tasks.note("job starts")
    await asyncio.sleep(0)
    tasks.note("job ends")


@pytest.mark.usefixtures("mode")
async def test_start_up_code_may_enqueue_and_jobs_run_inside_of_it_only(
    runner: TaskRunner,
) -> None:
    async def enqueue() -> None:
        jobs.append(await runner.enqueue(noted_twice))
        for _ in range(50):
            await asyncio.sleep(0)
        tasks.note("start-up goes on")

    jobs: list[Any] = []
    app = FastAPI(lifespan=lifespan_of("app", enqueue))
    runner.install(app)
    runner.references.add_package(__name__)
    async with serving(app):
        await jobs[0].result(timeout=30)
    assert tasks.seen == [
        *("app starts", "start-up goes on"),
        *("job starts", "job ends"),
        "app ends",
    ]


@pytest.mark.usefixtures("production")
async def test_jobs_end_before_the_shut_down_code_of_the_app(runner: TaskRunner) -> None:
    app = FastAPI(lifespan=lifespan_of("app"))
    runner.install(app)

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(noted_twice)

    async with serving(app) as client:
        await client.get("/")
    assert tasks.seen == ["app starts", "job starts", "job ends", "app ends"]


@pytest.mark.usefixtures("production")
@pytest.mark.parametrize("order", ["install first", "include first"])
async def test_the_lifespan_of_a_router_is_around_the_jobs_too(
    runner: TaskRunner, order: str
) -> None:
    async def enqueue() -> None:
        jobs.append(await runner.enqueue(tasks.note, "job"))

    jobs: list[Any] = []
    app = FastAPI(lifespan=lifespan_of("app"))
    router = APIRouter(lifespan=lifespan_of("router", enqueue))

    @router.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None: ...

    if order == "install first":
        runner.install(app)
        app.include_router(router)
    else:
        app.include_router(router)
        runner.install(app)
    async with serving(app):
        await jobs[0].result(timeout=30)
    assert tasks.seen == ["app starts", "router starts", "job", "router ends", "app ends"]


def test_the_state_that_a_lifespan_yields_is_kept(runner: TaskRunner) -> None:
    app = FastAPI(lifespan=lifespan_of("app"))
    runner.install(app)
    app.include_router(APIRouter(lifespan=lifespan_of("router")))

    @app.get("/")
    async def endpoint(request: Request) -> list[str]:
        return [request.state.app, request.state.router]

    with live(app) as server:
        assert read_all(server.get("/")).endswith(b'["kept","kept"]')


async def test_handlers_of_events_are_called(runner: TaskRunner) -> None:
    app = FastAPI()
    app.router.on_startup.append(lambda: tasks.note("before"))
    runner.install(app)
    app.router.on_startup.append(lambda: tasks.note("after"))
    app.router.on_shutdown.append(lambda: tasks.note("shutdown"))
    async with serving(app):
        assert runner.is_running
    assert tasks.seen == ["before", "after", "shutdown"]
    assert not runner.is_running


@pytest.mark.usefixtures("mode")
async def test_an_app_that_fails_to_start_leaves_the_runner_closed(runner: TaskRunner) -> None:
    async def fail() -> None:
        raise tasks.TaskError

    app = FastAPI(lifespan=lifespan_of("app", fail))
    runner.install(app)
    with pytest.raises(tasks.TaskError):
        async with serving(app):
            pass
    assert not runner.is_running


@pytest.mark.usefixtures("mode")
async def test_an_app_may_be_started_again(runner: TaskRunner) -> None:
    app = FastAPI()
    runner.install(app)

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "job")

    for number in (1, 2):
        async with serving(app) as client:
            await client.get("/")
            assert len(await all_ended(runner)) == number
    assert tasks.seen == ["job", "job"]


def test_the_lifespan_alone_can_be_wired_by_hand(path: Path) -> None:
    runner = TaskRunner(path, modules=["tests"])
    app = FastAPI(lifespan=runner.lifespan)

    @app.get("/")
    async def endpoint() -> int:
        job = await runner.enqueue(tasks.double, 4)
        return await job.result(timeout=30)

    with live(app) as server:
        assert read_all(server.get("/")).endswith(b"8")


async def test_both_ways_of_wiring_may_be_taken(runner: TaskRunner) -> None:
    app = FastAPI(lifespan=runner.lifespan)
    runner.install(app)

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "job")

    async with serving(app) as client:
        await client.get("/")
        assert len(await all_ended(runner)) == 1
    assert tasks.seen == ["job"]


@pytest.mark.usefixtures("mode")
async def test_a_def_endpoint_may_enqueue(runner: TaskRunner) -> None:
    app = FastAPI()
    runner.install(app)

    @app.get("/sync")
    def sync() -> str:
        return runner.enqueue_sync(tasks.note, "sync").id

    @app.get("/async")
    async def asynchronous() -> str:
        return (await runner.enqueue(tasks.note, "async")).id

    async with serving(app) as client:
        ids = [(await client.get(path)).json() for path in ("/sync", "/async")]
        assert [record.id for record in await stored(runner)] == ids
        await all_ended(runner)
    assert sorted(tasks.seen) == ["async", "sync"]
