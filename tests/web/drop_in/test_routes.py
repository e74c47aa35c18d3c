"""Which routes are reached: all of the app, wherever they were made and whenever.

What lives here: routers, mounts, route classes, the order of `install` and the routes. What does
not: what a route's endpoint may say (test_recognition.py). Run by pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Host, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedded_tasks import NotStartedError, TaskRunner
from embedded_tasks.errors import ConfigurationError, NotInstalledWarning
from embedded_tasks.fastapi import BackgroundTask
from embedded_tasks.fastapi.background import SCOPE
from tests.web.drop_in import tasks
from tests.web.drop_in.serving import FASTAPI, Visitor, all_ended, serving, stored

pytestmark = pytest.mark.anyio

LIVE_ROUTERS = pytest.mark.skipif(
    FASTAPI < (0, 137), reason="this FastAPI copies a router's routes when it is included"
)


async def adds(background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(tasks.note, "job")


class OwnRoute(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            tasks.note("own route")
            return await handler(request)

        return handle


def direct(app: FastAPI) -> None:
    app.get("/job")(adds)


def by_router(app: FastAPI) -> None:
    router = APIRouter()
    router.get("/job")(adds)
    app.include_router(router)


def by_nested_routers(app: FastAPI) -> None:
    inner, middle = APIRouter(), APIRouter()
    inner.get("/job")(adds)
    middle.include_router(inner)
    app.include_router(middle)


def by_route_class(app: FastAPI) -> None:
    router = APIRouter(route_class=OwnRoute)
    router.get("/job")(adds)
    app.include_router(router)


def by_route_class_of_the_app(app: FastAPI) -> None:
    app.router.route_class = OwnRoute
    app.get("/job")(adds)


def by_mounted_router(app: FastAPI) -> None:
    router = APIRouter()
    router.get("/job")(adds)
    app.mount("/", router)


def by_host(app: FastAPI) -> None:
    router = APIRouter()
    router.get("/job")(adds)
    app.router.routes.append(Host("test", router))


def by_hand(app: FastAPI) -> None:
    app.router.routes.append(APIRoute("/job", adds))


def by_mount_of_routes(app: FastAPI) -> None:
    app.router.routes.append(Mount("/", routes=[APIRoute("/job", adds)]))


def with_options(app: FastAPI) -> None:
    app.api_route("/job", methods=["GET"], status_code=202, tags=["x"])(adds)


MAKES = pytest.mark.parametrize(
    "make",
    [
        direct,
        by_router,
        by_nested_routers,
        by_route_class,
        by_route_class_of_the_app,
        by_mounted_router,
        by_host,
        by_hand,
        by_mount_of_routes,
        with_options,
    ],
)


@MAKES
@pytest.mark.usefixtures("way", "mode")
@pytest.mark.parametrize("first", ["install", "routes"])
async def test_every_route_is_reached_whatever_came_first(
    runner: TaskRunner, make: Callable[[FastAPI], None], first: str
) -> None:
    app = FastAPI()
    if first == "install":
        runner.install(app)
        make(app)
    else:
        make(app)
        runner.install(app)
    async with serving(app) as client:
        for _ in range(2):
            assert (await client.get("/job")).is_success
        jobs = await all_ended(runner)
        assert [job.state for job in jobs] == ["succeeded"] * 2
    assert tasks.seen.count("job") == 2
    assert ("own route" in tasks.seen) == (make in (by_route_class, by_route_class_of_the_app))


# The oldest FastAPI makes its schema with what Pydantic calls deprecated.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@MAKES
async def test_the_schema_is_the_same_with_and_without(
    runner: TaskRunner, make: Callable[[FastAPI], None]
) -> None:
    plain, before, after = FastAPI(), FastAPI(), FastAPI()
    make(plain)
    make(before)
    runner.install(before)
    runner.install(after)
    make(after)
    async with serving(before), serving(after):
        assert before.openapi() == plain.openapi()
        assert after.openapi() == plain.openapi()


@pytest.mark.usefixtures("way", "mode")
async def test_a_router_that_is_included_twice_is_reached_twice(runner: TaskRunner) -> None:
    app, router = FastAPI(), APIRouter()
    router.get("/job")(adds)
    app.include_router(router, prefix="/one")
    runner.install(app)
    app.include_router(router, prefix="/two")
    async with serving(app) as client:
        await client.get("/one/job")
        await client.get("/two/job")
        assert len(await all_ended(runner)) == 2


@pytest.mark.usefixtures("way", "mode")
async def test_an_app_without_a_runner_that_has_the_same_router_stays_as_it_is(
    runner: TaskRunner,
) -> None:
    app, plain, router = FastAPI(), FastAPI(), APIRouter()
    router.get("/job")(adds)
    app.include_router(router)
    plain.include_router(router)
    runner.install(app)
    async with serving(app), serving(plain) as client:
        await client.get("/job")
        assert await stored(runner) == []
    assert tasks.seen == ["job"]


async def test_a_request_leaves_nothing_behind_in_the_context_of_its_caller(
    runner: TaskRunner,
) -> None:
    app = FastAPI()
    runner.install(app)
    direct(app)
    async with serving(app) as client:
        await client.get("/job")
        assert SCOPE.get() is None


@LIVE_ROUTERS
@pytest.mark.usefixtures("way", "mode")
async def test_a_route_that_is_added_to_an_included_router_is_reached(runner: TaskRunner) -> None:
    app, router = FastAPI(), APIRouter()
    app.include_router(router)
    runner.install(app)
    async with serving(app) as client:
        assert (await client.get("/job")).status_code == 404
        router.get("/job")(adds)
        await client.get("/job")
        assert len(await all_ended(runner)) == 1


@MAKES
@pytest.mark.usefixtures("way", "mode")
async def test_install_on_an_app_that_has_answered_already_works(
    runner: TaskRunner, make: Callable[[FastAPI], None]
) -> None:
    app = FastAPI()
    make(app)
    async with serving(app) as client:
        await client.get("/job")
    runner.install(app)
    async with serving(app) as client:
        await client.get("/job")
        assert len(await all_ended(runner)) == 1
    assert tasks.seen.count("job") == 2


@pytest.mark.usefixtures("way", "mode")
async def test_a_middleware_may_copy_the_scope(runner: TaskRunner) -> None:
    class Copies:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await self.app(dict(scope), receive, send)

    app = FastAPI()
    runner.install(app)
    direct(app)
    app.add_middleware(Copies)

    @app.get("/own")
    async def own() -> Response:
        return Response(background=BackgroundTask(tasks.note, "own"))

    @app.get("/both")
    def both(background_tasks: BackgroundTasks) -> Response:
        background_tasks.add_task(tasks.note, "job")
        return Response(background=BackgroundTask(tasks.note, "own"))

    async with serving(app) as client:
        for path in ("/job", "/own", "/both") * 2:
            await client.get(path)
        assert len(await all_ended(runner)) == 8
        assert runner.non_durable == 0
    assert sorted(tasks.seen) == ["job"] * 4 + ["own"] * 4


@pytest.mark.usefixtures("way", "mode")
async def test_a_middleware_may_call_the_app_again(runner: TaskRunner) -> None:
    class TriesTwice:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def drop(message: Message) -> None: ...

            await self.app(scope, receive, drop)
            await self.app(scope, receive, send)

    app = FastAPI()
    runner.install(app)
    direct(app)
    app.add_middleware(TriesTwice)

    @app.get("/own")
    async def own() -> Response:
        return Response(background=BackgroundTask(tasks.note, "own"))

    async with serving(app):
        for path in ("/job", "/own") * 2:
            await Visitor(app, path)()
        assert len(await all_ended(runner)) == 8
    assert sorted(tasks.seen) == ["job"] * 4 + ["own"] * 4


@pytest.mark.usefixtures("way", "mode")
async def test_routes_of_an_installed_app_may_be_included_into_another(
    runner: TaskRunner,
) -> None:
    inner, outer = FastAPI(), FastAPI()
    direct(inner)
    runner.install(inner)
    outer.include_router(inner.router)
    async with serving(outer) as client:
        await client.get("/job")
        assert len(await all_ended(runner)) == 1
    assert tasks.seen == ["job"]


async def test_a_second_install_on_one_app_is_refused(runner: TaskRunner, path: Any) -> None:
    app = FastAPI()
    runner.install(app)
    for again in (runner, TaskRunner(path)):
        with pytest.raises(ConfigurationError, match="installed already"):
            again.install(app)


async def test_an_option_that_does_not_exist_is_refused(runner: TaskRunner) -> None:
    app = FastAPI()
    with pytest.raises(ConfigurationError, match="non_durable"):
        runner.install(app, non_durable="ignore")  # type: ignore[arg-type]  # the point of it
    with pytest.raises(ConfigurationError, match="on_crash"):
        runner.install(app, on_crash="ignore")  # type: ignore[arg-type]  # the point of it
    runner.install(app)


async def test_a_further_install_keeps_what_a_crash_means(runner: TaskRunner) -> None:
    app, sub = FastAPI(), FastAPI()
    app.mount("/sub", sub)
    direct(app)
    direct(sub)
    runner.install(app, on_crash="hold")
    runner.install(sub)
    async with serving(app) as client:
        await client.get("/job")
        await client.get("/sub/job")
        assert [record.on_crash for record in await stored(runner)] == ["hold"] * 2


@pytest.mark.usefixtures("mode")
async def test_the_lifespan_alone_leaves_background_tasks_as_they_are(runner: TaskRunner) -> None:
    app = FastAPI()
    runner.install(app, background_tasks=False)
    direct(app)
    async with serving(app) as client:
        await client.get("/job")
        assert await stored(runner) == []
    assert tasks.seen == ["job"]


@pytest.mark.skipif(not hasattr(FastAPI, "frontend"), reason="this FastAPI serves no files itself")
@pytest.mark.usefixtures("way", "mode")
@pytest.mark.parametrize("first", ["install", "files"])
async def test_files_that_fastapi_serves_are_as_before(path: Path, first: str) -> None:
    runner = TaskRunner(path, modules=["tests"])
    folder = path.with_name("site")
    folder.mkdir()
    (folder / "index.html").write_text("hello")
    app = FastAPI(dependencies=[Depends(adds)])
    if first == "install":
        runner.install(app)
    app.frontend("/", directory=folder)
    if first == "files":
        runner.install(app)
    async with serving(app) as client:
        for _ in range(2):
            assert (await client.get("/")).text == "hello"
        # Files that were there before have their dependencies fixed; plain runs their tasks.
        assert len(await all_ended(runner)) == (2 if first == "install" else 0)
    assert tasks.seen == ["job", "job"]


# Mounted apps.


def mounted(sub: FastAPI, how: str) -> FastAPI:
    app = FastAPI()
    match how:
        case "mount":
            app.mount("/sub", sub)
        case "host":
            app.host("test", sub)
        case "middleware":
            layer = Middleware(BaseHTTPMiddleware, dispatch=lambda request, go_on: go_on(request))
            app.router.routes.append(Mount("/sub", app=sub, middleware=[layer]))
        case "starlette":
            app.mount("/", Starlette(routes=[Mount("/sub", app=sub)]))
        case _:
            router = APIRouter()
            router.mount("/sub", sub)
            app.include_router(router)
    return app


HOWS = pytest.mark.parametrize(
    "how",
    [
        *("mount", "host", "middleware", "starlette"),
        pytest.param("router", marks=LIVE_ROUTERS),
    ],
)


@HOWS
async def test_a_mounted_app_without_a_runner_is_warned_of_at_start(
    runner: TaskRunner, how: str
) -> None:
    app = mounted(FastAPI(), how)
    runner.install(app)
    where = "'test'" if how == "host" else "'/sub'"
    with pytest.warns(NotInstalledWarning, match=where):
        async with serving(app):
            pass


@HOWS
@pytest.mark.usefixtures("way", "mode")
async def test_a_mounted_app_with_the_same_runner_works(runner: TaskRunner, how: str) -> None:
    sub = FastAPI()
    direct(sub)
    app = mounted(sub, how)
    runner.install(app)
    runner.install(sub)
    app.get("/own")(adds)
    async with serving(app) as client:
        await client.get("/job" if how == "host" else "/sub/job")
        jobs = await all_ended(runner)
        assert [job.state for job in jobs] == ["succeeded"]
    assert tasks.seen == ["job"]


@pytest.mark.usefixtures("production", "way")
async def test_a_mounted_app_with_a_runner_that_nobody_starts_says_so(
    runner: TaskRunner, path: Any
) -> None:
    sub = FastAPI()
    direct(sub)
    app = mounted(sub, "mount")
    runner.install(app)
    TaskRunner(path.with_name("other.db")).install(sub)
    async with serving(app) as client:
        with pytest.raises(NotStartedError):
            await client.get("/sub/job")
    assert tasks.seen == []


@pytest.mark.usefixtures("mode", "way")
async def test_two_apps_may_have_two_runners(runner: TaskRunner, path: Any) -> None:
    first, second = FastAPI(), FastAPI()
    other = TaskRunner(path.with_name("other.db"))
    for app, own in ((first, runner), (second, other)):
        own.install(app)
        direct(app)
    async with serving(first) as one, serving(second) as two:
        await one.get("/job")
        await two.get("/job")
        await two.get("/job")
        assert len(await all_ended(runner)) == 1
        assert len(await all_ended(other)) == 2
