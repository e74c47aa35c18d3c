"""The app that real servers serve in crash tests.

What lives here: endpoints that enqueue, and a hook that kills the process as its response begins.
What does not: judging. Started by `harness.py` as `uvicorn tests.crash.app:app`.
"""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable
from typing import Annotated, Any, Literal

import anyio
from fastapi import FastAPI, Query
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedded_tasks import BackgroundTasks, NotDurableWarning
from embedded_tasks.recovery import Recoverer
from tests.crash.poison import block
from tests.crash.tasks import fail, fail_twice, note, snooze_once, work, work_sync
from tests.crash.worker import make_runner

__all__ = ["app"]

OnCrash = Literal["retry", "hold", "fail"]
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


async def leave_the_dead(*_: object) -> None:
    """In place of the recovery, to show that a test would tell."""


if os.environ.get("CRASH_RECOVERY") == "off":
    Recoverer.recover = leave_the_dead  # type: ignore[method-assign,assignment]  # on purpose

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


@app.get("/siblings")
async def siblings() -> int:
    return len((await runner.health()).processes)


@app.post("/threads/{key}", status_code=202)
def enqueue_from_a_thread(key: str, seconds: float = 0.01) -> str:
    return runner.enqueue_sync(work_sync, key, seconds).id


TASKS: dict[str, Callable[..., Any]] = {
    function.__name__: function for function in (work, work_sync, fail, fail_twice, snooze_once)
}


@app.post("/options/{key}", status_code=202)
async def enqueue_with_options(key: str, task: str, delay: float = 0.0, priority: int = 0) -> str:
    options = runner.options(
        queue="other", priority=priority, delay=delay, max_attempts=3, backoff=[0.02, 0.05],
        give_up_on=[ValueError] if task == "fail" else [], tags=["mixed"],
    )  # fmt: skip  # one line of each kind
    return (await options.enqueue(TASKS[task], key, 0.01)).id


@app.post("/cancelled/{key}", status_code=202)
async def cancel_before_it_starts(key: str, delay: float) -> str:
    job = await runner.options(delay=delay).enqueue(work, key, 0.0)
    return (await job.cancel()).name


@app.post("/stopped/{key}", status_code=202)
async def cancel_while_it_runs(key: str, seconds: float) -> str:
    job = await runner.enqueue(work, key, seconds)
    await anyio.sleep(seconds / 5)
    return (await job.cancel()).name


@app.post("/block/{key}", status_code=202)
async def block_the_loop(
    key: str, background_tasks: BackgroundTasks, seconds: float, on_crash: OnCrash = "retry"
) -> None:
    background_tasks.options(on_crash=on_crash).add_task(block, key, seconds)
