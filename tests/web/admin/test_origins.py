"""Other sites' pages cannot use an operator's cookies.

What lives here: Sec-Fetch-Site, Origin and Host. What does not: whom the dependencies refuse
(`test_access.py`). Run by pytest.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import Depends
from starlette.datastructures import Headers

from embedded_tasks import admin
from embedded_tasks.admin.origins import origins_of, refusal_of
from embedded_tasks.errors import ConfigurationError
from embedded_tasks.job import ShownState
from tests.support.jobs import job_id, new_job
from tests.web.admin.status_app import (
    StillRunner,
    only_operators,
    operating,
    paths_of,
    problem_of,
    status_app,
)

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin", "origin": "https://proxied", "host": "inside:8000"},
        {"origin": "http://test", "host": "test"},
        {"origin": "https://test", "host": "test"},
        {"origin": "https://test", "host": "test:443"},
        {"origin": "http://test:8000", "host": "TEST:8000"},
        {"origin": "http://[::1]:8000", "host": "[::1]:8000"},
    ],
)
def test_the_apps_own_pages_and_clients_that_are_no_browser_may_change_jobs(
    headers: dict[str, str],
) -> None:
    assert refusal_of(Headers(headers)) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": ""},
        {"sec-fetch-site": "cross-site", "origin": "http://test", "host": "test"},
        {"origin": "null", "host": "test"},
        {"origin": "http://evil", "host": "test"},
        {"origin": "http://test.evil", "host": "test"},
        {"origin": "http://test:8000", "host": "test"},
        {"origin": "http://test", "host": "test:8000"},
        {"origin": "http://test@evil", "host": "evil"},
        {"origin": "http://test:x", "host": "test"},
        {"origin": "http://[", "host": "["},
        {"origin": "file://", "host": ""},
        {"origin": "test", "host": "test"},
        {"origin": "http://test"},
        {"origin": "", "host": ""},
    ],
)
async def test_pages_of_other_sites_may_not(
    client: httpx.AsyncClient, runner: StillRunner, headers: dict[str, str]
) -> None:
    assert refusal_of(Headers(headers)) is not None
    await runner.store.insert([new_job(1)])
    router = admin.router(runner, dependencies=[Depends(only_operators)])
    changes = [(method, path) for method, path in paths_of(router) if method != "GET"]
    assert len(changes) >= 8
    for method, path in changes:
        answer = await client.request(
            method, f"http://test/ops{path}", headers={"host": "", **headers}
        )
        problem_of(answer, 403, "cross_site")
    assert (await runner.get(job_id(1))).state is ShownState.QUEUED


def test_a_header_that_comes_twice_is_believed_only_where_both_agree() -> None:
    own, other = (b"sec-fetch-site", b"same-origin"), (b"sec-fetch-site", b"cross-site")
    origins = [(b"origin", b"http://test"), (b"origin", b"http://evil"), (b"host", b"test")]
    assert refusal_of(Headers(raw=[own, other])) is not None
    assert refusal_of(Headers(raw=origins)) is not None


async def test_reading_from_another_site_is_left_to_the_browser(client: httpx.AsyncClient) -> None:
    answer = await client.get("/jobs", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_front_end_may_where_it_is_named(site: str) -> None:
    runner = StillRunner()
    app = status_app(runner, allowed_origins=["https://ops.example.com"])
    async with operating(app) as client:
        await runner.store.insert([new_job(1)])
        sent = {"sec-fetch-site": site, "origin": "https://ops.example.com"}
        other = {"sec-fetch-site": site, "origin": "https://ops.example.com.evil"}
        path = f"/jobs/{job_id(1)}/cancel"
        problem_of(await client.post(path, headers=other), 403, "cross_site")
        assert (await client.post(path, headers=sent)).status_code == 202


@pytest.mark.parametrize(
    "given",
    [
        "https://ops.example.com",
        ["ops.example.com"],
        ["https://ops.example.com/"],
        ["https://Ops.example.com"],
        ["https://ops.example.com:443"],
        ["https://ann@ops.example.com"],
        ["*"],
        ["null"],
        [None],
    ],
)
def test_what_is_no_origin_is_refused_when_the_router_is_made(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="allowed_origins"):
        origins_of(given)
