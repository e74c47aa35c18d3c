"""Durable before the answer: everything of a request in one commit, before its first byte.

What lives here: the order of commits and messages, and what happens when storing fails. What does
not: when jobs start (test_start.py). Run by pytest.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Annotated, Any, cast

import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Response
from fastapi.exceptions import ResponseValidationError

from embedded_tasks import TaskRunner
from tests.web.drop_in import tasks
from tests.web.drop_in.disk import Disk
from tests.web.drop_in.serving import Visitor, all_ended, serving, stored, turns

pytestmark = pytest.mark.anyio


async def adds_two(background_tasks: BackgroundTasks) -> dict[str, bool]:
    background_tasks.add_task(tasks.note, 1)
    background_tasks.add_task(tasks.anote, 2)
    return {"ok": True}


def app_with(runner: TaskRunner, endpoint: Any = adds_two, **route: Any) -> FastAPI:
    app = FastAPI()
    runner.install(app)
    app.get("/", **route)(endpoint)
    return app


@pytest.mark.usefixtures("way", "mode")
async def test_no_byte_leaves_before_the_commit_has_returned(
    runner: TaskRunner, disk: Disk
) -> None:
    app = app_with(runner)
    async with serving(app):
        visitor = Visitor(app, "/", disk.events)
        disk.hold()
        request = asyncio.create_task(visitor())
        await asyncio.to_thread(disk.reached.wait, 30)
        await turns()
        assert disk.events == []
        disk.open_gate()
        await request
        await all_ended(runner)
    assert disk.events == ["committed", "start", "body", "ended"]
    assert tasks.seen == [1, 2]


@pytest.mark.usefixtures("way")
async def test_all_tasks_of_a_request_share_one_commit(runner: TaskRunner, disk: Disk) -> None:
    async def first(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "dependency")

    def endpoint(background_tasks: BackgroundTasks) -> None:
        for number in range(20):
            background_tasks.add_task(tasks.note, number)

    app = app_with(runner, endpoint, dependencies=[Depends(first)])
    async with serving(app) as client:
        await client.get("/")
        assert len(await stored(runner)) == 21
    assert disk.events == ["committed"]
    assert tasks.seen == ["dependency", *range(20)]


async def raises(background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(tasks.note, "never")
    raise tasks.TaskError


async def raises_http(background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(tasks.note, "never")
    raise HTTPException(409)


async def returns_what_does_not_fit(background_tasks: BackgroundTasks) -> int:
    background_tasks.add_task(tasks.note, "never")
    return cast(int, "no number")


async def adds(background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(tasks.note, "never")


async def needs_a_number(number: int, added: Annotated[None, Depends(adds)]) -> None:
    raise AssertionError(number)


@pytest.mark.usefixtures("way", "mode")
@pytest.mark.parametrize(
    ("endpoint", "status", "error"),
    [
        (raises, 500, tasks.TaskError),
        (raises_http, 409, None),
        (returns_what_does_not_fit, 500, ResponseValidationError),
        (needs_a_number, 422, None),
    ],
)
async def test_nothing_is_stored_if_the_endpoint_fails(
    runner: TaskRunner, disk: Disk, endpoint: Any, status: int, error: Any
) -> None:
    app = app_with(runner, endpoint)
    async with serving(app, raises=False) as client:
        assert (await client.get("/")).status_code == status
        assert await stored(runner) == []
    assert disk.events == []
    assert tasks.seen == []
    if error is not None:
        async with serving(app) as client:
            with pytest.raises(error):
                await client.get("/")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("status", [None, 409, 500])
async def test_a_returned_error_response_does_not_stop_the_tasks(
    runner: TaskRunner, status: int | None
) -> None:
    def endpoint(background_tasks: BackgroundTasks) -> Response:
        background_tasks.add_task(tasks.note, "told")
        return Response(status_code=status or 404)

    async with serving(app_with(runner, endpoint)) as client:
        assert (await client.get("/")).status_code == (status or 404)
        (job,) = await all_ended(runner)
        assert job.state == "succeeded"


@pytest.mark.usefixtures("way", "mode")
@pytest.mark.parametrize("deep", [False, True])
async def test_nothing_is_stored_if_a_dependency_fails_before_the_response(
    runner: TaskRunner, deep: bool
) -> None:
    async def transaction() -> Any:
        yield
        raise tasks.TaskError("the database refused")

    needed = Depends(transaction, scope="function")

    async def above(_: None = needed) -> None: ...

    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, "never")

    app = app_with(runner, endpoint, dependencies=[Depends(above) if deep else needed])
    async with serving(app, raises=False) as client:
        assert (await client.get("/")).status_code == 500
        assert await stored(runner) == []
    assert tasks.seen == []


@pytest.mark.usefixtures("way", "mode")
@pytest.mark.parametrize(
    "code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY]
)
async def test_a_broken_disk_gives_503_and_no_job(
    runner: TaskRunner, disk: Disk, code: int
) -> None:
    app = app_with(runner)
    async with serving(app) as client:
        disk.error = code
        response = await client.get("/")
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert await stored(runner) == []
        disk.error = None
        assert (await client.get("/")).status_code == 200
        assert len(await all_ended(runner)) == 2
    assert tasks.seen == [1, 2]


@pytest.mark.usefixtures("production")
async def test_an_unknown_error_of_the_store_gives_500_and_no_job(
    runner: TaskRunner, disk: Disk
) -> None:
    async with serving(app_with(runner), raises=False) as client:
        disk.error = sqlite3.SQLITE_MISMATCH
        assert (await client.get("/")).status_code == 500
        assert await stored(runner) == []


@pytest.mark.usefixtures("way", "mode")
async def test_a_commit_that_comes_too_late_gives_503_and_is_taken_back(
    path: Path, disk: Disk
) -> None:
    runner = TaskRunner(path, store_wait=0.5)
    app = app_with(runner)
    async with serving(app) as client:
        disk.hold()
        assert (await client.get("/")).status_code == 503
        disk.open_gate()
        # The next commit of this writer takes back what came too late.
        job = await runner.enqueue(tasks.note, "after")
        assert [record.id for record in await stored(runner)] == [job.id]
        await all_ended(runner)
    assert disk.events == ["committed", "committed"]
    assert tasks.seen == ["after"]


@pytest.mark.usefixtures("production", "way")
async def test_a_foreign_writer_gives_503_and_its_end_brings_no_job(path: Path) -> None:
    runner = TaskRunner(path, store_wait=0.5)
    async with serving(app_with(runner)) as client:
        foreign = sqlite3.connect(path, isolation_level=None)
        foreign.execute("BEGIN IMMEDIATE")
        assert (await client.get("/")).status_code == 503
        foreign.execute("ROLLBACK")
        foreign.close()
        assert await stored(runner) == []
        assert (await client.get("/")).status_code == 200
        assert len(await all_ended(runner)) == 2
    assert tasks.seen == [1, 2]


@pytest.mark.usefixtures("production")
async def test_a_request_that_cannot_be_stored_costs_those_without_tasks_nothing(
    runner: TaskRunner, disk: Disk
) -> None:
    async with serving(app_with(runner)) as client:
        disk.error = sqlite3.SQLITE_FULL
        answers = await asyncio.gather(*(client.get(path) for path in ["/", "/docs", "/"]))
        assert [answer.status_code for answer in answers] == [503, 200, 503]


@pytest.mark.usefixtures("production")
async def test_a_request_without_tasks_stores_nothing(runner: TaskRunner, disk: Disk) -> None:
    async def endpoint(background_tasks: BackgroundTasks) -> int:
        return len(background_tasks.tasks)

    async with serving(app_with(runner, endpoint)) as client:
        assert (await client.get("/")).json() == 0
    assert disk.events == []
