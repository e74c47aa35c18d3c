"""Nobody gets in whom the app's own dependencies do not let through.

What lives here: every route's guards, and the roles. What does not: other sites' pages
(`test_origins.py`). Run by pytest.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import PlainTextResponse

from embedded_tasks import TaskRunner, admin
from embedded_tasks.errors import ConfigurationError
from embedded_tasks.job import ShownState
from tests.support.jobs import job_id, new_job
from tests.web.admin.status_app import (
    API,
    GUARDED,
    StillRunner,
    all_routes,
    client_of,
    only_operators,
    operating,
    paths_of,
    problem_of,
    status_app,
)

pytestmark = [
    pytest.mark.anyio,
    # FastAPI itself reads it when it makes the OpenAPI document; old releases of pydantic warn.
    pytest.mark.filterwarnings("ignore:The `__fields__` attribute:DeprecationWarning"),
]

ODD = b'{"action": "retry", "filter"'


def closed(runner: TaskRunner) -> Any:
    return admin.router(runner, dependencies=[Depends(only_operators)], enqueue=[enqueued])


async def enqueued(number: int) -> None: ...


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


@pytest.mark.parametrize(
    "given",
    [
        {"dependencies": [Depends(only_operators)], "read": [Depends(only_operators)]},
        {"operate": [Depends(only_operators)]},
        {"admin": [Depends(only_operators)]},
        {"read": [Depends(only_operators)], "admin": [Depends(only_operators)]},
        {"read": []},
        {"read": [Depends(only_operators)], "operate": []},
        {"read": [Depends(only_operators)], "operate": [only_operators]},
        {"dependencies": [Depends(only_operators)], "operator": [Depends(only_operators)]},
    ],
)
def test_roles_that_leave_a_gap_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        admin.router(StillRunner(), **given)


async def test_every_route_asks_the_dependency_first(runner: StillRunner) -> None:
    app = FastAPI()
    runner.install(app)
    app.include_router(closed(runner), prefix="/ops")
    async with operating(app) as client:
        await runner.store.insert([new_job(1)])
        del client.headers["x-key"]
        routes = list(paths_of(closed(runner)))
        assert len(routes) >= 28
        for method, path in routes:
            for query in ("", "?limit=x&cursor=y"):
                url = f"http://test/ops{path}{query}"
                stranger = await client.request(method, url, content=ODD)
                problem_of(stranger, 401, "http_error")
                assert stranger.headers["www-authenticate"] == "Key"
                other = await client.request(method, url, content=ODD, headers={"x-key": "visitor"})
                assert problem_of(other, 403, "http_error")["detail"] == "Operators only."
        assert (await runner.get(job_id(1))).state is ShownState.QUEUED


async def test_the_dependency_is_asked_before_a_method_is_refused(runner: StillRunner) -> None:
    app = FastAPI()
    runner.install(app)
    app.include_router(closed(runner), prefix="/ops")
    there: dict[str, set[str]] = {}
    for method, path in paths_of(closed(runner)):
        there.setdefault(path, set()).add(method)
    async with operating(app) as client:
        for path, methods in there.items():
            for method in {"GET", "POST", "PUT", "OPTIONS"} - methods:
                url = f"http://test/ops{path}"
                operator = await client.request(method, url, content=ODD)
                problem_of(operator, 405, "method_not_allowed")
                assert set(operator.headers["allow"].split(", ")) <= methods, path
                stranger = await client.request(method, url, content=ODD, headers={"x-key": "-"})
                problem_of(stranger, 403, "http_error")
                assert "allow" not in stranger.headers


def test_every_route_has_the_guards_itself_and_not_only_its_router(runner: StillRunner) -> None:
    for route in all_routes(closed(runner)):
        asked = [each.dependency for each in route.dependencies]
        assert only_operators in asked, route.path


def role(name: str) -> Callable[[Request], None]:
    def ask(request: Request) -> None:
        if name not in request.headers["x-roles"].split():
            raise HTTPException(403, f"Not {name}.")

    return ask


ROLES: Any = {name: [Depends(role(name))] for name in ("read", "operate", "admin")}


async def test_a_role_may_do_what_is_its_own_and_all_that_is_below(runner: StillRunner) -> None:
    app = status_app(runner, **ROLES)
    paths = [each for each in paths_of(admin.router(runner, **ROLES)) if each[1].startswith(API)]
    refused: dict[str, set[str]] = {}
    async with client_of(app) as client:
        for roles in ("read", "read operate", "read operate admin", "operate admin", "read admin"):
            client.headers["x-roles"] = roles
            refused[roles] = {
                f"{method} {path}"
                for method, path in paths
                # Past the guards, each says that nothing has started, or lacks a body.
                if (await client.request(method, f"http://test/ops{path}")).status_code == 403
            }
    everything = {f"{method} {path}" for method, path in paths}
    assert len(everything) >= 27
    steering = {each for each in everything if not each.startswith("GET ")}
    deleting = {each for each in everything if each.startswith("DELETE ") or "delete" in each}
    assert len(deleting) >= 2
    assert refused["read"] == steering
    assert refused["read operate"] == deleting
    assert refused["read operate admin"] == set()
    assert refused["operate admin"] == everything
    assert refused["read admin"] == steering


def test_a_role_that_is_left_out_has_no_routes(runner: StillRunner) -> None:
    looking = admin.router(runner, read=ROLES["read"], enqueue=[enqueued])
    assert {method for method, _ in paths_of(looking)} == {"GET"}
    steering = admin.router(runner, read=ROLES["read"], operate=ROLES["operate"])
    assert {method for method, _ in paths_of(steering)} == {"GET", "POST"}
    assert not any("delete" in path for _, path in paths_of(steering))


async def test_every_answer_is_kept_out_of_caches(client: httpx.AsyncClient) -> None:
    for method, path in paths_of(closed(StillRunner())):
        if path.startswith(API) and not path.endswith("/events"):
            answer = await client.request(method, f"http://test/ops{path}")
            assert {name: answer.headers[name] for name in GUARDED} == GUARDED, path


def test_no_route_takes_anything_that_could_name_code(runner: StillRunner) -> None:
    document = status_app(runner).openapi()
    bodies = {
        path: set(each["requestBody"]["content"]["application/json"]["schema"]["properties"])
        for path, methods in document["paths"].items()
        for each in methods.values()
        if "requestBody" in each
    }
    chosen = {"filter", "ids", "dry_run", "cap"}
    assert bodies == {
        "/ops/api/v1/jobs/bulk": {"action", *chosen},
        "/ops/api/v1/jobs/bulk/delete": chosen,
    }


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
