"""`Response(background=...)`: ours is durable anywhere, anybody's on a DurableRoute.

What lives here: backgrounds that an endpoint returns with its own response. What does not: the
injected BackgroundTasks alone. Run by pytest.
"""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import fastapi
import pytest
import starlette.background
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse

import embedded_tasks
from embedded_tasks import (
    Job,
    NotDurableError,
    NotDurableWarning,
    NotStartedError,
    TaskRunner,
)
from embedded_tasks.errors import ConfigurationError
from embedded_tasks.fastapi import BackgroundTask, DurableRoute
from tests.web.drop_in import tasks
from tests.web.drop_in.disk import Disk
from tests.web.drop_in.serving import (
    READS_OBJECTS,
    Visitor,
    all_ended,
    client_of,
    serving,
    stored,
)

pytestmark = pytest.mark.anyio

ForeignTask = starlette.background.BackgroundTask
ForeignTasks = starlette.background.BackgroundTasks


def our_task() -> Any:
    return BackgroundTask(tasks.note, "own")


def our_tasks() -> Any:
    own = embedded_tasks.BackgroundTasks()
    own.add_task(tasks.note, "own")
    return own


def foreign_task() -> Any:
    return ForeignTask(tasks.note, "own")


def foreign_tasks() -> Any:
    return ForeignTasks([ForeignTask(tasks.note, "own")])


def fastapi_tasks() -> Any:
    own = fastapi.BackgroundTasks()
    own.add_task(tasks.note, "own")
    return own


OURS = pytest.mark.parametrize("make", [our_task, our_tasks])
FOREIGN = pytest.mark.parametrize("make", [foreign_task, foreign_tasks, fastapi_tasks])
ANY = pytest.mark.parametrize(
    "make", [our_task, our_tasks, foreign_task, foreign_tasks, fastapi_tasks]
)
WAYS = pytest.mark.usefixtures("way", "mode")

Make = Callable[[], Any]


def app_with(runner: TaskRunner, endpoint: Any, route: Any = None, **options: Any) -> FastAPI:
    app = FastAPI()
    runner.install(app, **options)
    router = APIRouter(route_class=route) if route else APIRouter()
    # The oldest FastAPI does not find the names of annotations of objects and partials.
    router.get("/", response_model=None)(endpoint)
    app.include_router(router)
    return app


def endpoint_of(kind: str, make: Make) -> Any:
    """Every kind of endpoint that returns a response of its own."""

    def sync() -> Response:
        return JSONResponse({}, background=make())

    async def asynchronous() -> Response:
        return JSONResponse({}, background=make())

    async def with_injected(background_tasks: BackgroundTasks) -> Response:
        return JSONResponse({}, background=make())

    class Callable:
        def __call__(self) -> Response:
            return JSONResponse({}, background=make())

    class AsyncCallable:
        async def __call__(self) -> Response:
            return JSONResponse({}, background=make())

    kinds = {
        "sync": sync,
        "async": asynchronous,
        "injected": with_injected,
        "callable": Callable(),
        "async callable": AsyncCallable(),
        "partial": functools.partial(sync),
    }
    return kinds[kind]


KINDS = pytest.mark.parametrize(
    "kind",
    [
        *("sync", "async", "injected", "callable", "partial"),
        pytest.param("async callable", marks=READS_OBJECTS),
    ],
)


async def assert_stored_before_the_first_byte(app: FastAPI, runner: TaskRunner, disk: Disk) -> None:
    async with serving(app):
        for _ in range(2):
            disk.events.clear()
            await Visitor(app, "/", disk.events)()
            assert disk.events == ["committed", "start", "body", "ended"]
        jobs = await all_ended(runner)
        assert [job.state for job in jobs] == ["succeeded"] * 2
    assert tasks.seen == ["own"] * 2


@pytest.mark.usefixtures("way")
@OURS
@KINDS
async def test_ours_is_stored_before_the_first_byte(
    runner: TaskRunner, disk: Disk, make: Make, kind: str
) -> None:
    app = app_with(runner, endpoint_of(kind, make))
    await assert_stored_before_the_first_byte(app, runner, disk)
    assert runner.non_durable == 0


@WAYS
@ANY
async def test_on_a_durable_route_anybodys_is_stored_before_the_first_byte(
    runner: TaskRunner, disk: Disk, make: Make
) -> None:
    def endpoint() -> Response:
        return JSONResponse({}, background=make())

    app = app_with(runner, endpoint, route=DurableRoute)
    await assert_stored_before_the_first_byte(app, runner, disk)
    assert runner.non_durable == 0


@pytest.mark.usefixtures("way", "production")
@FOREIGN
@KINDS
async def test_a_foreign_one_runs_as_before_is_warned_of_and_counted(
    runner: TaskRunner, make: Make, kind: str
) -> None:
    app = app_with(runner, endpoint_of(kind, make))
    async with serving(app):
        # The second request of a route finds it as the first has left it.
        for number in (1, 2):
            with pytest.warns(NotDurableWarning, match="DurableRoute") as warned:
                await Visitor(app, "/", tasks.seen)()
            assert len(warned) == 1
            assert runner.non_durable == number
        assert await stored(runner) == []
    assert tasks.seen == ["start", "body", "own", "ended"] * 2


@WAYS
@FOREIGN
async def test_strict_refuses_a_foreign_one(runner: TaskRunner, make: Make) -> None:
    def endpoint() -> Response:
        return JSONResponse({}, background=make())

    app = app_with(runner, endpoint, non_durable="raise")
    async with serving(app) as client:
        with pytest.raises(NotDurableError, match="DurableRoute"):
            await client.get("/")
    assert tasks.seen == []


@WAYS
@ANY
@pytest.mark.parametrize("route", [None, DurableRoute])
async def test_injected_tasks_run_although_the_response_has_its_own(
    runner: TaskRunner, make: Make, route: Any
) -> None:
    async def session() -> AsyncIterator[None]:
        yield
        tasks.note("closed")

    def endpoint(
        background_tasks: BackgroundTasks, _: None = Depends(session)
    ) -> StreamingResponse:
        background_tasks.add_task(tasks.note, "injected")
        background_tasks.add_task(lambda: tasks.note("here"))
        return StreamingResponse(iter([b""]), background=make())

    durable = route is not None or make in (our_task, our_tasks)
    async with serving(app_with(runner, endpoint, route)) as client:
        with pytest.warns(NotDurableWarning):
            assert (await client.get("/")).status_code == 200
        assert len(await all_ended(runner)) == 1 + durable
    # What is not durable has the session open, as with plain.
    in_request = ["injected", "here"] if durable else ["injected", "here", "own"]
    assert tasks.seen[: len(in_request)] == in_request
    assert tasks.seen[len(in_request) :] == (["closed", "own"] if durable else ["closed"])


@WAYS
async def test_the_injected_tasks_may_be_the_responses_own(runner: TaskRunner, disk: Disk) -> None:
    def endpoint(background_tasks: BackgroundTasks) -> Response:
        background_tasks.add_task(tasks.note, "own")
        return JSONResponse({}, background=background_tasks)

    await assert_stored_before_the_first_byte(app_with(runner, endpoint), runner, disk)


@WAYS
@pytest.mark.parametrize("kind", [embedded_tasks.BackgroundTasks, ForeignTasks])
async def test_what_a_stream_adds_to_the_responses_own_is_stored_late(
    runner: TaskRunner, kind: Any
) -> None:
    def endpoint() -> StreamingResponse:
        own = kind([ForeignTask(tasks.note, 1)])

        def body() -> Iterator[bytes]:
            yield b"1"
            jobs.append(own.add_task(tasks.note, 2))
            own.tasks.append(ForeignTask(tasks.note, 3))

        return StreamingResponse(body(), background=own)

    jobs: list[Job[None]] = []
    async with serving(app_with(runner, endpoint, DurableRoute)) as client:
        await client.get("/")
        ended = await all_ended(runner)
        assert len(ended) == 3
        # It is one of ours by now, and gives handles.
        assert jobs[0].id == ended[1].id
    assert tasks.seen == [1, 2, 3]


@WAYS
async def test_nothing_of_ours_is_stored_if_a_dependency_fails_before_the_response(
    runner: TaskRunner,
) -> None:
    async def transaction() -> AsyncIterator[None]:
        yield
        raise tasks.TaskError

    def endpoint(_: None = Depends(transaction, scope="function")) -> Response:
        return JSONResponse({}, background=our_task())

    async with serving(app_with(runner, endpoint), raises=False) as client:
        for _ in range(2):
            assert (await client.get("/")).status_code == 500
        assert await stored(runner) == []
    assert tasks.seen == []


@WAYS
async def test_ours_that_cannot_be_stored_runs_as_before_is_warned_of_and_counted(
    runner: TaskRunner,
) -> None:
    def endpoint() -> Response:
        return JSONResponse({}, background=BackgroundTask(lambda: tasks.note("here")))

    async with serving(app_with(runner, endpoint)) as client:
        with pytest.warns(NotDurableWarning, match="lambda"):
            await client.get("/")
    assert tasks.seen == ["here"]
    assert runner.non_durable == 1


@WAYS
async def test_ours_from_an_exception_handler_or_a_starlette_route_is_stored_late(
    runner: TaskRunner,
) -> None:
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "never")
        raise tasks.TaskError

    app = app_with(runner, endpoint)

    @app.exception_handler(tasks.TaskError)
    async def handle(request: Request, error: Exception) -> Response:
        return JSONResponse({}, 409, background=BackgroundTask(tasks.note, "handler"))

    def plain(request: Request) -> Response:
        return JSONResponse({}, background=our_tasks())

    app.add_route("/starlette", plain)
    async with serving(app) as client:
        assert (await client.get("/")).status_code == 409
        assert (await client.get("/starlette")).status_code == 200
        jobs = await all_ended(runner)
        assert [job.state for job in jobs] == ["succeeded"] * 2
    assert tasks.seen == ["handler", "own"]


@pytest.mark.usefixtures("production")
@ANY
async def test_without_a_lifespan_what_should_be_durable_is_refused(
    runner: TaskRunner, make: Make
) -> None:
    def endpoint() -> Response:
        return JSONResponse({}, background=make())

    async with client_of(app_with(runner, endpoint, DurableRoute)) as client:
        with pytest.raises(NotStartedError):
            await client.get("/")
    assert tasks.seen == []


@ANY
@pytest.mark.parametrize("route", [None, DurableRoute])
async def test_under_test_without_a_lifespan_it_runs_as_plain(
    runner: TaskRunner, make: Make, route: Any
) -> None:
    def endpoint() -> Response:
        return JSONResponse({}, background=make())

    async with client_of(app_with(runner, endpoint, route)) as client:
        await client.get("/")
    assert tasks.seen == ["own"]
    assert runner.non_durable == 0


async def test_a_durable_route_without_a_runner_says_so() -> None:
    app = FastAPI()
    app.router.route_class = DurableRoute
    app.get("/")(foreign_task)
    async with client_of(app) as client:
        with pytest.raises(ConfigurationError, match=r"runner\.install\(app\)"):
            await client.get("/")


async def test_ours_outside_an_app_behaves_as_starlettes() -> None:
    task = BackgroundTask(tasks.anote, "ran")
    assert isinstance(task, ForeignTask)
    assert (task.func, task.args, task.kwargs) == (tasks.anote, ("ran",), {})
    await task()
    assert tasks.seen == ["ran"]
    with pytest.raises(TypeError, match="was given as the task"):
        BackgroundTask(None)  # type: ignore[arg-type]  # the point of it


@WAYS
async def test_a_file_is_sent_before_its_task_removes_it(
    runner: TaskRunner, tmp_path: Path
) -> None:
    file = tmp_path / "report.csv"
    file.write_text("1,2")

    def endpoint() -> FileResponse:
        return FileResponse(file, background=BackgroundTask(os.remove, file))

    async with serving(app_with(runner, endpoint)) as client:
        assert (await client.get("/")).content == b"1,2"
        await all_ended(runner)
    assert not file.exists()
