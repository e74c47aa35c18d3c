"""The first attempt gets the very objects and the context of the request, as plain does.

What lives here: identity of arguments, context variables, what is logged. What does not: exact
types after storing (tests of the payload). Run by pytest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from fastapi import BackgroundTasks, Depends, FastAPI, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from embedded_tasks import BackgroundTasks as DurableTasks, TaskRunner
from tests.web.drop_in import tasks
from tests.web.drop_in.serving import all_ended, idle, serving, stored

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("originals", "mode", "way")]


@pytest.fixture
def originals(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests are about them, also in a run that has switched them off."""
    monkeypatch.delenv("EMBEDDED_TASKS_ALWAYS_DECODE", raising=False)


def app_that(runner: TaskRunner, endpoint: Any, **options: Any) -> FastAPI:
    app = FastAPI()
    runner.install(app)
    app.get("/", **options)(endpoint)
    return app


class SetsVariable:
    """A plain ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        tasks.SETTING.set("middleware")
        await self.app(scope, receive, send)


async def test_a_change_made_by_a_task_is_seen_by_the_next_one(runner: TaskRunner) -> None:
    basket: dict[str, Any] = {"apples": 3}

    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.change, basket)
        background_tasks.add_task(tasks.note, basket)

    async with serving(app_that(runner, endpoint)) as client:
        await idle(runner)
        await client.get("/")
        await all_ended(runner)
    assert tasks.seen == [{"apples": 3, "changed": True}] * 2
    assert tasks.seen[1] is basket


async def test_always_decode_gives_copies(
    runner: TaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDED_TASKS_ALWAYS_DECODE", "1")
    basket: dict[str, Any] = {"apples": 3}

    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.change, basket)
        background_tasks.add_task(tasks.note, basket)

    async with serving(app_that(runner, endpoint)) as client:
        await idle(runner)
        await client.get("/")
        await all_ended(runner)
    assert tasks.seen == [{"apples": 3, "changed": True}, {"apples": 3}]
    assert tasks.seen[1] is not basket


async def sets_in_dependency() -> AsyncIterator[None]:
    tasks.SETTING.set("dependency")
    yield


def adds_both(background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(tasks.read_setting)
    background_tasks.add_task(tasks.aread_setting)


async def test_variables_of_a_middleware_are_seen(runner: TaskRunner) -> None:
    def endpoint(background_tasks: BackgroundTasks) -> None:
        adds_both(background_tasks)

    app = app_that(runner, endpoint)
    app.add_middleware(SetsVariable)
    async with serving(app) as client:
        await idle(runner)
        await client.get("/")
        await all_ended(runner)
    assert tasks.seen == ["middleware"] * 2


async def test_variables_of_a_dependency_are_seen(runner: TaskRunner) -> None:
    def endpoint(background_tasks: BackgroundTasks) -> None:
        adds_both(background_tasks)

    app = app_that(runner, endpoint, dependencies=[Depends(sets_in_dependency)])
    async with serving(app) as client:
        await idle(runner)
        await client.get("/")
        await all_ended(runner)
    assert tasks.seen == ["dependency"] * 2


async def test_variables_of_the_endpoint_are_seen_also_those_set_after_add_task(
    runner: TaskRunner,
) -> None:
    async def endpoint(background_tasks: BackgroundTasks) -> None:
        adds_both(background_tasks)
        tasks.SETTING.set("endpoint")

    async with serving(app_that(runner, endpoint)) as client:
        await idle(runner)
        await client.get("/")
        await all_ended(runner)
    assert tasks.seen == ["endpoint"] * 2


async def test_variables_of_one_request_are_not_seen_in_another(runner: TaskRunner) -> None:
    async def endpoint(background_tasks: BackgroundTasks, set_to: str = "") -> str:
        before = tasks.SETTING.get()
        if set_to:
            tasks.SETTING.set(set_to)
        background_tasks.add_task(tasks.read_setting)
        return before

    async with serving(app_that(runner, endpoint)) as client:
        await idle(runner)
        await client.get("/?set_to=one")
        await all_ended(runner)
        await idle(runner)
        # A server gives each request a context of its own; the client here is one for all.
        tasks.SETTING.set("client")
        assert (await client.get("/")).json() == "client"
        await all_ended(runner)
    assert tasks.seen == ["one", "client"]


async def test_a_task_sees_its_request_and_its_job_in_the_log_context(runner: TaskRunner) -> None:
    async def endpoint(background_tasks: BackgroundTasks, request: Request) -> None:
        structlog.contextvars.bind_contextvars(request_id="r-1", user="ann")
        background_tasks.add_task(tasks.read_log_context)

    async with serving(app_that(runner, endpoint)) as client:
        await idle(runner)
        await client.get("/")
        (job,) = await all_ended(runner)
    assert tasks.seen == [
        {
            "request_id": "r-1",
            "user": "ann",
            "job_id": job.id,
            "task": "tests.web.drop_in.tasks:read_log_context",
            "attempt": 1,
        }
    ]
    structlog.contextvars.clear_contextvars()


@pytest.mark.parametrize(
    ("headers", "bound", "expected"),
    [
        ({"X-Request-ID": "from-header"}, None, "from-header"),
        ({"X-Request-ID": "from-header"}, "from-log", "from-log"),
        ({}, None, None),
        ({"X-Request-ID": "x" * 5000}, None, "x" * 200),
    ],
)
async def test_the_id_of_the_request_is_stored_with_its_jobs(
    runner: TaskRunner, headers: dict[str, str], bound: str | None, expected: str | None
) -> None:
    async def endpoint(background_tasks: DurableTasks) -> None:
        if bound is not None:
            structlog.contextvars.bind_contextvars(request_id=bound)
        background_tasks.add_task(tasks.tell)

    async with serving(app_that(runner, endpoint)) as client:
        await idle(runner)
        await client.get("/", headers=headers)
        (job,) = await all_ended(runner)
        assert job.record is not None
        assert job.record.request_id == expected
    assert tasks.seen == [(1, expected)]
    structlog.contextvars.clear_contextvars()


async def test_the_trace_of_the_request_is_stored_with_its_jobs(runner: TaskRunner) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    async def endpoint(background_tasks: BackgroundTasks) -> None:
        background_tasks.add_task(tasks.note, 1)

    async with serving(app_that(runner, endpoint)) as client:
        await idle(runner)
        await client.get("/", headers={"traceparent": trace})
        (record,) = await stored(runner)
        assert record.traceparent == trace
        await all_ended(runner)
