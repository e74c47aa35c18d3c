"""The app that real servers serve in crash tests.

What lives here: endpoints that enqueue, and a hook that kills the process as its response begins.
What does not: judging. Started by `harness.py` as `uvicorn tests.crash.app:app`.
"""

from __future__ import annotations

import os
import signal
import warnings
from typing import Annotated, Literal

import anyio
from fastapi import FastAPI, Query
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedded_tasks import BackgroundTasks, NotDurableWarning
from tests.crash.tasks import note, work, work_sync
from tests.crash.worker import make_runner

__all__ = ["app"]

Followers = Annotated[int, Query(ge=0, le=10)]


class KilledAsTheResponseBegins:
    """Kills the process between the commit and the first byte of the answer to /doomed/…"""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def deadly(message: Message) -> None:
            if message["type"] == "http.response.start":
                note("killed", scope["path"])
                os.kill(os.getpid(), signal.SIGKILL)
            await send(message)

        doomed = scope["type"] == "http" and scope["path"].startswith("/doomed/")
        await self._app(scope, receive, deadly if doomed else send)


app = FastAPI()
app.add_middleware(KilledAsTheResponseBegins)
runner = make_runner()
runner.install(app)


@app.get("/ready")
async def ready() -> int:
    return os.getpid()


@app.get("/counts")
async def counts() -> dict[str, int]:
    return {str(state): count for state, count in (await runner.counts()).items()}


@app.post("/tasks/{key}", status_code=202)
@app.post("/doomed/{key}", status_code=202)
async def add_tasks(
    key: str,
    background_tasks: BackgroundTasks,
    *,
    seconds: float = 0.01,
    sync: bool = False,
    followers: Followers = 0,
    on_crash: Literal["retry", "hold", "fail"] = "retry",
) -> list[str]:
    adder = background_tasks.options(on_crash=on_crash)
    keys = [key, *(f"{key}.{number}" for number in range(1, followers + 1))]
    jobs = [adder.add_task(work_sync if sync else work, name, seconds) for name in keys]
    return [job.id for job in jobs]


@app.post("/plain/{key}", status_code=202)
def add_plain(key: str, background_tasks: BackgroundTasks, seconds: float = 0.01) -> None:
    background_tasks.add_task(work_sync, key, seconds)


@app.post("/enqueue/{key}", status_code=202)
async def enqueue(key: str, seconds: float = 0.01, sync: bool = False) -> str:
    return (await runner.enqueue(work_sync if sync else work, key, seconds)).id


@app.post("/slow/{key}", status_code=202)
async def answer_slowly(key: str, background_tasks: BackgroundTasks, seconds: float) -> None:
    background_tasks.add_task(work, key, 0.0)
    await anyio.sleep(seconds)


@app.post("/mixed/{key}", status_code=202)
async def add_durable_and_not(key: str, background_tasks: BackgroundTasks) -> None:
    """A closure runs in the request, after the first attempts before it, where there are any."""
    background_tasks.add_task(work, key, 0.0)
    with warnings.catch_warnings(action="ignore", category=NotDurableWarning):
        background_tasks.add_task(lambda: note("closure", key))
