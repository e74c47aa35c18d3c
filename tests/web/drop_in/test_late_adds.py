"""Tasks that are added when the response is on its way, or over.

What lives here: adds from streams, running tasks and the exits of dependencies. What does not:
adds before the response (test_order_of_writes.py). Run by pytest.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

from embedded_tasks import NotDurableWarning, TaskRunner
from embedded_tasks.errors import ConfigurationError, StoreUnavailableError
from tests.web.drop_in import tasks
from tests.web.drop_in.disk import Disk
from tests.web.drop_in.serving import YIELDS, Visitor, all_ended, serving, stored, turns

pytestmark = pytest.mark.anyio


@pytest.fixture
def app(runner: TaskRunner, way: str) -> FastAPI:
    app = FastAPI()
    runner.install(app)
    return app


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("first", [True, False])
async def test_a_stream_may_add(app: FastAPI, runner: TaskRunner, first: bool) -> None:
    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> StreamingResponse:
        def body() -> Iterator[bytes]:
            yield b"1"
            background_tasks.add_task(tasks.anote, "durable")
            background_tasks.add_task(lambda: tasks.note("here"))
            background_tasks.tasks.append(BackgroundTask(tasks.note, "by hand"))
            yield b"2"

        if first:
            background_tasks.add_task(tasks.note, "first")
        return StreamingResponse(body())

    async with serving(app) as client:
        with pytest.warns(NotDurableWarning):
            assert (await client.get("/")).content == b"12"
        jobs = await all_ended(runner)
        assert [job.state for job in jobs] == ["succeeded"] * (2 + first)
    assert tasks.seen == ["first"] * first + ["durable", "here", "by hand"]


@YIELDS
@pytest.mark.usefixtures("mode")
async def test_an_endpoint_that_yields_may_add(app: FastAPI, runner: TaskRunner) -> None:
    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> AsyncIterator[int]:
        yield 1
        background_tasks.add_task(tasks.note, "job")
        yield 2

    async with serving(app) as client:
        assert (await client.get("/")).text.split() == ["1", "2"]
        await all_ended(runner)
    assert tasks.seen == ["job"]


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("in_thread", [True, False])
async def test_what_a_long_stream_adds_is_stored_before_its_end_and_starts_after_it(
    app: FastAPI, runner: TaskRunner, disk: Disk, in_thread: bool
) -> None:
    go_on = asyncio.Event()

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            if in_thread:
                await asyncio.to_thread(background_tasks.add_task, tasks.note, "job")
            else:
                background_tasks.add_task(tasks.note, "job")
            yield b"1"
            await go_on.wait()
            yield b"2"

        return StreamingResponse(body())

    async with serving(app):
        request = asyncio.create_task(Visitor(app, "/")())
        await asyncio.to_thread(disk.reached.wait, 30)
        while not disk.events:
            await turns()
        assert len(await stored(runner)) == 1
        assert tasks.seen == []
        go_on.set()
        await request
        await all_ended(runner)
    assert disk.events == ["committed"]
    assert tasks.seen == ["job"]


@pytest.mark.usefixtures("mode")
async def test_a_stream_that_breaks_starts_what_it_has_added(
    app: FastAPI, runner: TaskRunner, disk: Disk
) -> None:
    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> StreamingResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"1"
            background_tasks.add_task(tasks.note, "job")
            disk.hold()
            await turns()
            raise tasks.TaskError

        return StreamingResponse(body())

    async with serving(app):
        with pytest.raises(tasks.TaskError):
            await Visitor(app, "/")()
        # It is still on its way to the disk when the request is over.
        disk.open_gate()
        while not disk.events:
            await turns()
        await turns()
        await all_ended(runner)
    assert tasks.seen == ["job"]


@pytest.mark.usefixtures("mode")
async def test_a_running_task_may_add(app: FastAPI, runner: TaskRunner) -> None:
    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        def adds_more() -> None:
            tasks.note(1)
            background_tasks.add_task(tasks.anote, 3)
            background_tasks.add_task(adds_last)

        def adds_last() -> None:
            tasks.note(4)
            background_tasks.add_task(tasks.note, 5)

        background_tasks.add_task(adds_more)
        background_tasks.add_task(tasks.note, 2)

    async with serving(app) as client:
        with pytest.warns(NotDurableWarning):
            await client.get("/")
        assert len(await all_ended(runner)) == 3
    assert tasks.seen == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("mode")
async def test_an_exit_before_the_response_adds_to_the_same_commit(
    app: FastAPI, runner: TaskRunner, disk: Disk
) -> None:
    async def adds_at_its_end(background_tasks: BackgroundTasks) -> AsyncIterator[None]:
        yield
        background_tasks.add_task(tasks.note, "exit")

    @app.get("/", dependencies=[Depends(adds_at_its_end, scope="function")])
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "endpoint")

    async with serving(app):
        await Visitor(app, "/", disk.events)()
        await all_ended(runner)
    assert disk.events[:2] == ["committed", "start"]
    assert "committed" not in disk.events[1:]
    assert tasks.seen == ["endpoint", "exit"]


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize("first", [True, False])
async def test_an_exit_after_the_response_may_add(
    app: FastAPI, runner: TaskRunner, first: bool
) -> None:
    async def adds_at_its_end(background_tasks: BackgroundTasks) -> AsyncIterator[None]:
        yield
        background_tasks.add_task(tasks.note, "exit")
        background_tasks.add_task(lambda: tasks.note("here"))

    @app.get("/", dependencies=[Depends(adds_at_its_end)])
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        if first:
            background_tasks.add_task(tasks.note, "endpoint")

    async with serving(app) as client:
        with pytest.warns(NotDurableWarning):
            await client.get("/")
        assert len(await all_ended(runner)) == 1 + first
    assert tasks.seen == ["endpoint"] * first + ["exit", "here"]


@pytest.mark.usefixtures("mode")
async def test_a_late_one_that_cannot_be_stored_now_is_told_and_stops_no_other(
    app: FastAPI, runner: TaskRunner, disk: Disk
) -> None:
    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> StreamingResponse:
        def body() -> Iterator[bytes]:
            yield b"1"
            disk.error = sqlite3.SQLITE_FULL
            background_tasks.add_task(tasks.note, "late")

        background_tasks.add_task(tasks.note, "stored")
        return StreamingResponse(body())

    async with serving(app) as client:
        with pytest.raises(StoreUnavailableError):
            await client.get("/")
        disk.error = None
        (job,) = await all_ended(runner)
        assert job.state == "succeeded"
    assert tasks.seen == ["stored"]


@pytest.mark.usefixtures("mode")
async def test_an_add_after_the_end_of_the_request_is_refused(
    app: FastAPI, runner: TaskRunner
) -> None:
    kept: list[Any] = []

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        kept.append(background_tasks)

    async with serving(app) as client:
        await client.get("/")
        with pytest.raises(ConfigurationError, match="the request has ended"):
            kept[0].add_task(tasks.note, "never")
        with pytest.raises(ConfigurationError, match="the request has ended"):
            kept[0].options(delay=1).add_task(tasks.note, "never")
        assert await stored(runner) == []
    assert tasks.seen == []
