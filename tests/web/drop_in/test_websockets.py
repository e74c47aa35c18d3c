"""The tasks of a WebSocket run when it has closed; plain never runs them.

What lives here: durable and non-durable tasks of WebSocket endpoints. What does not: HTTP. Run by
pytest.
"""

from __future__ import annotations

import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect

from embedded_tasks import (
    BackgroundTasks as DurableTasks,
    NotDurableWarning,
    NotStartedError,
    TaskRunner,
)
from tests.web.drop_in import tasks
from tests.web.drop_in.disk import Disk
from tests.web.drop_in.serving import all_ended, serving, stored
from tests.web.drop_in.sockets import talk

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("way")]


def app_of(runner: TaskRunner) -> FastAPI:
    app, router = FastAPI(), APIRouter()
    runner.install(app)

    @app.websocket("/patient")
    async def patient(websocket: WebSocket, background_tasks: DurableTasks) -> None:
        await websocket.accept()
        background_tasks.add_task(tasks.tell)
        background_tasks.add_task(lambda: tasks.note("here"))
        try:
            while True:
                tasks.note(await websocket.receive_text())
        except WebSocketDisconnect:
            tasks.note("gone")

    @router.websocket("/impatient")
    async def impatient(websocket: WebSocket, background_tasks: BackgroundTasks) -> None:
        await websocket.accept()
        background_tasks.add_task(tasks.note, "never")
        await websocket.receive_text()

    app.include_router(router)
    return app


@pytest.mark.usefixtures("mode")
async def test_its_tasks_run_when_it_has_closed(runner: TaskRunner, disk: Disk) -> None:
    app = app_of(runner)
    async with serving(app):
        with pytest.warns(NotDurableWarning):
            await talk(app, "/patient", "one", "two")
        (job,) = await all_ended(runner)
        assert job.state == "succeeded"
    assert tasks.seen == ["one", "two", "gone", (1, "ws-1"), "here"]
    assert disk.events == ["committed"]


@pytest.mark.usefixtures("mode")
async def test_nothing_is_stored_if_its_endpoint_raises(runner: TaskRunner, disk: Disk) -> None:
    app = app_of(runner)
    async with serving(app):
        with pytest.raises(WebSocketDisconnect):
            await talk(app, "/impatient")
        assert await stored(runner) == []
    assert disk.events == []
    assert tasks.seen == []


@pytest.mark.usefixtures("production")
async def test_without_a_lifespan_add_task_raises(runner: TaskRunner) -> None:
    with pytest.raises(NotStartedError):
        await talk(app_of(runner), "/patient")
    assert tasks.seen == []
