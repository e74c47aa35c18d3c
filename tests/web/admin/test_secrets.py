"""Secrets appear nowhere.

What lives here: one job whose secrets are in its arguments, result, error, log and progress, and
every route that tells of it. What does not: which names count (`test_admin_masking.py`). Run by
pytest.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from fastapi import Depends, Request
from pydantic import BaseModel, SecretStr
from structlog.testing import capture_logs

from embedded_tasks import Job, JobContext, JobFailedError, NotDurableError, TaskRunner, admin, task
from embedded_tasks.admin import Pace
from embedded_tasks.events import JobEvent
from tests.web.admin.status_app import (
    API,
    only_operators,
    operating,
    paths_of,
    status_app,
)

pytestmark = pytest.mark.anyio

SECRETS = ("hunter2-pw", "t0ken-abc", "iban-9911", "key-in-url", "basic-creds", "nested-pw")
SHORT = Pace(keep_alive=0.05, life=0.2)


@task(max_attempts=1)
async def leak(
    ctx: JobContext,
    password: str,
    headers: dict[str, str],
    account: dict[str, Any],
    iban_number: str,
    *,
    url: str,
) -> None:
    ctx.progress(1, 2, f"trying {password}")
    ctx.log(f"using {password} for {url}", api_key="t0ken-abc", note=f"with {iban_number}")
    nested = account["login"]["passphrase"]
    raise RuntimeError(
        f"refused: {password} {headers['Authorization']} {nested} {iban_number} {url}"
    )


@task
async def give(password: str) -> dict[str, str]:
    return {"said": f"your password is {password}", "token": "t0ken-abc"}


@task
def hint(token: str = "t0ken-abc") -> None: ...


async def caller(request: Request) -> str:
    return "ann"


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> TaskRunner:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")
    return TaskRunner("tasks.db", modules=["tests"])


async def everything(
    client: httpx.AsyncClient, failed: Job[Any], gave: Job[Any], runner: TaskRunner
) -> dict[str, str]:
    """What every route tells, by its path."""
    router = admin.router(runner, dependencies=[Depends(only_operators)])
    told: dict[str, str] = {}
    for job in (failed, gave):
        for method, path in paths_of(router, job.id):
            if method == "GET":
                url = f"http://test/ops{path}?metric=failures"
                answer = await client.get(url if "series" in path else url.partition("?")[0])
                told[f"{path} {job.task}"] = answer.text
        for end in ("", "/events"):
            told[f"mine{end} {job.task}"] = (
                await client.get(f"http://test/mine/{job.id}{end}")
            ).text
        after = {"last-event-id": "0-0-0"}
        told[f"events {job.task}"] = (await client.get("/events", headers=after)).text
    for form in ("csv", "ndjson"):
        told[form] = (await client.get("/jobs/export", params={"form": form})).text
    return told


async def test_no_route_tells_a_secret(runner: TaskRunner) -> None:
    app = status_app(runner, secrets=["iban"], pace=SHORT)
    users = admin.status_router(runner, caller=caller, reasons=True, pace=SHORT, secrets=["iban"])
    app.include_router(users, prefix="/mine")
    async with operating(app) as client:
        whose = runner.options(owner="ann")
        failed = await whose.enqueue(
            leak,
            "hunter2-pw",
            {"Authorization": "Basic basic-creds"},
            {"login": {"passphrase": "nested-pw"}},
            "iban-9911",
            url="https://bank?api_key=key-in-url&page=2",
        )
        with pytest.raises(JobFailedError):
            await failed.result(timeout=30)
        gave = await whose.enqueue(give, "hunter2-pw")
        await gave.result(timeout=30)
        await (await runner.enqueue(hint, "t0ken-abc")).result(timeout=30)
        await runner._running("test").operating.notebook._flush()
        told = await everything(client, failed, gave, runner)
    assert len(told) >= 40
    assert sum("<html" in text for text in told.values()) >= 9
    assert "event: " in told[f"{API}/jobs/{failed.id}/events {failed.task}"]
    assert failed.id in told["csv"]
    assert gave.id in told["ndjson"]
    for place, text in told.items():
        for secret in SECRETS:
            assert secret not in text, (place, text)
    shown = json.loads(told[f"{API}/jobs/{failed.id} {failed.task}"])
    assert shown["reason"].startswith("RuntimeError: refused: ***")
    assert "page=2" in shown["reason"]
    assert shown["progress"]["message"] == "trying ***"
    log = json.loads(told[f"{API}/jobs/{failed.id}/logs {failed.task}"])
    assert log["lines"][0]["text"].startswith("using ***")


@pytest.mark.parametrize("where", ["error", "text", "argument"])
async def test_no_search_tells_a_secret_letter_by_letter(runner: TaskRunner, where: str) -> None:
    async with operating(status_app(runner, secrets=["iban"])) as client:
        headers, account = (
            {"Authorization": "Basic basic-creds"},
            {"login": {"passphrase": "nested-pw"}},
        )
        url = "https://bank?api_key=key-in-url&page=2"
        job = await runner.enqueue(leak, "hunter2-pw", headers, account, "iban-9911", url=url)
        with pytest.raises(JobFailedError):
            await job.result(timeout=30)

        async def found(text: str) -> tuple[int, int, int]:
            listed = await client.get("/jobs", params={where: text, "total": True})
            export = await client.get("/jobs/export", params={where: text, "form": "ndjson"})
            asked = {"action": "retry", "filter": {where: text}, "dry_run": True}
            bulk = await client.post("/jobs/bulk", json=asked)
            assert listed.json()["total"] is None
            return (
                len(listed.json()["items"]),
                len(export.text.splitlines()),
                bulk.json()["matched"],
            )

        for secret in SECRETS:
            assert await found(secret) == (0, 0, 0), secret
            assert await found(secret[:6]) == (0, 0, 0), secret
        assert await found("PAGE=2") == (1, 1, 1)


async def test_neither_the_process_log_nor_an_observer_is_told_a_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")
    seen: list[JobEvent] = []
    runner = TaskRunner(
        "tasks.db", modules=["tests"], observers=[seen.append], secrets=["iban"], log_successes=True
    )
    with capture_logs() as lines:
        async with operating(status_app(runner)) as client:
            arguments: Any = (
                "hunter2-pw",
                {"Authorization": "Basic basic-creds"},
                {"login": {"passphrase": "nested-pw"}},
                "iban-9911",
            )
            for attempts in (1, 2):
                often = runner.options(max_attempts=attempts, backoff=[0.01])
                job = await often.enqueue(
                    leak, *arguments, url="https://bank?api_key=key-in-url&page=2"
                )
                with pytest.raises(JobFailedError):
                    await job.result(timeout=30)
            # What the runner is told, the routes know too.
            shown = (await client.get(f"/jobs/{job.id}")).text
    assert {"job.failed", "job.retry_scheduled"} <= {line["event"] for line in lines}
    failed = next(line for line in lines if line["event"] == "job.failed")
    assert failed["reason"].startswith("RuntimeError: refused: ***")
    assert "refused: ***" in failed["stack"]
    for secret in SECRETS:
        assert secret not in repr(lines)
        assert secret not in repr(seen)
        assert secret not in shown


async def test_what_is_no_secret_by_its_name_is_logged_as_it_is(runner: TaskRunner) -> None:
    with capture_logs() as lines:
        async with operating(status_app(runner)):
            job = await runner.enqueue(plain_error, "order 42")
            with pytest.raises(JobFailedError):
                await job.result(timeout=30)
    failed = next(line for line in lines if line["event"] == "job.failed")
    assert failed["reason"] == "ValueError: no order 42"


async def plain_error(said: str) -> None:
    raise ValueError(f"no {said}")


class Login(BaseModel):
    name: str
    password: SecretStr


async def plain(given: object) -> None: ...


async def hidden() -> SecretStr:
    return SecretStr("hunter2-pw")


@pytest.mark.parametrize(
    "value", [SecretStr("hunter2-pw"), Login(name="ann", password=SecretStr("hunter2-pw"))]
)
async def test_what_is_a_secret_by_its_type_is_not_even_stored(
    runner: TaskRunner, value: object
) -> None:
    async with operating(status_app(runner)) as client:
        with pytest.raises(NotDurableError) as caught:
            await runner.enqueue(plain, value)
        assert "hunter2-pw" not in str(caught.value)
        assert (await client.get("/jobs")).json()["items"] == []


async def test_nor_is_a_result_of_such_a_type(runner: TaskRunner) -> None:
    async with operating(status_app(runner)) as client:
        job = await runner.enqueue(hidden)
        with pytest.raises(NotDurableError):
            await job.result(timeout=30)
        shown = (await client.get(f"/jobs/{job.id}")).text
    assert "hunter2-pw" not in shown
    assert "secret" in json.loads(shown)["result_note"]
