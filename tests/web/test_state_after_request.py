"""What a test sees of a job after the request that added it.

What lives here: the promise that it has ended and that its end is on disk. What does not: what a
job does in its request. Run by pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from embedded_tasks import BackgroundTasks, TaskRunner

app = FastAPI()
runner = TaskRunner("tasks.db")
runner.install(app)


def work() -> None: ...


@app.post("/jobs")
async def add(tasks: BackgroundTasks) -> str:
    job = tasks.add_task(work)
    assert job is not None
    return job.id


@app.get("/jobs/{job_id}")
async def show(job_id: str) -> str:
    return str((await runner.get(job_id)).state)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[TestClient]:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")
    with TestClient(app) as client:
        yield client


def test_a_job_that_a_request_added_has_ended_for_the_next_request(client: TestClient) -> None:
    states = [client.get(f"/jobs/{client.post('/jobs').json()}").json() for _ in range(20)]
    assert states == ["succeeded"] * 20
