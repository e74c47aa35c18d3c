"""The app of the disk tests: jobs with padding, and health.

What lives here: endpoints and their task. What does not: judging. Started by `serving.py` as
`uvicorn tests.crash.disk.app:app`.
"""

from __future__ import annotations

import os

from fastapi import FastAPI, Response

from embedded_tasks import BackgroundTasks
from tests.crash.tasks import note, work
from tests.crash.worker import make_runner

__all__ = ["app", "padded"]

app = FastAPI()
runner = make_runner()
runner.install(app)


async def padded(key: str, padding: str) -> None:
    note("started", key)
    note("ended", key)


@app.get("/ready")
async def ready() -> int:
    return os.getpid()


@app.get("/health")
async def health() -> dict[str, object]:
    found = await runner.health()
    return {"ok": found.ok, "problems": found.problems, "ready": found.ready}


@app.get("/job/{job_id}")
async def job(job_id: str) -> dict[str, object]:
    found = (await runner.get(job_id)).record
    assert found is not None
    return {"state": found.state, "reason": found.reason}


@app.post("/jobs/{key}", status_code=202)
async def add(
    key: str, background_tasks: BackgroundTasks, size: int = 10, attempts: int = 1
) -> None:
    adder = background_tasks.options(max_attempts=attempts, backoff=[0.1])
    adder.add_task(padded, key, "x" * size)


@app.post("/long/{key}", status_code=202)
async def add_long(
    key: str, background_tasks: BackgroundTasks, seconds: float, timeout: float = 60.0
) -> None:
    background_tasks.options(timeout=timeout).add_task(work, key, seconds)


@app.post("/later/{key}", status_code=202)
async def enqueue_later(key: str, delay: float) -> str:
    return (await runner.options(delay=delay).enqueue(work, key, 0.0)).id


@app.post("/retry/{job_id}", status_code=204)
async def retry(job_id: str) -> Response:
    await runner.retry(job_id)
    return Response(status_code=204)
