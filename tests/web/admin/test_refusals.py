"""What the status routes refuse, and what they say then.

What lives here: odd input, and errors as problems. What does not: whom they let in
(`test_access.py`), and what operators see (`test_jobs.py`). Run by pytest.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import PlainTextResponse
from starlette.types import Message

from embedded_tasks import admin
from embedded_tasks.admin.cursors import cursor_of
from embedded_tasks.errors import (
    EmbeddedTasksError,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
)
from tests.support.jobs import job_id, new_job
from tests.web.admin.status_app import (
    API,
    OPERATOR,
    StillRunner,
    client_of,
    only_operators,
    operating,
    paths_of,
    problem_of,
)

pytestmark = [
    pytest.mark.anyio,
    # FastAPI itself reads it when it makes the OpenAPI document; old releases of pydantic warn.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute:DeprecationWarning"),
]

_STREAMS = ("/events", "/changes")

PLACES = [
    *[("GET", end) for end in ("", "/attempts", "/timeline", "/logs", "/result", "/events")],
    *[("POST", end) for end in ("/retry", "/cancel", "/run-now")],
    ("DELETE", ""),
]


async def call(app: FastAPI, path: str, query: bytes = b"", method: str = "GET") -> tuple[int, Any]:
    """Send what no client would send."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(name.encode(), value.encode()) for name, value in OPERATOR.items()]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "server": ("test", 80),
        "root_path": "",
        "method": method,
        "path": f"/ops{API}{path}",
        "query_string": query,
        "headers": headers,
    }
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(each.get("body", b"") for each in sent[1:]))


@pytest.mark.parametrize(
    "query",
    [
        b"limit=0",
        b"limit=201",
        b"limit=-1",
        b"limit=99999999999999999999999999",
        b"limit=1e20",
        b"limit=1" + b"0" * 1_000_000,
        b"limit=\xff",
        b"limit=NaN",
        b"state=dead",
        b"state=",
        b"state=%00",
        b"task=a%00b",
        b"task=" + b"x" * 1_000_000,
        b"queue=%0a",
        b"queue=" + b"x" * 201,
        b"cursor=",
        b"cursor=x",
        b"cursor=AQAAAAAAAAA",
        b"cursor=AQAAAAAAAAAAA",
        b"cursor=" + cursor_of(5).encode() + b"%0a",
        b"cursor=BAAAAAAAAAAA",
        b"cursor=AYAAAAAAAAAA",
        b"cursor=" + b"A" * 1_000_000,
        b"cursor=%ED%A0%80",
        b"other=1",
        b"sate=failed",
        b"created_after=1e20",
        b"created_after=soon",
        b"created_before=2027-01-15T08:00:00",
        b"finished_after=99999999999999999999999999999",
        b"tag=" + b"x" * 1_000_000,
        b"argument=%00",
        b"error=a%00",
        b"text=",
        b"total=perhaps",
        b"group=%1b",
        b"owner=" + b"x" * 501,
    ],
)
async def test_odd_questions_are_refused_and_not_repeated(
    client: httpx.AsyncClient, app: FastAPI, query: bytes
) -> None:
    status, body = await call(app, "/jobs", query)
    assert (status, body["code"]) == (422, "invalid_input")
    [error] = body["errors"]
    name = query.partition(b"=")[0].decode()
    assert (error["in"], error["name"].removesuffix(".0")) == ("query", name)
    assert len(json.dumps(body)) < 1_000


@pytest.mark.parametrize(
    "query",
    [
        b"limit=200&cursor=" + cursor_of(2**63 - 1).encode(),
        b"cursor=" + cursor_of(0).encode(),
        b"task=%ED%A0%80",
        b"task=" + b"%E5%90%8D" * 500,
        b"queue=%27%20OR%201=1",
        b"limit=1&limit=2",
        b"&&&",
    ],
)
async def test_questions_that_are_only_unusual_are_answered(
    client: httpx.AsyncClient, app: FastAPI, query: bytes
) -> None:
    status, body = await call(app, "/jobs", query)
    assert (status, body["items"], body["next_cursor"]) == (200, [], None)


@pytest.mark.parametrize(
    "odd",
    [
        "x",
        "0",
        "99999999999999999999999999999999999",
        job_id(1) + "0",
        job_id(1) + "\0",
        "\0",
        "\udc80",
        "x" * 1_000_000,
        "%00",
        "' OR 1=1",
    ],
)
async def test_odd_ids_are_those_of_no_job_and_not_repeated(
    client: httpx.AsyncClient, app: FastAPI, odd: str
) -> None:
    for method, end in PLACES:
        status, body = await call(app, f"/jobs/{odd}{end}", method=method)
        assert (status, body["code"]) == (404, "job_not_found")
        assert len(json.dumps(body)) < 1_000


@pytest.mark.parametrize(("method", "path"), PLACES)
async def test_a_job_that_is_not_there_is_a_problem(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    body = problem_of(
        await client.request(method, f"/jobs/{job_id(9)}{path}"), 404, "job_not_found"
    )
    assert job_id(9) in body["detail"]


async def test_an_id_may_be_written_in_any_way(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    await runner.store.insert([new_job(0xABC)])
    for text in (job_id(0xABC).upper(), job_id(0xABC).replace("-", "")):
        assert (await client.get(f"/jobs/{text}")).json()["id"] == job_id(0xABC)


async def test_a_wrong_method_is_a_problem(client: httpx.AsyncClient) -> None:
    for method, path, allowed in (
        ("DELETE", "/jobs", "GET"),
        ("PATCH", f"/jobs/{job_id(1)}", "DELETE, GET"),
        ("GET", "/queues/mail/pause", "POST"),
        ("OPTIONS", "/jobs/bulk", "POST"),
    ):
        answer = await client.request(method, path)
        problem_of(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == allowed


async def test_head_is_answered_wherever_get_is_without_the_body(
    client: httpx.AsyncClient, app: FastAPI, runner: StillRunner
) -> None:
    await runner.store.insert([new_job(1)])
    router = admin.router(runner, dependencies=[Depends(only_operators)])
    html = {"accept": "text/html"}
    asked = 0
    for method, path in paths_of(router, job_id(1)):
        if method != "GET" or path.endswith(_STREAMS) or "{" in path:
            continue
        url = f"http://test/ops{path}"
        got, head = await client.get(url, headers=html), await client.head(url, headers=html)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers.get("content-type") == got.headers.get("content-type"), path
        assert (await client.head(url, headers={"x-key": "visitor"})).status_code == 403, path
        asked += 1
    assert asked >= 25
    for stream in (f"/jobs/{job_id(1)}/events", "http://test/ops/changes"):
        assert (await client.head(stream)).status_code == 405


async def test_before_the_app_has_started_every_route_says_so(
    app: FastAPI, runner: StillRunner
) -> None:
    async with client_of(app) as client:
        guards = [Depends(only_operators)]
        router = admin.router(runner, dependencies=guards, dashboard=False)
        for method, path in paths_of(router):
            if path.endswith("/health/live"):
                continue
            answer = await client.request(method, f"http://test/ops{path}")
            if "/bulk" in path or path.endswith("/series"):
                assert answer.status_code in (415, 422)
                continue
            assert "not running" in problem_of(answer, 503, "not_running")["detail"]
            assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("error", [StoreUnavailableError("busy"), StoreError("odd")])
async def test_a_store_that_is_unavailable_is_a_problem(
    client: httpx.AsyncClient,
    runner: StillRunner,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    async def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(runner.reports, "jobs", broken)
    answer = await client.get("/jobs")
    assert problem_of(answer, 503, "store_unavailable")["detail"] == str(error)
    assert int(answer.headers["retry-after"]) > 0


async def test_waiting_does_not_mend_a_damaged_file(
    client: httpx.AsyncClient, runner: StillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def damaged() -> None:
        raise StoreFormatError("damaged")

    monkeypatch.setattr(runner.reports, "overview", damaged)
    answer = await client.get("/stats")
    problem_of(answer, 503, "store_unavailable")
    assert "retry-after" not in answer.headers


async def test_the_apps_own_routes_keep_their_own_errors(app: FastAPI) -> None:
    @app.exception_handler(EmbeddedTasksError)
    @app.exception_handler(HTTPException)
    async def own(*_: object) -> PlainTextResponse:
        return PlainTextResponse("the app's own", 418)

    @app.get("/own/{kind}")
    async def fail(kind: str, number: int = Query()) -> None:
        raise StoreError("no") if kind == "store" else HTTPException(404)

    async with operating(app) as client:
        for kind in ("store", "http"):
            answer = await client.get(f"http://test/own/{kind}?number=1")
            assert (answer.status_code, answer.text) == (418, "the app's own")
            assert "cache-control" not in answer.headers
        answer = await client.get("http://test/own/http?number=x")
        assert answer.json()["detail"][0]["loc"] == ["query", "number"]
        problem_of(await client.get(f"/jobs/{job_id(1)}"), 404, "job_not_found")
        problem_of(await client.get("/jobs", headers={"x-key": "no"}), 403, "http_error")
