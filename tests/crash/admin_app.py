"""The app whose operators look at deaths: jobs that die, and the status routes.

What lives here: one endpoint, the routes and the dashboard. What does not: judging. Started as
`uvicorn tests.crash.admin_app:app`.
"""

from __future__ import annotations

import os

from fastapi import Depends, FastAPI

from embedded_tasks import admin
from tests.crash.poison import abort, kill_itself
from tests.crash.tasks import work
from tests.crash.worker import make_runner

__all__ = ["app"]


def everybody() -> None:
    """Let everybody in: it is a test."""


app = FastAPI()
runner = make_runner()
runner.install(app)
app.include_router(admin.router(runner, dependencies=[Depends(everybody)]), prefix="/tasks")


@app.get("/ready")
async def ready() -> int:
    return os.getpid()


@app.post("/stay/{key}")
async def add_work(key: str) -> str:
    return (await runner.options(on_crash="hold").enqueue(work, key, 60.0)).id


@app.post("/abort/{key}")
async def add_abort(key: str) -> str:
    return (await runner.options(on_crash="hold").enqueue(abort, key)).id


@app.post("/kill/{key}")
async def add_kill(key: str) -> str:
    return (await runner.options(on_crash="hold").enqueue(kill_itself, key)).id
