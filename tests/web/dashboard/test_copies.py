"""Pages that many have open are made once for each change, and nobody is shown what is old or not
theirs.

What lives here: what is shared and what is not. What does not: how often a change is told. Run by
pytest.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.responses import Response

from embedded_tasks import TaskRunner, admin
from embedded_tasks.admin.dashboard.copies import Copies
from embedded_tasks.changes import Change
from embedded_tasks.reports import Reports

pytestmark = pytest.mark.anyio

READS_ANEW = {"accept": "text/html", "hx-request": "true"}


async def anybody() -> None: ...


async def operators(request: Request) -> None:
    if "x-operator" not in request.headers:
        raise HTTPException(403)


async def work() -> None: ...


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> TaskRunner:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")
    return TaskRunner("tasks.db", modules=["tests"], log_successes=False)


@pytest.fixture
def overviews(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """Grows by one for each overview that is read from the store."""
    found: list[None] = []
    overview = Reports.overview

    async def counted(self: Reports) -> Any:
        found.append(None)
        return await overview(self)

    monkeypatch.setattr(Reports, "overview", counted)
    return found


@asynccontextmanager
async def looking(runner: TaskRunner) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    runner.install(app)
    roles = {"read": [Depends(anybody)], "operate": [Depends(operators)]}
    app.include_router(admin.router(runner, **roles), prefix="/ops")  # type: ignore[arg-type]  # by name
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://shop/ops") as client,
    ):
        yield client


def tell(runner: TaskRunner, mark: str) -> None:
    session = runner._session
    assert session is not None
    session.operating.feed.changes._announced = Change(mark, 0.1)


async def read(client: httpx.AsyncClient, path: str = "/", **headers: str) -> str:
    answer = await client.get(path, headers=READS_ANEW | headers)
    assert answer.status_code == 200, answer.text
    return answer.text


async def test_fifty_pages_that_a_change_sends_to_read_are_made_once(
    runner: TaskRunner, overviews: list[None]
) -> None:
    async with looking(runner) as client:
        tell(runner, "1-1")
        pages = await asyncio.gather(*(read(client) for _ in range(50)))
        assert len(set(pages)) == 1
        assert len(overviews) == 1
        await read(client, "/?range=24h")
        assert len(overviews) == 2


async def test_the_next_change_makes_them_anew(runner: TaskRunner, overviews: list[None]) -> None:
    async with looking(runner) as client:
        tell(runner, "1-1")
        before = await read(client, "/jobs")
        job = await runner.enqueue(work)
        await job.result(timeout=30)
        assert await read(client, "/jobs") == before
        tell(runner, "1-2")
        assert job.id in await read(client, "/jobs")


async def test_who_opens_a_page_and_who_follows_nothing_sees_what_is_so_now(
    runner: TaskRunner,
) -> None:
    async with looking(runner) as client:
        assert runner.reports.last_mark is None
        await read(client, "/jobs")
        tell(runner, "1-1")
        await read(client, "/jobs")
        job = await runner.enqueue(work)
        opened = await client.get("/jobs", headers={"accept": "text/html"})
        assert job.id in opened.text


async def test_buttons_are_shown_to_who_may_press_them_also_in_a_copy(runner: TaskRunner) -> None:
    async with looking(runner) as client:
        await runner.enqueue(work)
        tell(runner, "1-1")
        button = 'value="retry"'
        assert button in await read(client, "/jobs", **{"x-operator": "yes"})
        assert button not in await read(client, "/jobs")
        assert button in await read(client, "/jobs", **{"x-operator": "yes"})


async def test_a_page_follows_from_before_it_was_read(runner: TaskRunner) -> None:
    async with looking(runner) as client:
        before = await runner.reports.mark()
        page = (await client.get("/", headers={"accept": "text/html"})).text
        found = re.search(r'hx-sse:connect="(/ops/changes\?since=([0-9-]+))"', page)
        assert found is not None
        assert found[2] == before
        job = await runner.enqueue(work)
        await job.result(timeout=30)
        # Somebody follows from that mark: the first that is told is the change.
        source: AsyncIterator[Change] = runner.reports.changes(found[2])
        assert (await anext(source)).mark != before
        await source.aclose()  # type: ignore[attr-defined]  # it is a generator


@pytest.mark.parametrize("since", ["x", "1%0Aevent:+done", "1" * 101])
async def test_a_mark_that_is_none_is_refused(runner: TaskRunner, since: str) -> None:
    async with looking(runner) as client:
        assert (await client.get(f"/changes?since={since}")).status_code == 422


async def test_what_fails_is_made_again_by_the_next() -> None:
    copies, calls = Copies(), 0

    async def make() -> Response:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ValueError("once")
        return Response("made", headers={"x-made": str(calls)})

    with pytest.raises(ValueError, match="once"):
        await copies.get("1", "page", make)
    found = [await copies.get("1", "page", make) for _ in range(2)]
    assert [each.body for each in found] == [b"made", b"made"]
    assert found[0] is not found[1]
    assert calls == 2


async def test_who_goes_away_takes_no_page_from_others() -> None:
    copies, go_on = Copies(), asyncio.Event()

    async def make() -> Response:
        await go_on.wait()
        return Response("made")

    first = asyncio.create_task(copies.get("1", "page", make))
    second = asyncio.create_task(copies.get("1", "page", make))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    go_on.set()
    assert (await second).body == b"made"
