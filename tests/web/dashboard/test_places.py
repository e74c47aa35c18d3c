"""Wherever the dashboard is put in an app, its links lead back to it.

What lives here: prefixes, mounts, proxies, two runners in one app. What does not: the pages'
content. Run by pytest.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI

from embedded_tasks import TaskRunner, admin
from tests.web.dashboard.shop import purge
from tests.web.dashboard.site import app_with, everybody, new_runner

pytestmark = pytest.mark.anyio

LINK = re.compile(r'(?:href|src|action|hx-sse:connect|data-words|data-complete)="([^"#]+)"')
HTML = {"accept": "text/html"}
PAGES = ("/", "/jobs", "/errors", "/queues", "/tasks", "/durability", "/audit")


@asynccontextmanager
async def visited(
    app: Any, *runners: TaskRunner, root: str = ""
) -> AsyncIterator[httpx.AsyncClient]:
    async with AsyncExitStack() as stack:
        for runner in runners:
            await stack.enter_async_context(runner.open(run_jobs=True))
        transport = httpx.ASGITransport(app=app, root_path=root)
        client = httpx.AsyncClient(transport=transport, base_url="http://test", headers=HTML)
        yield await stack.enter_async_context(client)


async def links_of(client: httpx.AsyncClient, below: str) -> set[str]:
    found: set[str] = set()
    for page in PAGES:
        answer = await client.get(f"{below}{page}")
        assert answer.status_code == 200, page
        found |= set(LINK.findall(answer.text))
    return {each for each in found if not each.startswith("data:")}


async def work(client: httpx.AsyncClient, links: set[str], prefix: str) -> None:
    """Every link lies below the prefix and is there."""
    assert len(links) > 15
    for link in links:
        assert link.startswith(prefix), link
        # Streams do not end.
        if link.partition("?")[0].rpartition("/")[2] not in ("events", "changes"):
            answer = await client.get(link.replace("&amp;", "&"))
            assert answer.status_code in (200, 405, 422), link


@pytest.mark.parametrize("prefix", ["/admin/tasks", "/a/b", ""])
async def test_below_any_prefix(tmp_path: Path, prefix: str) -> None:
    runner = new_runner(tmp_path)
    async with visited(app_with(runner, prefix), runner) as client:
        await runner.enqueue(purge, "/x")
        await work(client, await links_of(client, prefix), f"{prefix}/")


async def test_in_a_mounted_app(tmp_path: Path) -> None:
    runner = new_runner(tmp_path)
    app = FastAPI()
    app.mount("/inner", app_with(runner, "/ops"))
    async with visited(app, runner) as client:
        await work(client, await links_of(client, "/inner/ops"), "/inner/ops/")


async def test_behind_a_proxy_that_strips_its_prefix(tmp_path: Path) -> None:
    runner = new_runner(tmp_path)
    app = app_with(runner, "/ops")
    # As a server with --root-path gives it: the path has the prefix again.
    async with visited(app, runner, root="/proxy") as client:
        await work(client, await links_of(client, "/proxy/ops"), "/proxy/ops/")


async def test_two_runners_in_one_app(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    one, two = new_runner(tmp_path / "1"), new_runner(tmp_path / "2")
    app = FastAPI()
    guards = [Depends(everybody)]
    app.include_router(admin.router(one, dependencies=guards), prefix="/one")
    app.include_router(admin.router(two, dependencies=guards, name="mail"), prefix="/two")
    async with visited(app, one, two) as client:
        job = await two.enqueue(purge, "/second")
        await work(client, await links_of(client, "/one"), "/one/")
        await work(client, await links_of(client, "/two"), "/two/")
        assert (await client.get(f"/two/jobs/{job.id}")).status_code == 200
        assert (await client.get(f"/one/jobs/{job.id}")).status_code == 404
