"""What ends with no attempt is told too; what cannot work is refused with what to write."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.applications import Starlette

from embedded_tasks import JobFilter, TaskRunner
from embedded_tasks.errors import ConfigurationError
from embedded_tasks.events import EventName, JobEvent
from embedded_tasks.job import NewJob

pytestmark = pytest.mark.anyio


async def work() -> None: ...


async def test_a_job_whose_code_is_gone_is_told_as_held() -> None:
    told: asyncio.Queue[JobEvent] = asyncio.Queue()
    runner = TaskRunner(":memory:", modules=["tests"], observers=[told.put_nowait])
    async with runner.open(run_jobs=True):
        session: Any = runner._session
        gone = NewJob(id="01a2-gone", task="tests.gone:task", args="", due_at=0.0, created_at=0.0)
        await session.store.insert([gone])
        session.worker.wake()
        async with asyncio.timeout(10):
            event = await told.get()
        assert (event.name, event.job_id, event.task) == (
            EventName.HELD,
            "01a2-gone",
            "tests.gone:task",
        )


async def test_a_job_that_expires_while_it_waits_is_told() -> None:
    told: asyncio.Queue[JobEvent] = asyncio.Queue()
    runner = TaskRunner(":memory:", modules=["tests"], observers=[told.put_nowait])
    async with runner.open(run_jobs=True):
        session: Any = runner._session
        past = NewJob(
            id="01a2-late",
            task="tests.gone:task",
            args="",
            due_at=0.0,
            created_at=0.0,
            finish_by=1.0,
        )
        await session.store.insert([past])
        session.worker.wake()
        async with asyncio.timeout(10):
            event = await told.get()
        assert (event.name, event.job_id) == (EventName.EXPIRED, "01a2-late")
        (job,) = [job for _, job in await runner.jobs(JobFilter(state="expired"))]
        assert job.id == "01a2-late"


@pytest.mark.parametrize("path", ["sqlite:///tasks.db", "file:tasks.db?mode=memory"])
def test_a_url_is_no_path(path: str) -> None:
    with pytest.raises(ConfigurationError, match="expected the path of a file, such as"):
        TaskRunner(path)


def test_an_app_that_is_not_fastapi_is_told_what_to_do() -> None:
    app: Any = Starlette()
    with pytest.raises(ConfigurationError, match="expected a FastAPI app"):
        TaskRunner(":memory:").install(app)
