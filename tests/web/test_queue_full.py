"""What a client gets while too many jobs wait.

What lives here: 503 with `Retry-After`, from every way in, and that nothing is stored then. What
does not: counting (`tests/unit/test_backpressure.py`). Called by pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import BackgroundTasks, FastAPI, Request, WebSocket
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from embedded_tasks import TaskRunner
from embedded_tasks.errors import QueueFullError
from embedded_tasks.job import JobState

LIMIT = 3


def nothing(number: int) -> int:
    return number


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskRunner:
    # Outside test mode, in which a request waits for its jobs.
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "0")
    return TaskRunner(tmp_path / "tasks.db", max_queued={"*": LIMIT, "mail": 1}, synchronous="OFF")


@pytest.fixture
def app(runner: TaskRunner) -> FastAPI:
    app = FastAPI()
    runner.install(app)
    later = runner.options(delay=3600)

    @app.post("/fill")
    async def fill(number: int) -> None:
        for _ in range(number):
            await later.enqueue(nothing, 0)

    @app.post("/add")
    async def add(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(nothing, 1)
        background_tasks.add_task(nothing, 2)

    @app.post("/enqueue")
    async def enqueue() -> None:
        await later.enqueue(nothing, 3)

    @app.post("/threads")
    def enqueue_from_a_thread() -> None:
        later.enqueue_sync(nothing, 4)

    @app.post("/mail")
    async def mail() -> None:
        await runner.options(delay=3600, queue="mail").enqueue(nothing, 5)

    @app.post("/now")
    async def now() -> int:
        job = await runner.enqueue(nothing, 6)
        return await job.result(timeout=10)

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await later.enqueue(nothing, 7)

    return app


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def queued(client: TestClient, runner: TaskRunner) -> int:
    assert client.portal is not None
    return client.portal.call(runner.counts)[JobState.QUEUED]


def fill(client: TestClient) -> None:
    assert client.post("/fill", params={"number": LIMIT}).status_code == 200


@pytest.mark.parametrize("path", ["/add", "/enqueue", "/threads"])
def test_a_client_is_told_when_to_come_back_and_nothing_is_stored(
    client: TestClient, runner: TaskRunner, path: str
) -> None:
    fill(client)
    response = client.post(path)
    assert response.status_code == 503
    assert 1 <= int(response.headers["retry-after"]) <= 300
    assert response.json() == {"detail": "Too much work is waiting. Please try again later."}
    assert queued(client, runner) == LIMIT


def test_of_a_request_whose_tasks_have_no_place_none_is_stored(
    client: TestClient, runner: TaskRunner
) -> None:
    client.post("/fill", params={"number": LIMIT - 1})
    assert client.post("/add").status_code == 503
    assert queued(client, runner) == LIMIT - 1
    assert client.post("/enqueue").status_code == 200


def test_a_job_that_starts_at_once_does_not_wait_and_is_not_refused(client: TestClient) -> None:
    fill(client)
    response = client.post("/now")
    assert (response.status_code, response.json()) == (200, 6)


def test_a_full_queue_leaves_the_others_open(client: TestClient) -> None:
    assert client.post("/mail").status_code == 200
    assert client.post("/mail").status_code == 503
    assert client.post("/enqueue").status_code == 200


def test_the_answer_has_the_form_of_the_app_s_other_errors(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def as_problem(_request: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"title": error.detail}, error.status_code, error.headers)

    with TestClient(app) as client:
        fill(client)
        response = client.post("/enqueue")
    assert response.status_code == 503
    assert response.json() == {"title": "Too much work is waiting. Please try again later."}
    assert response.headers["retry-after"]


def test_an_app_s_own_handler_is_asked(app: FastAPI) -> None:
    @app.exception_handler(QueueFullError)
    async def teapot(_request: Request, error: QueueFullError) -> JSONResponse:
        return JSONResponse({"limit": error.limit}, 418)

    with TestClient(app) as client:
        fill(client)
        responses = [client.post("/enqueue"), client.post("/add")]
    assert [(one.status_code, one.json()) for one in responses] == [(418, {"limit": LIMIT})] * 2


def test_a_websocket_s_endpoint_fails_as_with_any_other_error(client: TestClient) -> None:
    fill(client)
    with pytest.raises((QueueFullError, WebSocketDisconnect)):  # noqa: SIM117  # one is of the other
        with client.websocket_connect("/socket") as socket:
            socket.receive_text()


def test_health_says_that_jobs_are_refused_and_the_process_stays_ready(
    client: TestClient, runner: TaskRunner
) -> None:
    assert client.portal is not None
    fill(client)
    assert client.portal.call(runner.health).ok
    client.post("/enqueue")
    health = client.portal.call(runner.health)
    assert not health.ok
    assert "max_queued allows 3" in health.problems[0]
    assert health.ready
