"""An app on a real port, for clients that are no Python.

What lives here: serving an app beside the test, and an app with something of everything. What does
not: what is asked of it. Used by the tests of this folder.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from typing import Literal

import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request

from embedded_tasks import admin, task
from embedded_tasks.admin import Pace
from tests.support.jobs import new_job
from tests.web.admin.status_app import StillRunner, fill, only_operators

HURRIED = Pace(keep_alive=0.01, life=0.02)


@task
async def send_report(month: date, to: list[str], form: Literal["pdf", "csv"] = "pdf") -> None: ...


@task
def count(limit: int = 10) -> None: ...


async def caller(request: Request) -> str | None:
    return request.headers.get("x-user")


def whole_app(runner: StillRunner) -> FastAPI:
    """Every route there is, whose streams soon end."""
    app = FastAPI()
    runner.install(app)
    operators = admin.router(
        runner,
        dependencies=[Depends(only_operators)],
        enqueue=[send_report, count],
        pace=HURRIED,
    )
    app.include_router(operators, prefix="/ops")
    users: APIRouter = admin.status_router(runner, caller=caller, pace=HURRIED)
    app.include_router(users, prefix="/mine")
    return app


async def fill_all(runner: StillRunner) -> None:
    """Jobs in every state, and one that belongs to somebody."""
    await fill(runner.store)
    await runner.store.insert([new_job(20, belongs_to="ann")])


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """The app on a port of its own; yields its address."""
    # With the protocol named, asyncio switches Nagle off; each answer would wait 40 ms otherwise.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            while not server.started:
                assert not running.done(), "the server has not started"
                await asyncio.sleep(0)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running
