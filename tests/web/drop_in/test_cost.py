"""A route without background tasks pays for none.

What lives here: when the adapter's dependency is taken off a route, and that nothing else is. What
does not: figures (benchmarks). Run by pytest.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, Header, HTTPException, WebSocket

from embedded_tasks import TaskRunner
from embedded_tasks.fastapi.batch import RequestBatch
from tests.web.drop_in import tasks
from tests.web.drop_in.serving import all_ended, client_of, serving
from tests.web.drop_in.sockets import talk

pytestmark = pytest.mark.anyio


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the requests for which the adapter has made a batch."""
    paths: list[str] = []
    original = RequestBatch.__init__

    def make_and_note(batch: RequestBatch, runner: Any, given: Any, scope: Any, **how: Any) -> None:
        paths.append(scope["path"])
        original(batch, runner, given, scope, **how)

    monkeypatch.setattr(RequestBatch, "__init__", make_and_note)
    return paths


async def without() -> str:
    return "without"


async def with_tasks(background_tasks: BackgroundTasks) -> str:
    background_tasks.add_task(tasks.note, "job")
    return "with"


async def below(background_tasks: BackgroundTasks) -> None: ...


async def dependency(below: Annotated[None, Depends(below)]) -> None: ...


async def with_deep_tasks(dependency: Annotated[None, Depends(dependency)]) -> str:
    return "deep"


async def transaction() -> Any:
    yield


def routes_of(router: Any) -> None:
    router.get("/without")(without)
    router.get("/with")(with_tasks)
    router.get("/deep")(with_deep_tasks)
    needs = [Depends(transaction, scope="function")]
    router.get("/may-fail", dependencies=needs)(without)
    # Whatever becomes of this one, the response is sent by then.
    router.get("/session", dependencies=[Depends(transaction)])(without)


@pytest.mark.parametrize("how", ["direct", "router"])
async def test_a_route_without_tasks_needs_no_batch(
    runner: TaskRunner, production: None, opened: list[str], how: str
) -> None:
    app, router = FastAPI(), APIRouter()
    runner.install(app)
    routes_of(app if how == "direct" else router)
    app.include_router(router)
    async with serving(app) as client:
        for _ in range(3):
            for path in ("/without", "/session", "/with", "/deep", "/may-fail"):
                assert (await client.get(path)).status_code == 200
        assert len(await all_ended(runner)) == 3
    assert {path: opened.count(path) for path in opened} == {
        "/with": 3,
        "/deep": 3,
        "/may-fail": 3,
    }


async def test_nothing_is_taken_off_while_the_other_way_is_taken(
    runner: TaskRunner, production: None, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedded_tasks.fastapi.installing.has_function_stack", lambda: False)
    app = FastAPI()
    runner.install(app)
    app.get("/")(without)
    async with serving(app) as client:
        for _ in range(3):
            await client.get("/")
    assert len(opened) == 3


async def admit(password: Annotated[str, Header()] = "") -> None:
    # Others have their turns meanwhile.
    for _ in range(5):
        await asyncio.sleep(0)
    if password != "secret":
        raise HTTPException(401)


@pytest.mark.parametrize("how", ["app", "router", "route"])
async def test_no_request_gets_past_a_dependency_while_ours_is_taken_off(
    runner: TaskRunner, production: None, how: str
) -> None:
    lock = [Depends(admit)]
    app = FastAPI(dependencies=lock if how == "app" else None)
    router = APIRouter(dependencies=lock if how == "router" else None)
    runner.install(app)
    for number in range(10):
        own = lock if how == "route" else None
        router.get(f"/{number}", dependencies=own)(without)
    app.include_router(router)
    async with serving(app) as client:
        visits = [client.get(f"/{number % 10}") for number in range(100)]
        answers = await asyncio.gather(*visits)
        assert {answer.status_code for answer in answers} == {401}
        admitted = await client.get("/1", headers={"password": "secret"})
        assert admitted.json() == "without"


async def test_an_override_may_bring_background_tasks_in(
    runner: TaskRunner, mode: str, opened: list[str]
) -> None:
    async def plain() -> None: ...

    app = FastAPI()
    runner.install(app)
    app.get("/", dependencies=[Depends(plain)])(without)

    async def override(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "override")

    if mode == "production":
        app.dependency_overrides[plain] = override
    async with serving(app) as client:
        await client.get("/")
        app.dependency_overrides[plain] = override
        await client.get("/")
        await all_ended(runner)
    assert tasks.seen == ["override"] * (2 if mode == "production" else 1)


async def test_an_override_works_on_a_route_with_tasks(runner: TaskRunner, mode: str) -> None:
    async def plain(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "never")

    async def override(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "override")

    app = FastAPI()
    runner.install(app)
    app.get("/", dependencies=[Depends(plain)])(without)
    app.dependency_overrides[plain] = override
    async with serving(app), client_of(app) as client:
        await client.get("/")
        assert len(await all_ended(runner)) == 1
    assert tasks.seen == ["override"]


async def test_a_websocket_without_tasks_works_again_and_again(
    runner: TaskRunner, production: None
) -> None:
    app = FastAPI()
    runner.install(app)

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    async with serving(app):
        for _ in range(3):
            assert "hello" in await talk(app, "/")
