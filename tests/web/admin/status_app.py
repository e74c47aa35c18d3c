"""An app with status routes, its operator, and jobs in every state.

What lives here: what the tests of the status routes share. What does not: what they promise. Used
by the tests of this folder.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request

from embedded_tasks import TaskRunner, admin
from embedded_tasks.admin.route import StatusRoute
from embedded_tasks.job import (
    AttemptError,
    Cancelled,
    Expired,
    Failed,
    Held,
    Outcome,
    RetryLater,
    Snoozed,
    Succeeded,
)
from embedded_tasks.store import Store
from tests.support.clock import FakeClock
from tests.support.jobs import ME, NOW, claimed_job, job_id, new_job, running_job, settled
from tests.support.stores import write

OPERATOR = {"x-key": "operator"}
PROBLEM = "application/problem+json"
API = "/api/v1"
_FILLED = {"queue": "mail"}
SOME_ERROR = AttemptError("shop.SendError", "no route to postgres://ann:pw@db", "Traceback ...")


GUARDED = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


def problem_of(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Return a problem that was answered, which must be as every problem is."""
    assert answer.headers["content-type"] == PROBLEM, answer.text
    assert {name: answer.headers[name] for name in GUARDED} == GUARDED
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), body
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["detail"]
    return body


def all_routes(router: Any) -> Iterator[StatusRoute]:
    """Every route of a router, those of the dashboard too; a route of any other kind is no route
    that asks the dependencies.
    """
    for route in router.routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            yield from all_routes(inner)
        else:
            assert isinstance(route, StatusRoute), route
            yield route


def paths_of(router: Any, id: str = job_id(1)) -> Iterator[tuple[str, str]]:
    """Every method and path of a router, with something in the place of parameters."""
    for route in all_routes(router):
        for method in sorted(route.methods or ()):
            yield method, re.sub(r"{(\w+)(:\w+)?}", lambda at: _FILLED.get(at[1], id), route.path)


class StillRunner(TaskRunner):
    """Time stands still, and nothing is attempted."""

    def __init__(self, path: str = ":memory:", **options: Any) -> None:
        options.setdefault("concurrency", 0)
        super().__init__(path, **options)

    def _make_clock(self) -> FakeClock:
        return FakeClock(NOW)

    @property
    def store(self) -> Store:
        return self._running("test").store


async def only_operators(request: Request) -> None:
    key = request.headers.get("x-key")
    if key is None:
        raise HTTPException(401, "Who are you?", headers={"WWW-Authenticate": "Key"})
    if key != "operator":
        raise HTTPException(403, "Operators only.")


def status_app(runner: TaskRunner, **options: Any) -> FastAPI:
    app = FastAPI()
    runner.install(app)
    if "read" not in options:
        options.setdefault("dependencies", [Depends(only_operators)])
    app.include_router(admin.router(runner, **options), prefix="/ops")
    return app


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """An operator, before whom the app need not have started."""
    transport = httpx.ASGITransport(app=app)
    url = f"http://test/ops{API}"
    async with httpx.AsyncClient(transport=transport, base_url=url, headers=OPERATOR) as client:
        yield client


@asynccontextmanager
async def operating(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """An operator of an app that has started."""
    async with app.router.lifespan_context(app), client_of(app) as client:
        yield client


async def end(store: Store, number: int, outcome: Outcome, **changes: Any) -> None:
    """Store a job whose first attempt came to this outcome."""
    await store.insert([running_job(number, **changes)])
    assert await store.settle([settled(claimed_job(number), outcome)])


async def fill(store: Store) -> dict[str, list[str]]:
    """Store jobs in every state; return the ids of each shown state, the newest first."""
    await store.insert([new_job(1), new_job(2, due_at=NOW + 60), running_job(3)])
    await end(store, 4, RetryLater(60, SOME_ERROR))
    await end(store, 5, Succeeded('[1,{"sent":1,"token":"t"}]'))
    await end(store, 6, Failed("shop.SendError: no", SOME_ERROR))
    await end(store, 7, Cancelled("by hand"))
    await end(store, 8, Expired("too late"))
    await end(store, 9, Held("the code is gone", "unknown_task"))
    # The other ways to wait: behind a job of the same request, given back, and under suspicion.
    await store.insert([new_job(10, owner=ME, after=job_id(3))])
    await store.insert([new_job(11, after=job_id(3))])
    await store.insert([new_job(12)])
    await write(store, f"UPDATE jobs SET crashes = 2 WHERE id = '{job_id(12)}'")
    await end(store, 13, Snoozed(60, "not now"))
    states = {
        "scheduled": [2],
        "retrying": [13, 4],
        "queued": [12, 11, 10, 1],
        "running": [3],
        "succeeded": [5],
        "failed": [6],
        "cancelled": [7],
        "expired": [8],
        "held": [9],
    }
    return {state: [job_id(number) for number in numbers] for state, numbers in states.items()}
