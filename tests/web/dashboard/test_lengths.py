"""A text as long as a book leaves a page that can be read.

What lives here: long errors and reasons, on the pages that tell them. What does not: how pages
look (`test_quality.py`). Run by pytest.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from embedded_tasks.job import AttemptError, Failed, Held, Outcome, Snoozed
from tests.support.jobs import job_id
from tests.web.admin.status_app import StillRunner, end
from tests.web.dashboard.site import app_with

pytestmark = pytest.mark.anyio

LONG = "".join(f"<b>line {line}</b> & so on, " for line in range(4_000))
SHOWN = LONG.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
LAST = "line 3999"


@pytest.fixture
def runner() -> StillRunner:
    return StillRunner()


@pytest.fixture
async def client(runner: StillRunner) -> AsyncIterator[httpx.AsyncClient]:
    app = app_with(runner, "/ops")
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://test/ops") as client,
    ):
        yield client


def lead_of(page: str) -> str:
    (lead,) = re.findall(r'<p class="lead[^"]*">(.*?)</p>', page, re.DOTALL)
    return str(lead)


async def test_a_long_error_is_told_whole_once_and_begun_where_it_is_told_again(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    assert len(LONG) > 100_000
    failed = Failed(f"ValueError: {LONG}. Its group waits.", AttemptError("ValueError", LONG))
    await end(runner.store, 1, failed)
    page = (await client.get(f"/jobs/{job_id(1)}")).text
    assert page.count(LAST) == 1
    assert "<b>" not in page
    told = re.findall(r'<div class="message" tabindex="0"[^>]*>(.*?)</div>', page, re.DOTALL)
    assert told == [f"<strong>ValueError</strong>: {SHOWN}"]
    lead = lead_of(page)
    assert lead.startswith("ValueError: &lt;b&gt;line 0&lt;/b&gt; &amp; so on,")
    assert lead.endswith("…. Its group waits.")
    assert len(lead) < 1_000


@pytest.mark.parametrize("outcome", [Snoozed(60, LONG), Held(LONG, "arguments")])
async def test_a_long_reason_that_no_attempt_tells_is_told_whole_in_a_box(
    client: httpx.AsyncClient, runner: StillRunner, outcome: Outcome
) -> None:
    await end(runner.store, 1, outcome)
    page = (await client.get(f"/jobs/{job_id(1)}")).text
    assert page.count(LAST) == 1
    assert "<b>" not in page
    assert lead_of(page).endswith("…")
    assert len(lead_of(page)) < 1_000
    box = page[page.index('<details id="whole-reason">') :]
    assert SHOWN in box[: box.index("</details>")]
    for path in ("/", "/jobs"):
        assert LAST not in (await client.get(path)).text, path


async def test_a_short_error_is_told_as_it_is(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    await end(runner.store, 1, Failed("ValueError: no", AttemptError("ValueError", "no")))
    page = (await client.get(f"/jobs/{job_id(1)}")).text
    assert lead_of(page) == "ValueError: no"
    assert '<div class="message"><strong>ValueError</strong>: no</div>' in page
    assert "whole-reason" not in page
