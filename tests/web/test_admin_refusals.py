"""Whom the status routes refuse, and what they say then.

What lives here: auth, other sites, odd input, problems, and what the OpenAPI document says of
them. What does not: what operators see (`test_admin.py`). Run by pytest.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute
from starlette.datastructures import Headers
from starlette.types import Message

from embedded_tasks import TaskRunner, admin
from embedded_tasks.admin.cursors import cursor_of
from embedded_tasks.admin.route import refusal_of
from embedded_tasks.errors import (
    ConfigurationError,
    EmbeddedTasksError,
    StoreError,
    StoreFormatError,
    StoreUnavailableError,
)
from embedded_tasks.job import ShownState
from tests.support.jobs import job_id, new_job
from tests.web.status_app import (
    OPERATOR,
    PROBLEM,
    StillRunner,
    client_of,
    only_operators,
    operating,
    status_app,
)

pytestmark = [
    pytest.mark.anyio,
    # FastAPI itself reads it when it makes the OpenAPI document; old releases of pydantic warn.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute:DeprecationWarning"),
]

CHANGES = [f"/jobs/{job_id(1)}/retry", f"/jobs/{job_id(1)}/cancel"]
GUARDED = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


@pytest.fixture
def runner() -> StillRunner:
    return StillRunner()


@pytest.fixture
def app(runner: StillRunner) -> FastAPI:
    return status_app(runner)


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with operating(app) as client:
        yield client


def routes_of(runner: TaskRunner) -> Iterator[tuple[str, str]]:
    """Every method and path of the router."""
    made = admin.router(runner, dependencies=[Depends(only_operators)])
    for route in made.routes:
        assert isinstance(route, APIRoute)
        for method in sorted(route.methods or ()):
            yield method, route.path.replace("{job_id}", job_id(1))


def problem_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.headers["content-type"] == PROBLEM, answer.text
    assert {name: answer.headers[name] for name in GUARDED} == GUARDED
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["detail"]
    return body


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
        "path": f"/ops{path}",
        "query_string": query,
        "headers": headers,
    }
    await app(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(each.get("body", b"") for each in sent[1:]))


@pytest.mark.parametrize("given", [{}, {"dependencies": None}, {"dependencies": []}])
def test_without_dependencies_no_router_is_built(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        admin.router(StillRunner(), **given)
    assert "admin.router(runner, dependencies=[Depends(require_admin)])" in str(caught.value)


@pytest.mark.parametrize(
    "given", [[only_operators], Depends(only_operators), [Depends()], [None], [0], "admin"]
)
def test_what_would_let_everybody_in_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected a list of Depends"):
        admin.router(StillRunner(), dependencies=given)


@pytest.mark.parametrize(
    ("runner", "name"), [(None, "tasks"), ("tasks.db", "tasks"), (StillRunner(), "a b")]
)
def test_what_can_never_work_is_refused(runner: Any, name: str) -> None:
    with pytest.raises(ConfigurationError):
        admin.router(runner, dependencies=[Depends(only_operators)], name=name)


async def test_every_route_asks_the_dependency_first(
    app: FastAPI, client: httpx.AsyncClient, runner: StillRunner
) -> None:
    await runner.store.insert([new_job(1)])
    del client.headers["x-key"]
    routes = list(routes_of(runner))
    assert len(routes) == 7
    for method, path in routes:
        for query in ("", "?limit=x&cursor=y"):
            stranger = await client.request(method, path + query)
            problem_of(stranger, 401, "http_error")
            assert stranger.headers["www-authenticate"] == "Key"
            other = await client.request(method, path + query, headers={"x-key": "visitor"})
            assert problem_of(other, 403, "http_error")["detail"] == "Operators only."
    assert (await runner.get(job_id(1))).state is ShownState.QUEUED


async def test_every_answer_is_kept_out_of_caches(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    await runner.store.insert([new_job(1)])
    for method, path in routes_of(runner):
        answer = await client.request(method, path)
        assert {name: answer.headers[name] for name in GUARDED} == GUARDED, path


def test_no_route_takes_anything_that_could_name_code(app: FastAPI) -> None:
    paths = {path: each for path, each in app.openapi()["paths"].items() if path.startswith("/ops")}
    assert len(paths) == 7
    changing = {path: each["post"] for path, each in paths.items() if "post" in each}
    assert [path.rpartition("/")[2] for path in changing] == ["retry", "cancel"]
    for operation in changing.values():
        assert "requestBody" not in operation
        assert [each["name"] for each in operation["parameters"]] == ["job_id"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin", "origin": "https://proxied", "host": "inside:8000"},
        {"origin": "http://test", "host": "test"},
        {"origin": "https://test", "host": "test"},
        {"origin": "https://test", "host": "test:443"},
        {"origin": "http://test:8000", "host": "TEST:8000"},
        {"origin": "http://[::1]:8000", "host": "[::1]:8000"},
    ],
)
def test_the_apps_own_pages_and_clients_that_are_no_browser_may_change_jobs(
    headers: dict[str, str],
) -> None:
    assert refusal_of(Headers(headers)) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": ""},
        {"sec-fetch-site": "cross-site", "origin": "http://test", "host": "test"},
        {"origin": "null", "host": "test"},
        {"origin": "http://evil", "host": "test"},
        {"origin": "http://test.evil", "host": "test"},
        {"origin": "http://test:8000", "host": "test"},
        {"origin": "http://test", "host": "test:8000"},
        {"origin": "http://test@evil", "host": "evil"},
        {"origin": "http://test:x", "host": "test"},
        {"origin": "http://[", "host": "["},
        {"origin": "file://", "host": ""},
        {"origin": "test", "host": "test"},
        {"origin": "http://test"},
        {"origin": "", "host": ""},
    ],
)
async def test_pages_of_other_sites_may_not(
    client: httpx.AsyncClient, runner: StillRunner, headers: dict[str, str]
) -> None:
    assert refusal_of(Headers(headers)) is not None
    await runner.store.insert([new_job(1)])
    for path in CHANGES:
        problem_of(await client.post(path, headers={"host": "", **headers}), 403, "cross_site")
    assert (await runner.get(job_id(1))).state is ShownState.QUEUED


def test_a_header_that_comes_twice_is_believed_only_where_both_agree() -> None:
    own, other = (b"sec-fetch-site", b"same-origin"), (b"sec-fetch-site", b"cross-site")
    origins = [(b"origin", b"http://test"), (b"origin", b"http://evil"), (b"host", b"test")]
    assert refusal_of(Headers(raw=[own, other])) is not None
    assert refusal_of(Headers(raw=origins)) is not None


async def test_reading_from_another_site_is_left_to_the_browser(client: httpx.AsyncClient) -> None:
    answer = await client.get("/jobs", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200


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
    ],
)
async def test_odd_questions_are_refused_and_not_repeated(
    client: httpx.AsyncClient, app: FastAPI, query: bytes
) -> None:
    status, body = await call(app, "/jobs", query)
    assert (status, body["code"]) == (422, "invalid_input")
    [error] = body["errors"]
    assert (error["in"], error["name"]) == ("query", query.partition(b"=")[0].decode())
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
        b"other=1",
        b"&&&===%zz",
    ],
)
async def test_questions_that_are_only_unusual_are_answered(
    client: httpx.AsyncClient, app: FastAPI, query: bytes
) -> None:
    status, body = await call(app, "/jobs", query)
    assert (status, body) == (200, {"items": [], "next_cursor": None})


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
async def test_odd_ids_are_refused_and_not_repeated(
    client: httpx.AsyncClient, app: FastAPI, odd: str
) -> None:
    for method, end in (("GET", ""), ("GET", "/attempts"), ("POST", "/retry"), ("POST", "/cancel")):
        status, body = await call(app, f"/jobs/{odd}{end}", method=method)
        assert (status, body["code"]) == (422, "invalid_input")
        assert len(json.dumps(body)) < 1_000


@pytest.mark.parametrize("path", ["", "/attempts", "/retry", "/cancel"])
async def test_a_job_that_is_not_there_is_a_problem(client: httpx.AsyncClient, path: str) -> None:
    method = "POST" if path in ("/retry", "/cancel") else "GET"
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
    answer = await client.delete("/jobs")
    problem_of(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "GET"


async def test_before_the_app_has_started_every_route_says_so(
    app: FastAPI, runner: StillRunner
) -> None:
    async with client_of(app) as client:
        for method, path in routes_of(runner):
            answer = await client.request(method, path)
            assert "not running" in problem_of(answer, 503, "not_running")["detail"]
            assert int(answer.headers["retry-after"]) > 0


@pytest.mark.parametrize("error", [StoreUnavailableError("busy"), StoreError("odd")])
async def test_a_store_that_is_unavailable_is_a_problem(
    client: httpx.AsyncClient,
    runner: StillRunner,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    async def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(runner.store.read, "page", broken)
    answer = await client.get("/jobs")
    assert problem_of(answer, 503, "store_unavailable")["detail"] == str(error)
    assert int(answer.headers["retry-after"]) > 0


async def test_waiting_does_not_mend_a_damaged_file(
    client: httpx.AsyncClient, runner: StillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def damaged() -> None:
        raise StoreFormatError("damaged")

    monkeypatch.setattr(runner.store.read, "counts", damaged)
    answer = await client.get("/counts")
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


class LoginNeeded(HTTPException):
    pass


async def test_an_apps_dependency_may_still_send_people_to_its_login() -> None:
    async def redirect() -> None:
        raise HTTPException(303, headers={"Location": "/login"})

    async def own_error() -> None:
        raise LoginNeeded(401, {"why": "expired"})

    async def own_page(*_: object) -> PlainTextResponse:
        return PlainTextResponse("Log in.", 401)

    async with operating(status_app(StillRunner(), dependencies=[Depends(redirect)])) as client:
        answer = await client.get("/jobs")
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    app = status_app(StillRunner(), dependencies=[Depends(own_error)])
    async with operating(app) as client:
        body = problem_of(await client.get("/jobs"), 401, "http_error")
        assert json.loads(body["detail"]) == {"why": "expired"}
    app.exception_handlers[LoginNeeded] = own_page
    app.middleware_stack = None
    async with operating(app) as client:
        assert (await client.get("/jobs")).text == "Log in."


async def test_a_dependency_that_cleans_up_sees_the_error() -> None:
    seen: list[BaseException] = []

    async def session() -> AsyncIterator[None]:
        try:
            yield
        except Exception as error:
            seen.append(error)
            raise

    app = status_app(StillRunner(), dependencies=[Depends(session)])
    async with operating(app) as client:
        problem_of(await client.get(f"/jobs/{job_id(1)}"), 404, "job_not_found")
    assert [type(error).__name__ for error in seen] == ["JobNotFoundError"]


def test_the_openapi_document_says_it_all(app: FastAPI) -> None:
    document = app.openapi()
    operations = {
        each["operationId"]: each
        for path, methods in document["paths"].items()
        for each in methods.values()
    }
    own = {"200", "202"}
    assert {name: set(each["responses"]) - own for name, each in operations.items()} == {
        "tasks_list_jobs": {"401", "403", "422", "503"},
        "tasks_get_job": {"401", "403", "404", "422", "503"},
        "tasks_list_attempts": {"401", "403", "404", "422", "503"},
        "tasks_retry_job": {"401", "403", "404", "409", "422", "503"},
        "tasks_cancel_job": {"401", "403", "404", "409", "422", "503"},
        "tasks_get_counts": {"401", "403", "503"},
        "tasks_get_health": {"401", "403", "503"},
    }
    for each in operations.values():
        assert each["tags"] == ["tasks"]
        assert each["summary"]
        for status, answer in each["responses"].items():
            kind = "application/json" if status in own else PROBLEM
            assert list(answer["content"]) == [kind]
    schemas = document["components"]["schemas"]
    assert set(schemas["ShownState"]["enum"]) == {state.value for state in ShownState}
    assert "HTTPValidationError" not in schemas


def test_routes_can_be_left_out_of_the_document() -> None:
    assert not status_app(StillRunner(), include_in_schema=False).openapi()["paths"]


async def test_two_runners_in_one_app_have_routes_of_their_own() -> None:
    first, second = StillRunner(), StillRunner()
    app = status_app(first)
    made = admin.router(second, dependencies=[Depends(only_operators)], name="mail")
    app.include_router(made, prefix="/mail")
    async with second, operating(app) as client:
        await first.store.insert([new_job(1)])
        await second.store.insert([new_job(2)])
        for path, number in (("/jobs", 1), ("http://test/mail/jobs", 2)):
            found = (await client.get(path)).json()["items"]
            assert [each["id"] for each in found] == [job_id(number)]
    names = [
        each["operationId"] for path in app.openapi()["paths"].values() for each in path.values()
    ]
    assert len(set(names)) == 14
    assert app.url_path_for("mail_get_job", job_id=job_id(1)) == f"/mail/jobs/{job_id(1)}"
