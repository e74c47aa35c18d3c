"""Server-sent events: what they tell, where they go on, and that they end.

What lives here: the stream of all events and that of one job, over a real server. What does not:
what events there are (the feed's own tests). Run by pytest.
"""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from embedded_tasks import JobContext, TaskRunner
from embedded_tasks.admin import Pace
from embedded_tasks.admin.feed import until_stopped
from embedded_tasks.admin.sse import frame
from tests.support.jobs import job_id
from tests.web.admin.schema_app import served
from tests.web.admin.status_app import (
    API,
    OPERATOR,
    operating,
    problem_of,
    status_app,
)

pytestmark = pytest.mark.anyio

gates: list[asyncio.Event] = []


async def work(ctx: JobContext) -> None:
    ctx.progress(1, 2, "half")
    await gates[-1].wait()


@pytest.fixture
async def go_on() -> asyncio.Event:
    """Closed; whoever works waits for it."""
    gates.append(asyncio.Event())
    return gates[-1]


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> TaskRunner:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")
    return TaskRunner("tasks.db", modules=["tests"], log_successes=False)


async def events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream, comments left out."""
    event: dict[str, Any] = {}
    async for line in response.aiter_lines():
        name, _, value = line.partition(": ")
        if not line:
            if "event" in event:
                yield {**event, "data": json.loads(event["data"])}
            event = {}
        elif name:
            event[name] = value


async def until(told: AsyncIterator[dict[str, Any]], name: str) -> dict[str, Any]:
    """The next event of this name."""
    async for event in told:
        if event["event"] == name:
            return event
    raise AssertionError(f"the stream ended without {name}")


@asynccontextmanager
async def browsing(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """An operator whose answers come as they are sent."""
    async with (
        served(app) as address,
        httpx.AsyncClient(base_url=f"{address}/ops{API}", headers=OPERATOR, timeout=60) as browser,
    ):
        yield browser


def test_nothing_in_the_data_of_an_event_can_end_it() -> None:
    data = {"text": "a\nevent: done\r\n\r\ndata: \u2028\ud800"}
    text = frame("log", data, 5).decode()
    assert text.startswith("id: 5\nevent: log\ndata: {")
    assert text.endswith("}\n\n")
    assert len(text.splitlines()) == 4
    assert json.loads(text.splitlines()[2].removeprefix("data: ")) == data


async def test_a_stream_says_how_it_is_to_be_read(runner: TaskRunner) -> None:
    pace = Pace(keep_alive=0.01, life=0.05)
    async with operating(status_app(runner, pace=pace)) as client:
        answer = await client.get("/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["cache-control"] == "no-store"
    first, second, *rest = answer.text.split("\n\n")
    assert first == "retry: 3000"
    assert second.startswith("id: ")
    assert "event: open" in second
    # It ended by itself: its life was over.
    assert set(rest) == {": keep-alive", ""}


async def test_all_that_happens_is_told(runner: TaskRunner, go_on: asyncio.Event) -> None:
    go_on.set()
    async with (
        browsing(status_app(runner)) as browser,
        browser.stream("GET", "/events") as stream,
    ):
        told = events(stream)
        assert (await anext(told))["event"] == "open"
        job = await runner.enqueue(work)
        finished = await until(told, "finished")
    assert finished["data"]["job"] == job.id
    assert finished["data"]["state"] == "succeeded"
    assert finished["id"]


async def test_a_client_that_comes_again_is_told_what_it_missed(
    runner: TaskRunner, go_on: asyncio.Event
) -> None:
    go_on.set()
    async with browsing(status_app(runner)) as browser:
        async with browser.stream("GET", "/events") as stream:
            opened = await anext(events(stream))
        job = await runner.enqueue(work)
        await job.result(timeout=30)
        after = {"last-event-id": opened["id"]}
        async with browser.stream("GET", "/events", headers=after) as stream:
            finished = await until(events(stream), "finished")
        assert finished["data"]["job"] == job.id
        odd = {"last-event-id": "such an id is nobody's".replace(" ", "-")}
        async with browser.stream("GET", "/events", headers=odd) as stream:
            await until(events(stream), "reset")


async def test_one_jobs_stream_tells_how_it_is_and_ends_with_it(
    runner: TaskRunner, go_on: asyncio.Event
) -> None:
    async with browsing(status_app(runner)) as browser:
        job = await runner.enqueue(work)
        other = await runner.options(delay=60).enqueue(work)
        url = f"/jobs/{job.id}/events"
        async with browser.stream("GET", url) as stream:
            told = events(stream)
            first = await anext(told)
            assert (first["event"], first["data"]["id"]) == ("job", job.id)
            progress = await until(told, "progress")
            assert progress["data"]["message"] == "half"
            go_on.set()
            rest = [each async for each in told]
        assert rest[-1]["event"] == "done"
        assert rest[-1]["data"]["state"] == "succeeded"
        assert other.id not in json.dumps(rest)
        again = await browser.get(url, headers={"last-event-id": rest[-1]["id"]})
        assert again.status_code == 204
        late = (await browser.get(url)).text
        assert late.count("event: ") == 1
        assert "event: done" in late


async def test_a_job_that_is_retried_after_its_end_has_a_stream_again(
    runner: TaskRunner, go_on: asyncio.Event
) -> None:
    go_on.set()
    async with browsing(status_app(runner)) as browser:
        job = await runner.enqueue(work)
        await job.result(timeout=30)
        url = f"/jobs/{job.id}/events"
        mark = (await browser.get(url)).text.partition("id: ")[2].partition("\n")[0]
        go_on.clear()
        await runner.retry(job.id)
        async with browser.stream("GET", url, headers={"last-event-id": mark}) as stream:
            told = events(stream)
            assert (await until(told, "job"))["data"]["state"] in ("retrying", "running")
            go_on.set()
            assert (await until(told, "done"))["data"]["state"] == "succeeded"


async def test_a_stream_of_no_job_is_a_problem(runner: TaskRunner) -> None:
    async with operating(status_app(runner)) as client:
        problem_of(await client.get(f"/jobs/{job_id(1)}/events"), 404, "job_not_found")
        odd = await client.get("/events", headers={"last-event-id": "x" * 201})
        problem_of(odd, 422, "invalid_input")


async def listen(address: str, path: str, opened: asyncio.Semaphore) -> None:
    """Listen to a stream of which nothing more comes than its end."""
    async with (
        httpx.AsyncClient(base_url=address, headers=OPERATOR, timeout=60) as browser,
        browser.stream("GET", f"{API}{path}") as stream,
    ):
        told = events(stream)
        await anext(told)
        opened.release()
        assert [each["event"] async for each in told] == []


@pytest.mark.parametrize("slots", [0, 10])
async def test_open_streams_do_not_hold_up_the_end_of_the_process(
    tmp_path: Path, slots: int
) -> None:
    opened = asyncio.Semaphore(0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        descriptor = listening.fileno()
        said = [str(descriptor), str(tmp_path / "tasks.db"), str(slots)]
        run = [sys.executable, "-m", "tests.web.admin.stream_child", *said]
        process = await asyncio.create_subprocess_exec(*run, pass_fds=[descriptor])
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        async with asyncio.TaskGroup() as group:
            async with httpx.AsyncClient(timeout=60) as browser:
                job = (await browser.post(f"{address}/enqueue")).json()
            for path in ["/events", f"/jobs/{job}/events"] * 5:
                group.create_task(listen(address, path, opened))
            for _ in range(10):
                await opened.acquire()
            # The server itself would wait for the streams for ever.
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 30) in (0, -signal.SIGTERM)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_stream_ends_when_its_source_does_and_closes_it() -> None:
    closed = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            closed.append(True)

    stopping = asyncio.Event()
    assert [each async for each in until_stopped(source(), stopping, Pace())] == [1, 2]
    stopping.set()
    assert [each async for each in until_stopped(source(), stopping, Pace())] == []
    assert closed == [True, True]


async def test_an_error_of_the_source_is_not_hidden() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        [each async for each in until_stopped(source(), asyncio.Event(), Pace())]
