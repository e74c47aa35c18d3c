"""What a request costs, in counts of calls: where it has no tasks next to nothing, never seconds.

What lives here: bounds on the adapter's own work for each request. What does not: what the store
does (test_costs.py), how fast it is (benchmarks). Run by pytest.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Generator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fastapi import APIRouter, BackgroundTasks, FastAPI

import embedded_tasks
from embedded_tasks import TaskRunner
from tests.support.asgi import post

pytestmark = pytest.mark.anyio

_OURS = Path(embedded_tasks.__file__).parent
_ADAPTER = (
    "background",
    "batch",
    "edge",
    "entries",
    "fastapi",
    "nondurable",
    "request_ids",
    "routes",
)


async def nothing(number: int) -> None: ...


router = APIRouter()


@router.post("/none")
async def without() -> None: ...


@router.post("/unused")
async def with_unused(background_tasks: BackgroundTasks) -> None: ...


@router.post("/one")
async def with_one(background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(nothing, 1)


@pytest.fixture
async def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[FastAPI]:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "0")
    app = FastAPI()
    app.include_router(router)
    # Nothing starts: the attempts are no part of a request.
    TaskRunner(tmp_path / "tasks.db", modules=["tests"], concurrency=0).install(app)
    async with app.router.lifespan_context(app):
        for path in ("/none", "/unused", "/one"):
            await post(app, path)
        yield app


class Calls:
    """Counts the calls of our own functions while a request is under way, on its thread.

    A coroutine that goes on after it has waited counts once more.

    Args:
        modules: Of what; None (default) is all.
    """

    def __init__(self, modules: tuple[str, ...] | None = None) -> None:
        self.by_name: Counter[str] = Counter()
        self._modules = modules

    @property
    def total(self) -> int:
        return self.by_name.total()

    async def count(self, app: FastAPI, path: str) -> None:
        sys.setprofile(self._see)
        try:
            await post(app, path)
        finally:
            sys.setprofile(None)

    def _see(self, frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        file = Path(code.co_filename)
        if event != "call" or _OURS not in file.parents:
            return
        if self._modules is None or file.stem in self._modules:
            self.by_name[code.co_qualname] += 1


class Waits:
    """Counts how often a call gives the event loop back before it is done."""

    def __init__(self, call: Coroutine[Any, Any, None]) -> None:
        self.number = 0
        self._call = call

    def __await__(self) -> Generator[Any, None, None]:
        for waited in self._call.__await__():
            self.number += 1
            yield waited


async def test_a_request_without_tasks_calls_next_to_nothing_of_ours(app: FastAPI) -> None:
    calls = Calls()
    await calls.count(app, "/none")
    # The edge, what it remembers, the look at the answer's headers, and what the endpoint returned.
    assert 3 <= calls.total <= 9, calls.by_name


async def test_a_request_that_does_not_use_its_background_tasks_pays_little_for_them(
    app: FastAPI,
) -> None:
    calls = Calls()
    await calls.count(app, "/unused")
    assert calls.total <= 20, calls.by_name
    # Neither a batch nor anything of the store.
    files = {name.partition(".")[0] for name in calls.by_name}
    assert not files & {"RequestBatch", "FrontDoor", "Store", "NonDurable"}


async def test_a_request_with_a_job_calls_little_of_the_adapter(app: FastAPI) -> None:
    calls = Calls(_ADAPTER)
    await calls.count(app, "/one")
    assert calls.total <= 50, calls.by_name


@pytest.mark.parametrize(("path", "waits"), [("/none", 0), ("/unused", 0), ("/one", 1)])
async def test_a_request_waits_for_its_commit_and_for_nothing_else(
    app: FastAPI, path: str, waits: int
) -> None:
    answered = Waits(post(app, path))
    await answered
    assert answered.number == waits


async def test_a_request_with_a_job_needs_no_task_of_the_event_loop(app: FastAPI) -> None:
    made: list[str] = []
    loop = asyncio.get_running_loop()

    def make(loop: asyncio.AbstractEventLoop, call: Any, **how: Any) -> Any:
        made.append(call.__qualname__)
        return asyncio.Task(call, loop=loop, **how)

    loop.set_task_factory(make)
    try:
        await post(app, "/one")
    finally:
        loop.set_task_factory(None)
    # Without a slot its job is given to everybody, together with those of other requests.
    assert made in ([], ["Releases._write"])
