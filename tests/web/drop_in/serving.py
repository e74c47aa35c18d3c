"""An app as a server runs it.

What lives here: an app with its lifespan and a client, and a request of which every message is
seen. What does not: a real server (`live.py`). Used by the tests of the adapter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import fastapi.routing
import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message, Scope

from embedded_tasks import Job, TaskRunner
from embedded_tasks.job import JobRecord
from embedded_tasks.store import JobFilter

FASTAPI = tuple(int(number) for number in fastapi.__version__.split(".")[:2])

READS_OBJECTS = pytest.mark.skipif(
    FASTAPI < (0, 122), reason="this FastAPI does not look into an object's __call__"
)
YIELDS = pytest.mark.skipif(
    not hasattr(fastapi.routing, "EventSourceResponse"),
    reason="this FastAPI has no endpoints that yield",
)


@asynccontextmanager
async def client_of(app: FastAPI, *, raises: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=raises)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@asynccontextmanager
async def serving(app: FastAPI, *, raises: bool = True) -> AsyncIterator[httpx.AsyncClient]:
    """The app, started, and a client of it."""
    async with app.router.lifespan_context(app), client_of(app, raises=raises) as client:
        yield client


class Visitor:
    """One request, message by message; everything that happens goes into `events`."""

    def __init__(self, app: Any, path: str, events: list[str] | None = None) -> None:
        self.app = app
        self.scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"test")],
            "client": ("127.0.0.1", 1),
            "server": ("test", 80),
        }
        self.events = [] if events is None else events
        self.body = b""
        self.status = 0
        self._received = False

    async def __call__(self) -> None:
        await self.app(self.scope, self._receive, self._send)
        self.events.append("ended")

    async def _receive(self) -> Message:
        if self._received:
            # The client stays.
            await asyncio.Event().wait()
        self._received = True
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.events.append("start")
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")
            self.events.append("body")


async def idle(runner: TaskRunner) -> None:
    """Wait until the runner has looked for due jobs and has free slots.

    Only then do first attempts get the objects of the request; else they wait like all others.
    """
    session = runner._running("test")
    lanes = session.worker._lanes.values()
    while session.worker.is_full() or any(lane.due for lane in lanes):  # noqa: ASYNC110  # nobody tells of it
        await asyncio.sleep(0)


async def turns(count: int = 50) -> None:
    """Let everything that can go on go on."""
    for _ in range(count):
        await asyncio.sleep(0)


async def stored(runner: TaskRunner) -> Sequence[JobRecord]:
    """All jobs, the oldest first."""
    page = await runner.jobs(JobFilter(limit=100))
    return [job.record for _, job in reversed(page) if job.record is not None]


async def all_ended(runner: TaskRunner) -> list[Job[Any]]:
    """Wait for every job that is stored; return them, the oldest first."""
    jobs = [job for _, job in reversed(await runner.jobs(JobFilter(limit=100)))]
    for job in jobs:
        await asyncio.gather(job.result(timeout=30), return_exceptions=True)
        await job.refresh()
    return jobs
