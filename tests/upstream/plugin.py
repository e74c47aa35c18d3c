"""What FastAPI's and Starlette's own tests run with, so that they meet our runner.

What lives here: the parts that take theirs' place, the tests that are left out, and the count of
durable jobs. What does not: their tests, which `scripts/upstream` fetches. Loaded by pytest (-p).
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from contextvars import Context
from pathlib import Path
from types import FunctionType
from typing import Any, Final

import anyio
import fastapi
import httpx
import pytest
import starlette.background
import starlette.testclient
from starlette.types import ASGIApp, Receive, Scope, Send

from embedded_tasks.enqueue import Draft, Origin, Reserved
from embedded_tasks.errors import NotDurableError
from embedded_tasks.events import EventName, JobEvent
from embedded_tasks.fastapi import TaskRunner
from embedded_tasks.fastapi.background import BackgroundTask, BackgroundTasks
from embedded_tasks.fastapi.batch import RequestBatch
from embedded_tasks.fastapi.edge import Edge
from embedded_tasks.fastapi.routes import mounted_apps
from embedded_tasks.references import References
from embedded_tasks.runner import Runner

RUN: Final = os.environ["EMBEDDED_TASKS_UPSTREAM"]
"""Which run this is: "no-lifespan", "lifespan" or "starlette"."""

_KEEPS_THE_LATER: Final = (
    "a task that fails does not take along the later ones, which were accepted too"
)
_LEFT_OUT: Final[dict[str, dict[str, str]]] = {
    "no-lifespan": {},
    "lifespan": {
        "tests/test_telemetry/test_background.py::test_background_task_failure": _KEEPS_THE_LATER,
    },
    "starlette": {
        "tests/test_background.py::test_multi_tasks_failure_avoids_next_execution[asyncio]": (
            _KEEPS_THE_LATER
        ),
        "tests/middleware/test_errors.py::test_background_task[asyncio]": (
            "a job runs when the request has left the app; its error is logged, and raised to the "
            "test, but no exception handler of the app can meet it"
        ),
    },
}
"""By run: the beginning of a test's id, and why it cannot hold with durable jobs."""

_counts: Counter[str] = Counter()
_names: dict[int, str] = {}
_named: dict[str, object] = {}


# Counting.


def _observe(event: JobEvent) -> None:
    if event.name in {EventName.SUCCEEDED, EventName.FAILED, EventName.INTERRUPTED}:
        _counts[event.name.value] += 1


_add_plain = RequestBatch._add_plain
_reserve = Runner.reserve
_count_non_durable = Runner.count_non_durable


def _add_plain_and_count(
    batch: RequestBatch, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """With no lifespan nothing is stored; count what would have been."""
    _add_plain(batch, func, args, kwargs)
    _counts["in_request"] += 1
    try:
        batch._runner.draft(func, args, kwargs, {})
    except NotDurableError:
        return
    _counts["storable"] += 1


async def _reserve_and_count(
    runner: Runner, drafts: Sequence[tuple[Draft, Context]], origin: Origin
) -> list[Reserved]:
    reserved = await _reserve(runner, drafts, origin)
    _counts["stored"] += len(drafts)
    return reserved


def _count_non_durable_here(runner: Runner) -> None:
    _count_non_durable(runner)
    _counts["non_durable"] += 1


# FastAPI: every app has a runner.


_init = fastapi.FastAPI.__init__
_call = fastapi.FastAPI.__call__


def _make_with_runner(app: fastapi.FastAPI, *args: Any, **kwargs: Any) -> None:
    _init(app, *args, **kwargs)
    runner = TaskRunner("upstream.db", observers=[_observe])
    app.__dict__["_upstream_runner"] = runner
    runner.install(app)


async def _call_inside_lifespan(
    app: fastapi.FastAPI, scope: Scope, receive: Receive, send: Send
) -> None:
    """Run the runner for each request as the app's lifespan does.

    The app's own start-up code is not run: their tests tell by it whether they used `with`.
    """
    runner: TaskRunner = app.__dict__["_upstream_runner"]
    elsewhere = runner.is_running and not (_on_asyncio() and runner.runs_on_this_loop())
    if scope["type"] == "lifespan" or elsewhere or not _on_asyncio():
        await _call(app, scope, receive, send)
        return
    await _run_inside(runner, functools.partial(_call, app, scope, receive, send))


async def _enter_transport(transport: httpx.ASGITransport) -> httpx.ASGITransport:
    """Open what is called by an async client for as long as that client is: as a server would."""
    stack = AsyncExitStack()
    if isinstance(transport.app, fastapi.FastAPI) and _on_asyncio():
        mounted = [app for _, app in mounted_apps(transport.app)]
        for app in (transport.app, *mounted):
            runner: TaskRunner = app.__dict__["_upstream_runner"]
            await stack.enter_async_context(runner.open(run_jobs=True))
    transport.__dict__["_upstream_stack"] = stack
    return transport


async def _exit_transport(transport: httpx.ASGITransport, *_: object) -> None:
    with anyio.CancelScope(shield=True):
        await transport.__dict__["_upstream_stack"].aclose()


async def _run_inside(runner: TaskRunner, request: Callable[[], Awaitable[None]]) -> None:
    """Run a request inside a running runner, which no cancelled request takes along."""
    stack = AsyncExitStack()
    with anyio.CancelScope(shield=True):
        await stack.enter_async_context(runner.open(run_jobs=True))
    try:
        await request()
    finally:
        with anyio.CancelScope(shield=True):
            await stack.aclose()


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


# Starlette: our classes in the place of theirs, and each app of a test client with a runner.


class _Served:
    """An app that is called inside a running runner, as one with `install` is."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or not _on_asyncio():
            await self._app(scope, receive, send)
            return
        runner = TaskRunner("upstream.db", observers=[_observe])
        edge = Edge(self._app, runner, refuse=False)
        await _run_inside(runner, functools.partial(edge, scope, receive, send))


_init_client = starlette.testclient.TestClient.__init__


def _make_client(made: starlette.testclient.TestClient, /, *args: Any, **kwargs: Any) -> None:
    _init_client(made, *args, **kwargs)
    made._transport.app = _Served(made._transport.app)  # type: ignore[attr-defined]


# All tasks of Starlette's tests are functions inside of a test, which have no name that survives a
# restart. To be stored they get one for the time of the process.


_name_of = References.name_of
_resolve = References.resolve


def _name_of_any(references: References, obj: object) -> str:
    try:
        return _name_of(references, obj)
    except NotDurableError:
        if not isinstance(obj, FunctionType):
            raise
    name = _names.setdefault(id(obj), f"upstream:{obj.__name__}_{len(_names)}")
    _named[name] = obj
    return name


def _resolve_any(references: References, name: str) -> Any:
    return _named[name] if name in _named else _resolve(references, name)


def _take_places() -> None:
    places: list[tuple[Any, str, Any]] = [
        (RequestBatch, "_add_plain", _add_plain_and_count),
        (Runner, "reserve", _reserve_and_count),
        (Runner, "count_non_durable", _count_non_durable_here),
    ]
    if RUN == "starlette":
        places += [
            (starlette.background, "BackgroundTask", BackgroundTask),
            (starlette.background, "BackgroundTasks", BackgroundTasks),
            (starlette.testclient.TestClient, "__init__", _make_client),
            (References, "name_of", _name_of_any),
            (References, "resolve", _resolve_any),
        ]
    else:
        places.append((fastapi.FastAPI, "__init__", _make_with_runner))
    if RUN == "lifespan":
        places += [
            (fastapi.FastAPI, "__call__", _call_inside_lifespan),
            (httpx.ASGITransport, "__aenter__", _enter_transport),
            (httpx.ASGITransport, "__aexit__", _exit_transport),
        ]
    for owner, name, ours in places:
        setattr(owner, name, ours)


_take_places()


# For pytest.


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [item for item in items if item.nodeid.startswith(tuple(_LEFT_OUT[RUN]))]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        _counts["left_out"] = len(left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write this process's counts down, for the script to add up."""
    place = Path(os.environ["EMBEDDED_TASKS_UPSTREAM_COUNTS"], f"{os.getpid()}.json")
    place.write_text(json.dumps(_counts), encoding="utf-8")
