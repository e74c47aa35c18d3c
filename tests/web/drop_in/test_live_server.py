"""A real server and real bytes: the answer after the commit, the job after the answer.

What lives here: what a client on a socket sees. What does not: the same by single messages
(test_order_of_writes.py, test_start.py). Run by pytest.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from fastapi import BackgroundTasks, FastAPI, Request, Response
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import FileResponse, PlainTextResponse
from starlette.middleware.base import BaseHTTPMiddleware

from embedded_tasks import TaskRunner
from tests.web.drop_in import tasks
from tests.web.drop_in.disk import Disk
from tests.web.drop_in.live import has_bytes, live, read_all
from tests.web.drop_in.serving import all_ended

pytestmark = pytest.mark.usefixtures("production")

SIZE = 20_000_000  # more than the buffers of both sides hold


async def pass_on(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
    return await go_on(request)


def app_with(runner: TaskRunner) -> FastAPI:
    app = FastAPI()
    runner.install(app)

    @app.get("/two")
    async def two(background_tasks: BackgroundTasks) -> dict[str, bool]:
        background_tasks.add_task(tasks.note, 1)
        background_tasks.add_task(tasks.anote, 2)
        return {"ok": True}

    @app.get("/none")
    async def none() -> None: ...

    @app.get("/large")
    async def large(background_tasks: BackgroundTasks) -> Response:
        background_tasks.add_task(tasks.note, "told")
        return PlainTextResponse("x" * SIZE)

    @app.get("/file")
    def file(path: str, background_tasks: BackgroundTasks) -> FileResponse:
        background_tasks.add_task(os.remove, path)
        return FileResponse(path)

    return app


def test_a_client_gets_no_byte_before_the_commit(runner: TaskRunner, disk: Disk) -> None:
    with live(app_with(runner)) as server:
        disk.hold()
        connection = server.get("/two")
        assert disk.reached.wait(30)
        # The server is not stuck: others are answered, and still this one gets nothing.
        assert b"200 OK" in read_all(server.get("/none"))
        assert not has_bytes(connection)
        disk.open_gate()
        assert b'{"ok":true}' in read_all(connection)
        server.on_loop(all_ended(runner))
    assert tasks.seen == [1, 2]


def test_a_client_of_a_broken_disk_gets_503(runner: TaskRunner, disk: Disk) -> None:
    with live(app_with(runner)) as server:
        disk.error = 13
        assert b"503 Service Unavailable" in read_all(server.get("/two"))
        assert server.on_loop(all_ended(runner)) == []
    assert tasks.seen == []


@pytest.mark.parametrize("middleware", [None, "base", "gzip", "both"])
def test_a_file_is_removed_after_its_last_byte_was_sent(
    runner: TaskRunner, tmp_path: Path, middleware: str | None
) -> None:
    app = app_with(runner)
    if middleware in ("base", "both"):
        app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    if middleware in ("gzip", "both"):
        app.add_middleware(GZipMiddleware)
    file = tmp_path / "report.bin"
    file.write_bytes(os.urandom(1000) * (SIZE // 1000))
    content = file.read_bytes()
    with live(app) as server:
        connection = server.get(f"/file?path={file}")
        connection.recv(1)
        # Most of it is still to be sent, and nobody reads it.
        assert b"200 OK" in read_all(server.get("/none"))
        assert file.exists()
        assert read_all(connection).endswith(content)
        (job,) = server.on_loop(all_ended(runner))
        assert job.state == "succeeded"
    assert not file.exists()


@pytest.mark.parametrize("middleware", [False, True])
def test_a_client_that_goes_away_does_not_take_the_job_with_it(
    runner: TaskRunner, disk: Disk, middleware: bool
) -> None:
    app = app_with(runner)
    if middleware:
        app.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    with live(app) as server:
        disk.hold()
        connection = server.get("/two")
        assert disk.reached.wait(30)
        connection.close()
        disk.open_gate()
        connection = server.get("/large")
        connection.recv(1)
        connection.close()
        assert len(server.on_loop(all_ended(runner))) == 3
    assert sorted(map(str, tasks.seen)) == ["1", "2", "told"]
