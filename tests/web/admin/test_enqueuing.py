"""Clients enqueue what a developer has listed for them, and nothing else.

What lives here: `POST /jobs`. What does not: enqueuing in code. Run by pytest.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Any, Literal

import httpx
import pytest
from fastapi import Depends, FastAPI
from pydantic import BaseModel

from embedded_tasks import JobContext, TaskRunner, admin, task
from embedded_tasks.errors import ConfigurationError
from tests.web.admin.status_app import only_operators, operating, paths_of, problem_of, status_app

pytestmark = pytest.mark.anyio


class Receiver(BaseModel):
    name: str
    age: int = 3


@task(name="report")
async def report(
    ctx: JobContext,
    month: date,
    to: Receiver,
    *,
    form: Literal["pdf", "csv"] = "pdf",
    schema: int = 1,
) -> str:
    return f"{month!r} {to!r} {form} {schema} {ctx.task}"


def clean(limit: int = 7) -> int:
    return limit


def unlisted() -> None: ...


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> TaskRunner:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")
    return TaskRunner("tasks.db")


@pytest.fixture
def app(runner: TaskRunner) -> FastAPI:
    return status_app(runner, enqueue=[report, clean])


async def enqueue(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/jobs", json=body)


async def test_a_listed_task_is_stored_with_arguments_of_its_own_types(
    app: FastAPI, runner: TaskRunner
) -> None:
    async with operating(app) as client:
        arguments = {"month": "2030-01-31", "to": {"name": "ann"}, "schema": 5}
        answer = await enqueue(client, task="report", arguments=arguments)
        assert answer.status_code == 202, answer.text
        place = httpx.URL(str(answer.url)).join(answer.headers["location"])
        assert (await client.get(place)).json()["task"] == "report"
        job = await runner.get(answer.json()["id"])
        said = await job.result(timeout=30)
    assert said == "datetime.date(2030, 1, 31) Receiver(name='ann', age=3) pdf 5 report"


async def test_what_is_left_out_is_the_functions_own_default(
    app: FastAPI, runner: TaskRunner
) -> None:
    name = runner.task_name(clean)
    async with operating(app) as client:
        answer = await enqueue(client, task=name, delay=0)
        assert await (await runner.get(answer.json()["id"])).result(timeout=30) == 7
        later = (await enqueue(client, task=name, arguments={"limit": 8}, delay=60)).json()
        assert later["state"] == "scheduled"


@pytest.mark.parametrize(
    "body",
    [
        {"task": "tests.web.admin.test_enqueuing:unlisted"},
        {"task": "os:remove", "arguments": {"path": "/"}},
        {"task": "report"},
        {"task": "report", "arguments": {"month": "2030-01-31"}},
        {"task": "report", "arguments": {"month": "soon", "to": {"name": "ann"}}},
        {"task": "report", "arguments": {"month": "2030-01-31", "to": {"name": 1}}},
        {"task": "tests.web.admin.test_enqueuing:clean", "arguments": {"limit": "8"}},
        {"task": "tests.web.admin.test_enqueuing:clean", "arguments": {"limit": True}},
        {"task": "tests.web.admin.test_enqueuing:clean", "arguments": {"limits": 8}},
        {"task": "tests.web.admin.test_enqueuing:clean", "delay": -1},
        {"task": "tests.web.admin.test_enqueuing:clean", "delay": 1e20},
        {"task": "tests.web.admin.test_enqueuing:clean", "queue": "mail"},
        {},
    ],
)
async def test_anything_else_is_refused(
    app: FastAPI, runner: TaskRunner, body: dict[str, Any]
) -> None:
    async with operating(app) as client:
        problem_of(await enqueue(client, **body), 422, "invalid_input")
        assert await runner.jobs() == []


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "Infinity", "[1e400]"])
async def test_a_number_that_cannot_be_stored_is_refused(runner: TaskRunner, number: str) -> None:
    async with operating(status_app(runner, enqueue=[weigh])) as client:
        task_name = runner.task_name(weigh)
        for body in (
            f'{{"task": "{task_name}", "arguments": {{"weight": {number}}}}}',
            f'{{"task": "{task_name}", "delay": {number}}}',
        ):
            json_type = {"content-type": "application/json"}
            answer = await client.post("/jobs", content=body, headers=json_type)
            problem_of(answer, 422, "invalid_input")
        assert await runner.jobs() == []


async def weigh(weight: Any = None) -> None: ...


def test_without_a_list_there_is_no_such_route(runner: TaskRunner) -> None:
    made = admin.router(runner, dependencies=[Depends(only_operators)])
    posts = [path for method, path in paths_of(made) if method == "POST"]
    assert not any(path.endswith("/jobs") for path in posts)


def positional(a: int, /) -> None: ...
def variadic(*a: int) -> None: ...
def unsendable(a: Callable[[], None]) -> None: ...


@pytest.mark.parametrize("function", [positional, variadic, unsendable, 5])
def test_what_json_cannot_call_is_refused_when_the_router_is_made(
    runner: TaskRunner, function: Any
) -> None:
    with pytest.raises(ConfigurationError, match="enqueue="):
        status_app(runner, enqueue=[function])
