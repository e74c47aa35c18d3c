"""What operators see of jobs, and what they can do with them.

What lives here: the answers of the status routes. What does not: whom they refuse and what they
say then (`test_admin_refusals.py`). Run by pytest.
"""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio import to_thread

from embedded_tasks import JobContext, JobFailedError, TaskRunner, task
from embedded_tasks.admin.cursors import cursor_of
from embedded_tasks.errors import JobCancelledError
from embedded_tasks.health import Health
from embedded_tasks.job import Failed, ShownState, Succeeded
from embedded_tasks.store import COUNT_CAP, Store
from tests.support.jobs import ME, NOW, job_id, new_job, running_job
from tests.support.stores import rows, write
from tests.web.admin.status_app import SOME_ERROR, StillRunner, end, fill, operating, status_app

pytestmark = pytest.mark.anyio

started = asyncio.Event()
began = threading.Event()
let_go = threading.Event()


async def send(email: str, token: str, *copies: str, headers: dict[str, str]) -> dict[str, str]:
    return {"sent": email, "session_id": token}


@task(max_attempts=1)
async def fail(ctx: JobContext, url: str) -> None:
    raise RuntimeError(f"cannot reach {url}")


async def wait_for_ever() -> None:
    started.set()
    await asyncio.Event().wait()


def wait_in_a_thread(ctx: JobContext) -> None:
    began.set()
    let_go.wait()
    ctx.check()


@pytest.fixture
def working(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskRunner:
    """A runner that attempts jobs of this module."""
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")
    return TaskRunner(tmp_path / "tasks.db", modules=["tests"])


async def get(client: httpx.AsyncClient, path: str, **query: Any) -> Any:
    answer = await client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def ids(client: httpx.AsyncClient, **query: Any) -> list[str]:
    return [item["id"] for item in (await get(client, "/jobs", **query))["items"]]


async def multiply(store: Store, state: str, times: int) -> None:
    """Store so many copies of the one job in a state."""
    columns = [row[1] for row in await rows(store, "PRAGMA table_info(jobs)")]
    others = ", ".join(name for name in columns if name not in ("seq", "id"))
    many = f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT {times})"
    one = f"(SELECT * FROM jobs WHERE state = '{state}' LIMIT 1)"
    await write(
        store,
        f"{many} INSERT INTO jobs (id, {others}) SELECT '{times}-' || n.i, {others} FROM n, {one}",
    )


async def test_jobs_are_listed_from_the_newest_without_their_arguments(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    await runner.store.insert([new_job(1, args='[1,["secret"],{}]')])
    await end(runner.store, 2, Failed("shop.SendError: no", SOME_ERROR), args='[1,["secret"],{}]')
    page = await get(client, "/jobs")
    assert [item["id"] for item in page["items"]] == [job_id(2), job_id(1)]
    assert page["next_cursor"] is None
    assert page["items"][0] == {
        "id": job_id(2),
        "task": "shop:send",
        "state": "failed",
        "queue": "default",
        "tags": [],
        "priority": 0,
        "attempt": 1,
        "created_at": "2027-01-15T08:00:00Z",
        "due_at": "2027-01-15T08:00:00Z",
        "started_at": "2027-01-15T08:00:00Z",
        "finished_at": "2027-01-15T08:00:01Z",
        "reason": "shop.SendError: no",
        "held_for": None,
        "cancel_requested": False,
        "request_id": None,
        "owner": None,
        "group": page["items"][0]["group"],
        "progress": None,
    }


async def test_each_shown_state_can_be_asked_for(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    states = await fill(runner.store)
    assert {state: await ids(client, state=state) for state in states} == states
    assert set(states) == {state.value for state in ShownState}
    everything = [each for group in states.values() for each in group]
    assert await ids(client) == sorted(everything, reverse=True)


async def test_filters_by_state_task_and_queue_join(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    variants = [("shop:send", "mail"), ("shop:send", "web"), ("shop:bill", "mail")]
    await runner.store.insert(
        [
            new_job(number * 2 + offset, task=name, queue=queue, due_at=NOW + offset * 60)
            for number, (name, queue) in enumerate(variants)
            for offset in (0, 1)
        ]
    )
    for number, (name, queue) in enumerate(variants, start=6):
        await end(runner.store, number, Succeeded("null"), task=name, queue=queue)
    assert await ids(client, task="shop:bill") == [job_id(each) for each in (8, 5, 4)]
    assert await ids(client, queue="web") == [job_id(each) for each in (7, 3, 2)]
    assert await ids(client, task="shop:send", queue="mail") == [job_id(each) for each in (6, 1, 0)]
    assert await ids(client, state="succeeded", queue="mail") == [job_id(each) for each in (8, 6)]
    assert await ids(client, state="scheduled", task="shop:send", queue="web") == [job_id(3)]
    assert await ids(client, state="failed", queue="mail") == []
    assert await ids(client, task="shop") == await ids(client, queue="nobody's") == []


@pytest.mark.parametrize("state", [None, "queued", "failed", "running", "succeeded"])
async def test_pages_give_every_job_once_while_others_come(
    client: httpx.AsyncClient, runner: StillRunner, state: str | None
) -> None:
    async def store(number: int) -> None:
        if state == "running":
            await runner.store.insert([running_job(number)])
        elif state in (None, "queued"):
            await runner.store.insert([new_job(number)])
        else:
            outcome = Failed("no", None) if state == "failed" else Succeeded("null")
            await end(runner.store, number, outcome)

    for number in range(6):
        await store(number)
    query = {"limit": 2} | ({} if state is None else {"state": state})
    seen, cursors = [], []
    page = await get(client, "/jobs", **query)
    while True:
        seen += [item["id"] for item in page["items"]]
        cursors.append(page["next_cursor"])
        if page["next_cursor"] is None:
            break
        await store(100 + len(cursors))
        page = await get(client, "/jobs", cursor=page["next_cursor"], **query)
    assert seen == [job_id(number) for number in (5, 4, 3, 2, 1, 0)]
    assert len(cursors) == 3


async def test_all_of_one_job_is_shown_with_its_secrets_masked(working: TaskRunner) -> None:
    async with operating(status_app(working)) as client:
        job = await working.options(
            tags=["a"], timeout=timedelta(minutes=1), max_attempts=2
        ).enqueue(
            send, "a@b.c", "t0ken", "copy", headers={"Authorization": "Basic x", "Accept": "y"}
        )
        await job.result(timeout=30)
        shown = await get(client, f"/jobs/{job.id}")
    assert shown["arguments"] == [
        {"name": "email", "value": "a@b.c"},
        {"name": "token", "value": "***"},
        {"name": "*copies", "value": "copy"},
        {"name": "headers", "value": {"Authorization": "***", "Accept": "y"}},
    ]
    assert shown["arguments_note"] is None
    assert shown["result"] == {"sent": "a@b.c", "session_id": "***"}
    assert shown["options"] == {"max_attempts": 2, "timeout": 60.0}
    assert (shown["state"], shown["tags"], shown["on_crash"]) == ("succeeded", ["a"], "retry")
    [attempt] = shown["attempts"]
    assert (attempt["number"], attempt["outcome"], attempt["error"]) == (1, "succeeded", None)
    assert attempt["seconds"] >= 0
    assert attempt["ended_at"] == shown["finished_at"]
    assert "t0ken" not in str(shown)


async def test_a_failed_job_says_why_with_each_attempt(working: TaskRunner) -> None:
    async with operating(status_app(working)) as client:
        job = await working.enqueue(fail, "https://x/y?token=t0ken")
        with pytest.raises(JobFailedError):
            await job.result(timeout=30)
        shown = await get(client, f"/jobs/{job.id}")
        attempts = await get(client, f"/jobs/{job.id}/attempts")
    assert shown["arguments"] == [{"name": "url", "value": "https://x/y?token=***"}]
    assert shown["reason"] == "RuntimeError: cannot reach https://x/y?token=***"
    assert shown["attempts"] == attempts
    [attempt] = attempts
    assert attempt["error"]["type"] == "RuntimeError"
    assert attempt["error"]["message"] == "cannot reach https://x/y?token=***"
    assert "in fail" in attempt["error"]["traceback"]
    assert "t0ken" not in str(shown)


async def test_a_job_without_its_code_is_shown_as_far_as_is_safe(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    args = '[1,["a@b.c",{"$":"model","c":"gone:User","v":{"name":"Ann"},"set":[]}],{"n":1}]'
    await runner.store.insert([new_job(1, task="gone:send", args=args, request_id="r-1")])
    shown = await get(client, f"/jobs/{job_id(1)}")
    assert [each["value"] for each in shown["arguments"]] == ["***", "***", 1]
    assert "a name tells what is a secret" in shown["arguments_note"]
    assert shown["request_id"] == "r-1"


@pytest.mark.parametrize("text", ["no json", '[1,"' + "x" * 1_100_000 + '"]'])
async def test_what_cannot_be_shown_hides_nothing_else(
    client: httpx.AsyncClient, runner: StillRunner, text: str
) -> None:
    late = NOW + 100 * 365 * 86400.0
    await end(runner.store, 1, Succeeded(text), args=text, options="{", finish_by=late * 99)
    shown = await get(client, f"/jobs/{job_id(1)}")
    assert shown["arguments"] is shown["result"] is None
    assert shown["arguments_note"]
    assert shown["result_note"]
    assert shown["options"] == {}
    assert shown["finish_by"].startswith("9999-12-31")
    assert shown["state"] == "succeeded"


async def test_a_result_that_was_not_kept_says_why(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    await end(runner.store, 1, Succeeded(None, "It is a socket."))
    shown = await get(client, f"/jobs/{job_id(1)}")
    assert (shown["result"], shown["result_note"]) == (None, "It is a socket.")


async def test_counts_tell_every_state_and_where_they_stop(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    states = await fill(runner.store)
    counted = (await get(client, "/stats"))["states"]
    assert {state: each["count"] for state, each in counted.items()} == {
        state: len(found) for state, found in states.items()
    }
    assert not any(each["capped"] for each in counted.values())


@pytest.mark.parametrize("state", ["succeeded", "failed", "queued"])
async def test_counting_stops_at_its_cap(
    client: httpx.AsyncClient, runner: StillRunner, state: str
) -> None:
    await end(runner.store, 1, Succeeded("null"))
    await end(runner.store, 2, Failed("no", SOME_ERROR))
    await runner.store.insert([new_job(3)])
    await multiply(runner.store, state, COUNT_CAP)
    counted = (await get(client, "/stats"))["states"]
    assert counted.pop(state) == {"count": COUNT_CAP, "capped": True}
    expected = {each: 1 for each in ("succeeded", "failed", "queued") if each != state}
    assert {each: count["count"] for each, count in counted.items() if count["count"]} == expected


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired", "held"])
async def test_retry_queues_a_finished_or_held_job_again(
    client: httpx.AsyncClient, runner: StillRunner, state: str
) -> None:
    [wanted] = (await fill(runner.store))[state]
    answer = await client.post(f"/jobs/{wanted}/retry")
    assert answer.status_code == 202
    assert (answer.json()["id"], answer.json()["state"]) == (wanted, "retrying")
    job = httpx.URL(str(answer.url)).join(answer.headers["Location"])
    assert (await client.get(job)).json()["reason"] is None
    assert (await runner.get(wanted)).state is ShownState.RETRYING


@pytest.mark.parametrize("state", ["scheduled", "retrying", "queued", "running"])
async def test_retry_of_what_is_under_way_is_refused_with_its_state(
    client: httpx.AsyncClient, runner: StillRunner, state: str
) -> None:
    wanted = (await fill(runner.store))[state][0]
    answer = await client.post(f"/jobs/{wanted}/retry")
    assert answer.status_code == 409
    assert answer.json()["state"] == state
    assert answer.json()["code"] == "wrong_state"
    assert state in answer.json()["detail"]


@pytest.mark.parametrize("state", ["scheduled", "retrying", "queued", "held"])
async def test_a_job_that_does_not_run_is_cancelled_at_once(
    client: httpx.AsyncClient, runner: StillRunner, state: str
) -> None:
    wanted = (await fill(runner.store))[state][0]
    answer = await client.post(f"/jobs/{wanted}/cancel")
    assert answer.status_code == 202
    assert answer.json() == {
        "id": wanted,
        "answer": "cancelled",
        "detail": "It was not running, and will not run.",
        "state": "cancelled",
    }
    assert (await runner.get(wanted)).reason == "It was cancelled by an operator."


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired"])
async def test_cancelling_a_finished_job_is_refused_with_its_state(
    client: httpx.AsyncClient, runner: StillRunner, state: str
) -> None:
    [wanted] = (await fill(runner.store))[state]
    answer = await client.post(f"/jobs/{wanted}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (409, state)


async def test_a_running_async_function_is_stopped(working: TaskRunner) -> None:
    started.clear()
    async with operating(status_app(working)) as client:
        job = await working.enqueue(wait_for_ever)
        await started.wait()
        assert await ids(client, state="running") == [job.id]
        answer = (await client.post(f"/jobs/{job.id}/cancel")).json()
        assert answer["answer"] == "stopping"
        with pytest.raises(JobCancelledError, match="by an operator"):
            await job.result(timeout=30)


async def test_a_running_sync_function_is_told_and_the_answer_says_so(working: TaskRunner) -> None:
    began.clear()
    let_go.clear()
    async with operating(status_app(working)) as client:
        job = await working.enqueue(wait_in_a_thread)
        await to_thread.run_sync(began.wait)
        answer = (await client.post(f"/jobs/{job.id}/cancel")).json()
        assert answer["answer"] == "told"
        assert "sync" in answer["detail"]
        let_go.set()
        with pytest.raises(JobCancelledError, match="by an operator"):
            await job.result(timeout=30)


async def test_a_healthy_runner_says_so(client: httpx.AsyncClient, runner: StillRunner) -> None:
    shown = await get(client, "/health")
    assert (shown["ok"], shown["problems"], shown["running"]) == (True, [], 0)
    assert shown["process"] == runner._running("test").process_id


async def test_what_is_wrong_is_said_in_words(
    client: httpx.AsyncClient, runner: StillRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def health() -> Health:
        return Health(False, ["The disk is full.", "Free some."], ME, 0, {}, 0, [])

    monkeypatch.setattr(runner, "health", health)
    answer = await client.get("/health")
    assert answer.status_code == 503
    assert answer.json()["problems"] == ["The disk is full.", "Free some."]
    assert answer.json()["detail"] == "The disk is full. Free some."
    assert answer.json()["code"] == "unhealthy"


async def test_a_page_of_a_rare_state_does_not_walk_over_the_others(
    client: httpx.AsyncClient, runner: StillRunner
) -> None:
    async def steps() -> int:
        """Ask for pages and counts; return how many hundreds of steps SQLite took."""
        taken = 0

        def step() -> int:
            nonlocal taken
            taken += 1
            return 0

        connection = runner.store.read._connection
        await connection.run(lambda plain: plain.set_progress_handler(step, 100))
        for state in ("failed", "held", "running", "queued", "retrying"):
            await ids(client, state=state)
        await ids(client, cursor=cursor_of(50))
        await get(client, "/stats")
        await connection.run(lambda plain: plain.set_progress_handler(None, 100))
        return taken

    await fill(runner.store)
    await multiply(runner.store, "succeeded", 200)
    before = await steps()
    await multiply(runner.store, "succeeded", 20_000)
    # Ten thousand are counted, and ten thousand looked at for what waits; not all, for each page.
    assert await steps() - before < 3_000
