"""What operators do: to one job, to many, to queues; and that it is written down.

What lives here: actions and their guards. What does not: retry and cancel by state
(`test_jobs.py`). Run by pytest.
"""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request

from embedded_tasks.job import Failed, ShownState
from tests.support.jobs import NOW, job_id, new_job
from tests.web.admin.status_app import (
    SOME_ERROR,
    StillRunner,
    end,
    fill,
    operating,
    problem_of,
    status_app,
)

pytestmark = pytest.mark.anyio


def name_of(request: Request) -> str:
    return request.headers.get("x-name", "nobody")


@pytest.fixture
def app(runner: StillRunner) -> FastAPI:
    return status_app(runner, who=name_of)


async def done(client: httpx.AsyncClient, path: str, status: int = 202, **sent: Any) -> Any:
    answer = await client.post(path, **sent)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize("state", ["scheduled", "retrying"])
async def test_what_waits_for_its_time_is_made_due(
    client: httpx.AsyncClient, runner: StillRunner, state: str
) -> None:
    wanted = (await fill(runner.store))[state][-1]
    answer = await client.post(f"/jobs/{wanted}/run-now")
    assert answer.status_code == 202
    assert answer.json()["due_at"] == "2027-01-15T08:00:00Z"
    assert answer.headers["location"] == f"../{wanted}"


@pytest.mark.parametrize("state", ["running", "succeeded", "failed", "held", "queued"])
async def test_what_does_not_wait_for_its_time_cannot_be_run_now(
    client: httpx.AsyncClient, runner: StillRunner, state: str
) -> None:
    wanted = (await fill(runner.store))[state][0]
    body = problem_of(await client.post(f"/jobs/{wanted}/run-now"), 409, "wrong_state")
    assert body["state"] == state


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired", "held"])
async def test_a_job_that_is_over_is_deleted(
    client: httpx.AsyncClient, runner: StillRunner, state: str
) -> None:
    wanted = (await fill(runner.store))[state][0]
    answer = await client.delete(f"/jobs/{wanted}")
    assert (answer.status_code, answer.content) == (204, b"")
    problem_of(await client.get(f"/jobs/{wanted}"), 404, "job_not_found")


@pytest.mark.parametrize("state", ["queued", "scheduled", "retrying", "running"])
async def test_a_job_that_is_not_over_is_not_deleted(
    client: httpx.AsyncClient, runner: StillRunner, state: str
) -> None:
    wanted = (await fill(runner.store))[state][0]
    body = problem_of(await client.delete(f"/jobs/{wanted}"), 409, "wrong_state")
    assert body["state"] == state
    assert (await client.get(f"/jobs/{wanted}")).status_code == 200


async def test_a_job_that_was_read_needs_not_be_read_again(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    await runner.store.insert([new_job(1)])
    first = await client.get(f"/jobs/{job_id(1)}")
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await client.get(f"/jobs/{job_id(1)}", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    other = await client.get(f"/jobs/{job_id(1)}", headers={"if-none-match": '"other"'})
    assert other.status_code == 200
    await runner.cancel(job_id(1))
    changed = await client.get(f"/jobs/{job_id(1)}", headers={"if-none-match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/retry"), ("POST", "/cancel"), ("POST", "/run-now"), ("DELETE", "")],
)
async def test_a_job_that_has_changed_since_it_was_read_is_left_alone(
    client: httpx.AsyncClient, runner: StillRunner, method: str, path: str
) -> None:
    await runner.store.insert([new_job(1, due_at=NOW + 60)])
    place = f"/jobs/{job_id(1)}"
    old = (await client.get(place)).headers["etag"]
    await runner.cancel(job_id(1))
    new = (await client.get(place)).headers["etag"]
    refused = await client.request(method, place + path, headers={"if-match": old})
    body = problem_of(refused, 412, "changed")
    assert (body["state"], refused.headers["etag"]) == ("cancelled", new)
    assert (await runner.get(job_id(1))).state is ShownState.CANCELLED
    answer = await client.request(method, place + path, headers={"if-match": f'"x", {new}'})
    assert answer.status_code in (202, 204, 409)


async def test_a_bulk_action_says_first_how_many_it_would_be(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    for number in range(3):
        await end(runner.store, number, Failed("no", SOME_ERROR), queue="mail")
    await end(runner.store, 3, Failed("no", SOME_ERROR), queue="web")
    chosen = {"action": "retry", "filter": {"state": ["failed"], "queue": "mail"}}
    said = await done(client, "/jobs/bulk", 200, json={**chosen, "dry_run": True})
    counts = {"matched": 3, "changed": 0, "capped": False, "dry_run": True}
    assert said == {**counts, "note": None}
    assert (await runner.get(job_id(0))).state is ShownState.FAILED
    said = await done(client, "/jobs/bulk", 200, json={**chosen, "cap": 2})
    counts = {"matched": 2, "changed": 2, "capped": True, "dry_run": False}
    assert said == {**counts, "note": None}
    said = await done(client, "/jobs/bulk", 200, json=chosen)
    assert (said["matched"], said["changed"], said["capped"]) == (1, 1, False)
    assert (await runner.get(job_id(3))).state is ShownState.FAILED


@pytest.mark.parametrize(
    ("action", "means"),
    [
        ("retry", "failed, cancelled, expired and held"),
        ("cancel", "scheduled, retrying, queued, running and held"),
        ("run_now", "scheduled and retrying"),
        ("delete", "succeeded, failed, cancelled, expired and held"),
    ],
)
async def test_a_bulk_action_without_a_filter_says_so_and_what_it_means(
    client: httpx.AsyncClient, runner: StillRunner, action: str, means: str
) -> None:
    states = await fill(runner.store)
    path, asked = "/jobs/bulk", {"action": action}
    if action == "delete":
        path, asked = "/jobs/bulk/delete", {}
    nothing: list[dict[str, object]] = [{}, {"state": []}, {"queue": None}]
    for empty in nothing:
        sent = {**asked, "filter": empty, "dry_run": True}
        said = await done(client, path, 200, json=sent)
        assert said["note"] == f"No filter is set: this means every {means} job."
        named = re.findall(r"[a-z]+", means.replace(" and ", " "))
        assert said["matched"] == sum(len(states[state]) for state in named)
    for chosen in ({"filter": {"queue": "mail"}}, {"ids": [job_id(1)]}):
        said = await done(client, path, 200, json={**asked, **chosen, "dry_run": True})
        assert said["note"] is None


async def test_a_bulk_action_takes_ids_and_leaves_alone_what_it_does_not_fit(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    states = await fill(runner.store)
    ids = [states["failed"][0], states["queued"][0], job_id(99)]
    said = await done(client, "/jobs/bulk", 200, json={"action": "retry", "ids": ids})
    assert (said["matched"], said["changed"]) == (1, 1)
    said = await done(client, "/jobs/bulk/delete", 200, json={"ids": [states["expired"][0]]})
    assert said["changed"] == 1
    problem_of(await client.get(f"/jobs/{states['expired'][0]}"), 404, "job_not_found")


async def test_a_bulk_action_by_argument_finds_no_secret(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    args = '[1,[],{"to":"ann@x.org","token":"t0psecret"}]'
    await end(runner.store, 1, Failed("no", SOME_ERROR), args=args)
    for text, found in (("ann@x", 1), ("ANN@X", 1), ("t0ps", 0), ("t0psecret", 0)):
        for name in ("argument", "text"):
            sent = {"action": "retry", "filter": {name: text}, "dry_run": True}
            said = await done(client, "/jobs/bulk", 200, json=sent)
            assert said["matched"] == found, text
            page = (await client.get("/jobs", params={name: text, "total": True})).json()
            assert (len(page["items"]), page["total"]) == (found, None)
            written = (await client.get("/jobs/export", params={name: text})).text
            assert len(written.splitlines()) == found


BAD_BODIES = [
    (b"", 422),
    (b"null", 422),
    (b"[]", 422),
    (b"{", 422),
    (b"\xff", 422),
    (b'{"action": "retry"}', 422),
    (b'{"action": "retry", "filter": {}, "ids": []}', 422),
    (b'{"action": "delete", "filter": {}}', 422),
    (b'{"action": "explode", "filter": {}}', 422),
    (b'{"action": "retry", "filter": {"sate": ["failed"]}}', 422),
    (b'{"action": "retry", "filter": {"state": ["dead"]}}', 422),
    (b'{"action": "retry", "filter": {"task": "a\\u0000"}}', 422),
    (b'{"action": "retry", "filter": {"task": "\\ud800"}}', 422),
    (b'{"action": "retry", "filter": {}, "cap": 1e20}', 422),
    (b'{"action": "retry", "filter": {}, "cap": true}', 422),
    (b'{"action": "retry", "filter": {}, "cap": NaN}', 422),
    (b'{"action": "retry", "filter": {}, "cap": 1' + b"0" * 5000 + b"}", 422),
    (b'{"action": "retry", "filter": {"created_after": 1e20}}', 422),
    (b'{"action": "retry", "ids": ["x"]}', 422),
    (b'{"action": "retry", "filter": {"error": "' + b"x" * 1_000_000 + b'"}}', 422),
    (b"[" * 100_000, 422),
    (b" " * 3_000_000, 413),
]


@pytest.mark.parametrize(("body", "status"), BAD_BODIES, ids=range(len(BAD_BODIES)))
async def test_odd_bodies_are_refused_and_not_repeated(
    client: httpx.AsyncClient, body: bytes, status: int
) -> None:
    answer = await client.post(
        "/jobs/bulk", content=body, headers={"content-type": "application/json"}
    )
    problem_of(answer, status, "invalid_input" if status == 422 else "http_error")
    assert len(answer.content) < 3_000


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_form_of_another_page_cannot_send_a_body(
    client: httpx.AsyncClient, kind: str
) -> None:
    body = b'{"action": "cancel", "filter": {}}'
    answer = await client.post("/jobs/bulk", content=body, headers={"content-type": kind})
    problem_of(answer, 415, "http_error")


async def queue_of(client: httpx.AsyncClient, name: str) -> Any:
    items = (await client.get("/queues")).json()["items"]
    return next(each for each in items if each["name"] == name)


async def test_a_queue_is_paused_and_resumed(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    await runner.store.insert([new_job(1, queue="mail")])
    sent = {"x-name": "ada"}
    said = await done(client, "/queues/mail/pause", 200, headers=sent)
    assert said == {"queue": "mail", "paused": True, "changed": True}
    assert (await done(client, "/queues/mail/pause", 200))["changed"] is False
    queue = await queue_of(client, "mail")
    assert (queue["paused"], queue["paused_by"]) == (True, "ada")
    assert queue["waiting"] == {"count": 1, "capped": False}
    said = await done(client, "/queues/mail/resume", 200)
    assert said == {"queue": "mail", "paused": False, "changed": True}
    assert not (await queue_of(client, "mail"))["paused"]


async def test_a_queue_is_paused_before_its_first_job(client: httpx.AsyncClient) -> None:
    assert not (await queue_of(client, "default"))["paused"]
    await done(client, "/queues/default/pause", 200)
    assert (await queue_of(client, "default"))["paused"]


async def test_a_queue_may_have_any_name_that_a_queue_can_have(client: httpx.AsyncClient) -> None:
    for name in ("a/b", "ümläut", "a b", "pause", "x" * 200):
        said = await done(client, f"/queues/{name}/pause", 200)
        assert said["queue"] == name
    for name in ("%C2%85", "%E2%80%A8"):
        answer = await client.post(f"/queues/{name}/pause")
        problem_of(answer, 404, "http_error")
    for name in ("%00", "%1B", "x" * 201):
        problem_of(await client.post(f"/queues/{name}/pause"), 422, "invalid_input")


async def test_who_did_what_is_written_down(client: httpx.AsyncClient, runner: StillRunner) -> None:
    states = await fill(runner.store)
    ada, bob = {"x-name": "ada"}, {"x-name": "b\x7fob" + "!" * 500}
    await client.post(f"/jobs/{states['failed'][0]}/retry", headers=ada)
    await client.post(f"/jobs/{states['held'][0]}/cancel", headers=ada)
    await client.post(f"/jobs/{states['scheduled'][0]}/run-now", headers=ada)
    await client.delete(f"/jobs/{states['expired'][0]}", headers=ada)
    await client.post("/queues/mail/pause", headers=bob)
    body = {"action": "cancel", "filter": {"state": ["queued"]}}
    await client.post("/jobs/bulk", json=body, headers=ada)
    await client.post("/jobs/bulk", json={**body, "dry_run": True}, headers=ada)
    await client.post(f"/jobs/{states['running'][0]}/retry", headers=ada)
    seen: list[Any] = []
    cursor: dict[str, Any] = {}
    while True:
        page = (await client.get("/audit", params={"limit": 2, **cursor})).json()
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert [each["action"] for each in seen] == [
        "bulk cancel", "pause", "delete", "run_now", "cancel", "retry",
    ]  # fmt: skip
    assert {each["by"] for each in seen} == {"ada", "b ob" + "!" * 196}
    assert seen[-1]["target"] == states["failed"][0]
    assert seen[0]["details"]["changed"] == len(states["queued"]) + 1


async def test_whoever_asks_is_their_address_where_nobody_says_more(runner: StillRunner) -> None:
    async with operating(status_app(runner)) as client:
        await client.post("/queues/mail/pause")
        [entry] = (await client.get("/audit")).json()["items"]
    assert entry["by"] == "127.0.0.1"
