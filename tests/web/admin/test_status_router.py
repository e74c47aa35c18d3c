"""What an app's own users see: their jobs, and nobody else's.

What lives here: `accepted` and the status router. What does not: operators. Run by pytest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException

from embedded_tasks import JobContext, TaskRunner, admin, task
from embedded_tasks.admin import ACCEPTED, Accepted, Pace, accepted
from embedded_tasks.errors import ConfigurationError
from tests.support.jobs import job_id, new_job
from tests.web.admin.status_app import (
    StillRunner,
    fill,
    only_operators,
    paths_of,
    problem_of,
)

pytestmark = [
    pytest.mark.anyio,
    # FastAPI itself reads it when it makes the OpenAPI document; old releases of pydantic warn.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute:DeprecationWarning"),
]

gates: list[asyncio.Event] = []


async def add(a: int, b: int) -> int:
    return a + b


@task(max_attempts=1)
async def fail(ctx: JobContext) -> None:
    raise RuntimeError("the table users has no such row")


async def wait(ctx: JobContext) -> str:
    ctx.progress(3, 4, "nearly")
    await gates[-1].wait()
    return "done"


async def user(x_user: str | None = Header(None)) -> str | None:
    if x_user == "banned":
        raise HTTPException(403, "Go away.")
    return x_user


def users_app(runner: TaskRunner, prefix: str = "/jobs", **options: Any) -> FastAPI:
    app = FastAPI()
    runner.install(app)
    app.include_router(admin.status_router(runner, caller=user, **options), prefix=prefix)

    @app.post("/sums", status_code=202, responses=ACCEPTED)
    async def post_sum(a: int, b: int, who: str = Depends(user)) -> Accepted:
        return accepted(await runner.options(owner=who).enqueue(add, a, b))

    return app


async def somebody_waits(runner: TaskRunner) -> None:
    async with asyncio.timeout(30):
        while not runner._running("test").waiting._futures:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> TaskRunner:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")
    return TaskRunner("tasks.db", modules=["tests"])


@pytest.fixture
async def go_on() -> asyncio.Event:
    gates.append(asyncio.Event())
    return gates[-1]


@asynccontextmanager
async def client_of(app: FastAPI, root_path: str = "") -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, root_path=root_path)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://test", headers={"x-user": "ann"}
        ) as client,
    ):
        yield client


@pytest.fixture
async def client(runner: TaskRunner) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(users_app(runner)) as client:
        yield client


async def test_an_endpoint_says_where_its_job_can_be_asked_for(client: httpx.AsyncClient) -> None:
    answer = await client.post("/sums?a=2&b=3")
    assert answer.status_code == 202
    body = answer.json()
    assert set(body) == {"id", "state"}
    assert answer.headers["location"] == f"/jobs/{body['id']}"
    assert answer.headers["retry-after"] == "1"
    status = await client.get(answer.headers["location"], params={"wait": 20})
    assert (status.json()["state"], status.json()["result"]) == ("succeeded", 5)
    assert status.json()["finished"] is True
    assert "retry-after" not in status.headers


@pytest.mark.parametrize("root_path", ["", "/proxy"])
async def test_the_place_is_right_behind_prefixes_proxies_and_mounts(
    runner: TaskRunner, root_path: str
) -> None:
    inner = users_app(runner, "/v1/jobs")
    outer = FastAPI()
    outer.mount("/shop", inner)
    transport = httpx.ASGITransport(app=outer, root_path=root_path)
    async with (
        inner.router.lifespan_context(inner),
        httpx.AsyncClient(
            transport=transport, base_url="http://test", headers={"x-user": "ann"}
        ) as client,
    ):
        path = f"{root_path}/shop/sums?a=2&b=3"
        answer = await client.post(path)
        place = answer.headers["location"]
        assert place == f"{root_path}/shop/v1/jobs/{answer.json()['id']}"
        assert (await client.get(place)).status_code == 200


async def test_two_runners_have_a_status_router_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")
    first, second = (TaskRunner(name, modules=["tests"]) for name in ("a.db", "b.db"))
    app = users_app(first)
    app.include_router(admin.status_router(second, caller=user, name="mail"), prefix="/mail")

    @app.post("/mails")
    async def post_mail() -> Accepted:
        return accepted(await second.enqueue(add, 1, 1), router="mail", retry_after=7)

    @app.post("/nowhere")
    async def post_nowhere() -> Accepted:
        return accepted(await second.enqueue(add, 1, 1), router="nobody")

    async with second.open(run_jobs=True), client_of(app) as client:
        answer = await client.post("/mails")
        assert answer.headers["location"] == f"/mail/{answer.json()['id']}"
        assert answer.headers["retry-after"] == "7"
        answer = await client.post("/nowhere")
        assert answer.status_code == 202
        assert "location" not in answer.headers


async def test_others_jobs_are_as_if_they_were_not_there() -> None:
    runner = StillRunner()
    app = users_app(runner)
    router = admin.status_router(runner, caller=user)
    async with client_of(app) as client:
        await runner.store.insert([new_job(1, belongs_to="bob"), new_job(2), new_job(3)])
        for number in (1, 2, 9):
            for method, path in paths_of(router, job_id(number)):
                answer = await client.request(method, f"/jobs{path}")
                body = problem_of(answer, 404, "job_not_found")
                # The same words for those that are there and those that are not.
                assert body["detail"].replace(job_id(number), "") == (
                    "No job has the id ''. It may have been removed by retention."
                )
        assert (await runner.get(job_id(1))).state == "queued"


async def test_who_is_nobody_or_is_refused_sees_nothing() -> None:
    runner = StillRunner()
    app = users_app(runner)
    router = admin.status_router(runner, caller=user)
    async with client_of(app) as client:
        await runner.store.insert([new_job(1, belongs_to="ann")])
        for method, path in paths_of(router):
            for name, status in (("", 401), ("banned", 403)):
                answer = await client.request(method, f"/jobs{path}", headers={"x-user": name})
                problem_of(answer, status, "http_error")
            del client.headers["x-user"]
            problem_of(await client.request(method, f"/jobs{path}"), 401, "http_error")
            client.headers["x-user"] = "ann"


async def test_an_owner_sees_nothing_of_how_it_is_done() -> None:
    runner = StillRunner()
    app = users_app(runner)
    async with client_of(app) as client:
        await fill(runner.store)
        await runner.store.insert([new_job(20, belongs_to="ann", args='[1,["secret"],{}]')])
        shown = (await client.get(f"/jobs/{job_id(20)}")).json()
    assert shown == {
        "id": job_id(20),
        "state": "queued",
        "finished": False,
        "progress": None,
        "created_at": "2027-01-15T08:00:00Z",
        "started_at": None,
        "finished_at": None,
        "result": None,
        "reason": None,
    }


@pytest.mark.parametrize("reasons", [False, True])
async def test_why_a_job_failed_is_told_only_where_that_is_wanted(
    runner: TaskRunner, reasons: bool
) -> None:
    async with client_of(users_app(runner, reasons=reasons)) as client:
        job = await runner.options(owner="ann").enqueue(fail)
        shown = (await client.get(f"/jobs/{job.id}?wait=20")).json()
        stream = (await client.get(f"/jobs/{job.id}/events")).text
        assert shown["state"] == "failed"
        assert ("no such row" in str(shown)) is reasons
        assert ("no such row" in stream) is reasons


async def test_results_can_be_left_out(runner: TaskRunner) -> None:
    async with client_of(users_app(runner, results=False)) as client:
        job = await runner.options(owner="ann").enqueue(add, 1, 2)
        shown = (await client.get(f"/jobs/{job.id}?wait=20")).json()
        assert (shown["state"], shown["result"]) == ("succeeded", None)


async def test_an_owner_may_cancel_once(client: httpx.AsyncClient, runner: TaskRunner) -> None:
    job = await runner.options(owner="ann", delay=60).enqueue(add, 1, 2)
    answer = await client.post(f"/jobs/{job.id}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    body = problem_of(await client.post(f"/jobs/{job.id}/cancel"), 409, "wrong_state")
    assert body["state"] == "cancelled"
    [entry] = (await runner.control.audit()).entries
    assert (entry.by, entry.action) == ("ann", "cancel")
    evil = {"sec-fetch-site": "cross-site"}
    problem_of(await client.post(f"/jobs/{job.id}/cancel", headers=evil), 403, "cross_site")


async def test_cancelling_can_be_left_out(runner: TaskRunner) -> None:
    router = admin.status_router(runner, caller=user, cancel=False)
    assert {method for method, _ in paths_of(router)} == {"GET"}


async def test_waiting_ends_with_the_job_and_not_before(
    client: httpx.AsyncClient, runner: TaskRunner, go_on: asyncio.Event
) -> None:
    job = await runner.options(owner="ann").enqueue(wait)
    now = await client.get(f"/jobs/{job.id}")
    assert (now.json()["finished"], now.headers["retry-after"]) == (False, "1")
    waiting = asyncio.create_task(client.get(f"/jobs/{job.id}?wait=30"))
    await somebody_waits(runner)
    assert not waiting.done()
    go_on.set()
    assert (await waiting).json()["result"] == "done"
    problem_of(await client.get(f"/jobs/{job.id}?wait=31"), 422, "invalid_input")
    problem_of(await client.get(f"/jobs/{job.id}?wait=1e20"), 422, "invalid_input")


async def test_waiting_does_not_hold_up_the_end_of_the_process(
    client: httpx.AsyncClient, runner: TaskRunner
) -> None:
    job = await runner.options(owner="ann", delay=60).enqueue(add, 1, 2)
    waiting = asyncio.create_task(client.get(f"/jobs/{job.id}?wait=30"))
    await somebody_waits(runner)
    runner.stopping.set()
    async with asyncio.timeout(20):
        assert (await waiting).json()["state"] == "scheduled"


async def test_an_owner_is_told_of_progress_and_the_end(
    runner: TaskRunner, go_on: asyncio.Event
) -> None:
    app = users_app(runner, pace=Pace(life=0.0))
    async with client_of(app) as client:
        job = await runner.options(owner="ann").enqueue(wait)
        first = (await client.get(f"/jobs/{job.id}/events")).text
        assert "event: job" in first
        assert "test_status_router" not in first
        go_on.set()
        await job.result(timeout=30)
        await runner._running("test").operating.notebook._flush()
        last = (await client.get(f"/jobs/{job.id}/events")).text
        assert "event: done" in last
        assert '"message":"nearly"' in last
        assert '"result":"done"' in last
        assert "test_status_router" not in last


def test_what_can_never_work_is_refused(runner: TaskRunner) -> None:
    wrong: Any = "ann"
    with pytest.raises(ConfigurationError, match="caller"):
        admin.status_router(runner, caller=wrong)
    with pytest.raises(ConfigurationError, match="has no option"):
        admin.status_router(runner, caller=user, result=False)  # type: ignore[call-arg]  # it is wrong


def test_the_openapi_document_tells_of_both(runner: TaskRunner) -> None:
    app = users_app(runner)
    app.include_router(admin.router(runner, dependencies=[Depends(only_operators)]), prefix="/ops")
    paths = app.openapi()["paths"]
    answer = paths["/sums"]["post"]["responses"]["202"]
    schema = answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert schema == "AcceptedJob"
    assert set(answer["headers"]) == {"Location", "Retry-After"}
    status = paths["/jobs/{job_id}"]["get"]
    assert status["operationId"] == "jobs_get_status"
    assert {"401", "403", "404", "422"} <= set(status["responses"])
