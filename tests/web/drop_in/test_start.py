"""A job starts when its request has ended, and a test's client waits for it.

What lives here: what is over before a job starts, in test mode and in production. What does not:
the order among the jobs of a request (test_order.py). Run by pytest.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Request, Response
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, StreamingResponse
from starlette.middleware.base import BaseHTTPMiddleware

from embedded_tasks import NotDurableWarning, TaskRunner
from tests.web.drop_in import tasks
from tests.web.drop_in.serving import Visitor, all_ended, client_of, serving

pytestmark = pytest.mark.anyio


async def session() -> AsyncIterator[None]:
    yield
    tasks.seen.append("closed")


def sync_session() -> Iterator[None]:
    yield
    tasks.seen.append("closed")


async def pass_on(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    return await go_on(request)


def app_of(runner: TaskRunner, middleware: str = "none") -> FastAPI:
    app = FastAPI()
    runner.install(app)
    if middleware == "gzip":
        app.add_middleware(GZipMiddleware, minimum_size=1)
    if middleware == "base":
        app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    return app


@pytest.mark.usefixtures("mode", "way")
@pytest.mark.parametrize("dependency", [session, sync_session])
@pytest.mark.parametrize("function", [tasks.note, tasks.anote])
@pytest.mark.parametrize("middleware", ["none", "gzip", "base"])
async def test_a_job_starts_when_the_response_is_sent_and_the_dependencies_are_closed(
    runner: TaskRunner, dependency: Any, function: Any, middleware: str
) -> None:
    app = app_of(runner, middleware)

    @app.get("/", dependencies=[Depends(dependency)])
    async def endpoint(background_tasks: BackgroundTasks) -> StreamingResponse:
        background_tasks.add_task(function, "job")
        return StreamingResponse(iter([b"1", b"2"]))

    async with serving(app):
        await Visitor(app, "/", tasks.seen)()
        await all_ended(runner)
    before = tasks.seen[: tasks.seen.index("job")]
    assert "closed" in before
    assert before.count("body") == tasks.seen.count("body") >= 2


@pytest.mark.usefixtures("mode", "way")
@pytest.mark.parametrize("middleware", ["none", "gzip", "base"])
async def test_a_file_that_is_sent_can_be_removed_by_a_task(
    runner: TaskRunner, tmp_path: Path, middleware: str
) -> None:
    app = app_of(runner, middleware)
    file = tmp_path / "report.csv"
    file.write_text("1,2\n" * 100_000)

    @app.get("/")
    def endpoint(background_tasks: BackgroundTasks) -> FileResponse:
        background_tasks.add_task(os.remove, file)
        return FileResponse(file)

    async with serving(app) as client:
        assert len((await client.get("/")).content) == 400_000
        (job,) = await all_ended(runner)
        assert (job.task, job.state) == ("posix:remove", "succeeded")
    assert not file.exists()


@pytest.mark.parametrize("middleware", ["none", "gzip", "base"])
async def test_under_test_the_client_waits_for_the_first_attempts(
    runner: TaskRunner, middleware: str
) -> None:
    app = app_of(runner, middleware)

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.slow_note, 1)
        background_tasks.add_task(tasks.note, 2)

    async with serving(app):
        await Visitor(app, "/", tasks.seen)()
        assert tasks.seen[-3:] == [1, 2, "ended"]


@pytest.mark.usefixtures("production")
async def test_in_production_the_request_does_not_wait_for_its_jobs(runner: TaskRunner) -> None:
    app = app_of(runner)

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.wait, "job")

    async with serving(app):
        await Visitor(app, "/", tasks.seen)()
        assert tasks.seen == ["start", "body", "ended"]
        tasks.GO_ON.set()
        await all_ended(runner)
        assert tasks.seen[-1] == "job"


async def test_under_test_the_error_of_a_task_is_raised_as_plain_does(runner: TaskRunner) -> None:
    app = app_of(runner)

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.fail, "first")
        background_tasks.add_task(tasks.afail, "second")

    async with serving(app) as client:
        with pytest.raises(tasks.TaskError, match="first"):
            await client.get("/")
        # An accepted task is not dropped because the one before it failed.
        assert tasks.seen == ["first", "second"]
        async with client_of(app, raises=False) as quiet:
            assert (await quiet.get("/")).status_code == 200


async def test_under_test_an_error_is_raised_whatever_follows(runner: TaskRunner) -> None:
    app = app_of(runner)

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.fail, "first")
        background_tasks.add_task(lambda: tasks.note("here"))
        background_tasks.add_task(tasks.note, "last")

    async with serving(app) as client:
        with pytest.warns(NotDurableWarning), pytest.raises(tasks.TaskError, match="first"):
            await client.get("/")
    assert tasks.seen == ["first", "here", "last"]


async def test_under_test_an_error_that_is_retried_is_not_raised(runner: TaskRunner) -> None:
    app = app_of(runner)

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.fail_until_tomorrow, "tried")

    async with serving(app) as client:
        assert (await client.get("/")).status_code == 200
        assert tasks.seen == ["tried"]


@pytest.mark.usefixtures("mode", "way")
async def test_a_request_that_fails_after_its_commit_starts_its_jobs_all_the_same(
    runner: TaskRunner,
) -> None:
    app = app_of(runner)

    async def breaks_at_the_end() -> AsyncIterator[None]:
        yield
        raise tasks.TaskError

    @app.get("/", dependencies=[Depends(breaks_at_the_end)])
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "job")

    async with serving(app) as client:
        with pytest.raises(tasks.TaskError):
            await client.get("/")
        await all_ended(runner)
    assert tasks.seen == ["job"]


@pytest.mark.usefixtures("mode", "way")
async def test_a_client_that_cannot_be_sent_to_does_not_stop_the_job(runner: TaskRunner) -> None:
    app = app_of(runner)

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "job")

    class Gone(Visitor):
        async def _send(self, message: Any) -> None:
            raise OSError("the client has gone away")

    async with serving(app):
        with pytest.raises(OSError, match="gone away"):
            await Gone(app, "/")()
        await all_ended(runner)
    assert tasks.seen == ["job"]


@pytest.mark.usefixtures("mode", "way")
async def test_a_request_that_is_cancelled_while_it_is_answered_starts_its_job(
    runner: TaskRunner,
) -> None:
    app = app_of(runner)
    answering = asyncio.Event()

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> StreamingResponse:
        background_tasks.add_task(tasks.note, "job")

        async def body() -> AsyncIterator[bytes]:
            answering.set()
            await asyncio.Event().wait()
            yield b""

        return StreamingResponse(body())

    async with serving(app):
        request = asyncio.create_task(Visitor(app, "/")())
        await answering.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await all_ended(runner)
    assert tasks.seen == ["job"]


@pytest.mark.usefixtures("production")
async def test_a_job_of_a_request_that_outlives_the_lifespan_is_not_stranded(
    path: Path,
) -> None:
    runner = TaskRunner(path)
    app = app_of(runner)
    answering, go_on = asyncio.Event(), asyncio.Event()

    @app.get("/")
    async def endpoint(background_tasks: BackgroundTasks) -> StreamingResponse:
        background_tasks.add_task(tasks.note, "job")

        async def body() -> AsyncIterator[bytes]:
            answering.set()
            await go_on.wait()
            yield b"end"

        return StreamingResponse(body())

    async with serving(app):
        request = asyncio.create_task(Visitor(app, "/")())
        await answering.wait()
    go_on.set()
    await request
    assert tasks.seen == []
    async with runner.open(run_jobs=True):
        (job,) = await all_ended(runner)
        assert job.state == "succeeded"
    assert tasks.seen == ["job"]
