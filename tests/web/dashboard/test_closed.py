"""Nobody sees or presses what is not theirs, and no page tells a secret.

What lives here: consent, roles, other sites, errors as pages, and odd input. What does not: what a
browser makes of it. Run by pytest.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Request

from embedded_tasks import TaskRunner, admin
from embedded_tasks.admin.dashboard.pages import PageRoute
from embedded_tasks.job import AttemptError, Crashed, JobState, ShownState
from tests.support.jobs import job_id
from tests.web.admin.status_app import StillRunner, all_routes, end
from tests.web.dashboard.shop import GO, purge
from tests.web.dashboard.site import KEY, app_with, fill, new_runner

pytestmark = pytest.mark.anyio

HTML = {"accept": "text/html"}
ROLES = ("read", "operate", "admin")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def role(name: str) -> Any:
    def ask(request: Request) -> None:
        if name not in request.headers.get("x-roles", "").split():
            raise HTTPException(403, f"You are no {name}.")

    return Depends(ask)


@pytest.fixture
def runner(tmp_path: Path) -> TaskRunner:
    GO.set()
    return new_runner(tmp_path)


@pytest.fixture
async def client(runner: TaskRunner) -> AsyncIterator[httpx.AsyncClient]:
    guards: Any = {name: [role(name)] for name in ROLES}
    app = app_with(runner, "/ops", **guards)
    async with app.router.lifespan_context(app), client_of(app) as client:
        yield client


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://test/ops", headers=HTML)


def pages_of(runner: TaskRunner) -> list[tuple[str, str]]:
    router = admin.router(runner, dependencies=[role("read")])
    return [
        (method, re.sub(r"{\w+}", "00000000-0000-0000-0000-000000000000", route.path))
        for route in all_routes(router)
        if isinstance(route, PageRoute)
        for method in route.methods or ()
    ]


async def test_every_page_asks_first(client: httpx.AsyncClient, runner: TaskRunner) -> None:
    pages = pages_of(runner)
    assert len(pages) >= 20
    for method, path in pages:
        answer = await client.request(method, path)
        assert answer.status_code == 403, path
        assert answer.headers["content-security-policy"] == POLICY
        assert "You are no read." in answer.text


async def test_pages_carry_what_browsers_need_to_keep_them_closed(
    client: httpx.AsyncClient,
) -> None:
    client.headers["x-roles"] = "read"
    answer = await client.get("/")
    assert answer.status_code == 200
    assert {name: answer.headers[name] for name in ("cache-control", "x-content-type-options")} == {
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["referrer-policy"] == "same-origin"
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! src=)", answer.text)


@pytest.mark.parametrize(
    ("roles", "buttons"),
    [
        ("read", set()),
        ("read operate", {"Retry"}),
        ("read operate admin", {"Retry", "Delete"}),
        ("read admin", set()),
    ],
)
async def test_buttons_are_shown_to_who_may_press_them(
    client: httpx.AsyncClient, runner: TaskRunner, roles: str, buttons: set[str]
) -> None:
    job = await runner.enqueue(purge, "/x")
    await runner.wait(job.id, 30)
    client.headers["x-roles"] = roles
    page = (await client.get(f"/jobs/{job.id}")).text
    main = page[page.index("<main") : page.index("</main>")]
    shown = set(re.findall(r'<button class="[^"]*">([^<]+)</button>', main))
    assert shown == buttons
    form = {"content-type": "application/x-www-form-urlencoded"}
    for action, needs in (("retry", "operate"), ("delete", "admin")):
        answer = await client.post(f"/jobs/{job.id}/{action}", headers=form, content="sure=no")
        may = needs in roles and "operate" in roles
        assert (answer.status_code == 403) is not may, action


async def test_what_succeeded_meanwhile_is_not_retried_by_a_button_of_before(
    client: httpx.AsyncClient, runner: TaskRunner
) -> None:
    client.headers["x-roles"] = "read operate admin"
    job = await runner.enqueue(purge, "/x")
    await runner.wait(job.id, 30)
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = await client.post(f"/jobs/{job.id}/retry", headers=form)
    assert answer.status_code == 422
    assert "would be done twice" in answer.text
    assert (await runner.get(job.id)).state is ShownState.SUCCEEDED
    answer = await client.post(f"/jobs/{job.id}/retry", headers=form, content="sure=yes")
    assert answer.status_code == 303


async def test_many_jobs_without_a_filter_are_said_to_be_all_of_them(
    client: httpx.AsyncClient,
) -> None:
    client.headers["x-roles"] = "read operate admin"
    for query in ("", "&q=", "&q=%20"):
        page = (await client.get(f"/jobs/bulk?action=retry&all=1{query}")).text
        assert "No filter is set: this means every failed, cancelled, expired and held job" in page
    for query in ("&q=state:failed", "&q=mail", f"&q={job_id(1)}"):
        page = (await client.get(f"/jobs/bulk?action=retry&all=1{query}")).text
        assert "No filter is set" not in page
        assert "All jobs that match" in page
    page = (await client.get(f"/jobs/bulk?action=retry&id={job_id(1)}")).text
    assert "No filter is set" not in page


async def test_checkpoints_are_said_to_be_whose_they_are(
    client: httpx.AsyncClient, runner: TaskRunner
) -> None:
    client.headers["x-roles"] = "read"
    page = re.sub(r"<[^>]+>", "", (await client.get("/durability")).text)
    assert "by another process, or before this one" in page
    assert "none was due since it started" in page


async def test_the_page_of_a_read_only_router_has_no_forms_that_change(
    runner: TaskRunner,
) -> None:
    app = app_with(runner, "/ops", read=[role("read")])
    async with app.router.lifespan_context(app), client_of(app) as client:
        client.headers["x-roles"] = "read"
        await fill(runner)
        for path in ("/", "/jobs", "/errors", "/queues"):
            page = await client.get(path)
            assert page.status_code == 200
            assert 'method="post"' not in page.text
            assert "bulk" not in page.text.replace('class="bulk"', "")


async def test_forms_of_other_sites_change_nothing(
    client: httpx.AsyncClient, runner: TaskRunner
) -> None:
    client.headers["x-roles"] = "read operate admin"
    job = await runner.options(delay=3600).enqueue(purge, "/x")
    evil = {"sec-fetch-site": "cross-site", "content-type": "application/x-www-form-urlencoded"}
    for method, path in pages_of(runner):
        if method == "POST":
            answer = await client.post(path, headers=evil, content="all=1&action=cancel")
            assert answer.status_code == 403
            assert "another origin" in answer.text
    assert (await runner.get(job.id)).state is ShownState.SCHEDULED


async def test_secrets_are_nowhere(client: httpx.AsyncClient, runner: TaskRunner) -> None:
    client.headers["x-roles"] = "read operate admin"
    ids = await fill(runner)
    places = ["/", "/jobs", "/jobs?q=declined", "/errors", "/tasks", "/audit", "/durability"]
    for path in (*places, *(f"/jobs/{id}" for id in ids.values())):
        page = (await client.get(path)).text
        assert KEY not in page, path
    assert "***" in (await client.get(f"/jobs/{ids['declined']}")).text
    found = (await client.get(f"/jobs?q=arg:{KEY}")).text
    assert "data-row" not in found


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/jobs/00000000-0000-0000-0000-000000000000", 404, "Retention may have removed it"),
        ("/jobs/nonsense", 404, "No job has this id"),
        ("/task?name=nobody", 404, "ever enqueued"),
        ("/jobs/bulk?action=explode&all=1", 422, "choose again"),
        ("/jobs/bulk?action=retry", 422, "No job is chosen"),
        ("/jobs/bulk?action=retry&all=1&q=state:x", 422, "There is no state"),
    ],
)
async def test_what_fails_says_what_to_do_next(
    client: httpx.AsyncClient, path: str, status: int, says: str
) -> None:
    client.headers["x-roles"] = "read operate admin"
    answer = await client.get(path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert says in answer.text
    assert 'href="/ops/"' in answer.text
    client.headers["accept"] = "*/*"
    again = await client.get(path)
    assert again.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/", "runner.enqueue"),
        ("/jobs", "runner.enqueue"),
        ("/jobs?q=state:failed", "No job"),
        ("/errors", "No attempt has failed"),
        ("/queues", "runner.options"),
        ("/tasks", "runner.enqueue"),
        ("/audit", "who=lambda"),
    ],
)
async def test_what_is_empty_says_how_it_is_filled(
    client: httpx.AsyncClient, path: str, says: str
) -> None:
    client.headers["x-roles"] = "read"
    page = (await client.get(path)).text
    main = page[page.index("<main") : page.index("</main>")]
    empty = main[main.index('class="empty"') :]
    assert says in re.sub(r"<[^>]+>", "", empty), empty


async def test_a_job_that_is_in_another_state_says_so(
    client: httpx.AsyncClient, runner: TaskRunner
) -> None:
    client.headers["x-roles"] = "read operate admin"
    job = await runner.options(delay=3600).enqueue(purge, "/x")
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = await client.post(f"/jobs/{job.id}/retry", headers=form)
    assert answer.status_code == 409
    assert "Look at it again" in answer.text


async def test_a_file_that_is_gone_is_told_of_on_every_page_until_it_is_back(
    client: httpx.AsyncClient, runner: TaskRunner, tmp_path: Path
) -> None:
    client.headers["x-roles"] = "read operate admin"
    job = await runner.options(delay=3600).enqueue(purge, "/x")
    file, away = tmp_path / "tasks.db", tmp_path / "away.db"
    pages = ("/", "/jobs", "/queues", "/errors", "/tasks", "/audit", f"/jobs/{job.id}")
    for path in pages:
        assert "moved away" not in (await client.get(path)).text, path
    file.rename(away)
    for path in pages:
        page = (await client.get(path)).text
        (told,) = re.findall(r'<ul class="problems"[^>]*>(.*?)</ul>', page, re.DOTALL)
        assert told.count(f"{file} was deleted or moved away while it was open.") == 1, path
    answer = await client.get("/durability")
    assert answer.status_code == 503
    assert "was deleted or moved away" in answer.text
    away.rename(file)
    for path in pages[1:]:
        assert "moved away" not in (await client.get(path)).text, path


ODD = [
    "\x00",
    "é" * 1000,
    "😀",
    "%FF",
    '"' * 50,
    "a:" * 500,
    "state:",
    "after:1e20",
    "after:9999999w",
]


@pytest.mark.parametrize("odd", ODD)
async def test_odd_words_are_no_error_of_ours(client: httpx.AsyncClient, odd: str) -> None:
    client.headers["x-roles"] = "read operate admin"
    asked: dict[str, str] = {"q": odd, "cursor": odd, "range": odd, "did": odd, "n": odd}
    for path in ("/", "/jobs", "/audit", "/errors", "/task", "/jobs/bulk"):
        given = {**asked, "name": odd, "task": odd, "action": "retry", "all": "1", "cap": odd}
        assert (await client.get(path, params=given)).status_code < 500, path
    form = {"content-type": "application/x-www-form-urlencoded"}
    answer = await client.post("/queues/pause", headers=form, content=b"queue=%00&queue=%ff")
    assert answer.status_code in (400, 422)


async def test_the_death_of_a_process_and_the_replay_are_marked() -> None:
    still = StillRunner()
    app = app_with(still, "/ops")
    error = AttemptError("ProcessDied", "The process was killed (signal 9).")
    async with app.router.lifespan_context(app), client_of(app) as client:
        await end(still.store, 1, Crashed(JobState.QUEUED, "Its process died.", error))
        page = (await client.get(f"/jobs/{job_id(1)}")).text
        marks = re.findall(r'<li class="([\w-]+)[^"]*"><span class="what">([\w ]+)', page)
        assert ("died", "process died ") in marks
        assert ("replayed", "replayed ") in marks
        assert marks.index(("died", "process died ")) < marks.index(("replayed", "replayed "))
        assert "signal 9" in page
