"""The sample app, in test mode, with a real mail server.

What lives here: what each form comes to, and what the app may be made of. What does not: SIGKILL,
which the demo's own story has (tests/crash/test_demo.py). Run by pytest.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from mailbox import Maildir
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

import embedded_tasks
from embedded_tasks import JobEndedError, JobFilter, TaskRunner
from scripts import mail_server
from scripts.sample_process import free_port

APP = Path(__file__).resolve().parents[2] / "sample_app"
SECONDS = 20


@dataclass
class Sample:
    """The running app, and what it has sent."""

    client: TestClient
    runner: TaskRunner
    tasks: Any
    folder: Path

    def mails(self) -> list[Message]:
        return list(Maildir(self.folder / "mail"))

    def states(self) -> dict[str, str]:
        """The state of each task's newest job, when it has ended."""
        portal = self.client.portal
        assert portal is not None
        return portal.call(ends_of, self.runner)


async def ends_of(runner: TaskRunner) -> dict[str, str]:
    ends: dict[str, str] = {}
    # A job may enqueue another one, so that the list is not complete at the first look.
    while len(jobs := await runner.jobs(JobFilter(limit=100))) > len(ends):
        for _, job in jobs:
            with suppress(JobEndedError):
                await job.result(timeout=SECONDS)
            ends[job.task.partition(":")[2]] = str((await job.refresh()).state)
    return ends


@pytest.fixture
def sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sample]:
    monkeypatch.setattr(mail_server, "_SECONDS_PER_MAIL", 0)
    server = mail_server.mail_server(tmp_path / "mail", free_port())
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")
    monkeypatch.setenv("SAMPLE_DATA", str(tmp_path))
    monkeypatch.setenv("SAMPLE_SMTP_PORT", str(server.port))
    monkeypatch.setenv("SAMPLE_PORT", "0")
    server.start()
    try:
        app = importlib.import_module("sample_app.main").app
        tasks = importlib.import_module("sample_app.tasks")
        with TestClient(app, follow_redirects=False) as client:
            yield Sample(client, tasks.runner, tasks, tmp_path)
    finally:
        server.stop()
        for name in [name for name in sys.modules if name.split(".")[0] == "sample_app"]:
            del sys.modules[name]


@pytest.mark.parametrize("page", ["/", "/jobs", "/results", "/static/style.css"])
def test_every_page_is_there(sample: Sample, page: str) -> None:
    assert sample.client.get(page).status_code == 200


def test_operators_have_the_dashboard_and_nobody_else(sample: Sample) -> None:
    assert sample.client.get("/operators/").status_code == 401
    assert sample.client.get("/operators/", auth=("ann", "guess")).status_code == 401
    assert "All is well" in sample.client.get("/operators/", auth=("ann", "sample")).text


def test_a_sign_up_gets_its_mail(sample: Sample) -> None:
    answer = sample.client.post("/signups", data={"email": "ann@club.example"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")
    assert [mail["To"] for mail in sample.mails()] == ["ann@club.example"]
    assert sample.states() == {"send_welcome": "succeeded"}
    assert "ann@club.example" in sample.client.get("/results").text


def test_a_mail_that_was_sent_is_not_sent_again(sample: Sample) -> None:
    sample.client.post("/signups", data={"email": "ann@club.example"})
    (mail,) = sample.mails()
    signup_id = mail["Message-ID"].strip("<>").partition("@")[0]
    sample.tasks.send_welcome(signup_id)
    assert len(sample.mails()) == 1


def test_the_operator_is_told_of_a_mail_that_fails_for_good(sample: Sample) -> None:
    # In test mode a request raises what its job raised, as plain BackgroundTasks do.
    with pytest.raises(OSError, match="no such mailbox"):
        sample.client.post("/signups", data={"email": f"cy{mail_server.REFUSED}"})
    assert sample.states() == {"send_welcome": "failed", "tell_operator": "succeeded"}
    (mail,) = sample.mails()
    assert mail["To"] == "operator@shop.example"
    assert "cy@nobody.example" in mail["Subject"]


def test_a_file_becomes_a_report(sample: Sample) -> None:
    sample.client.post("/reports", files={"file": ("orders.csv", "id,price\n1,2.5\n2,x\n3,4\n")})
    assert sample.states() == {"build_report": "succeeded"}
    page = sample.client.get("/results").text
    assert "3 rows" in page
    assert "price: 6.5" in page


def test_a_report_can_be_cancelled_on_its_way(sample: Sample) -> None:
    sample.client.post("/reports", files={"file": ("orders.csv", "id\n" + "1\n" * 1000)})
    page = sample.client.get("/jobs").text
    cancel = page.partition('action="')[2].partition('action="')[2].partition('"')[0]
    assert sample.client.post(cancel).status_code == 303
    assert sample.states() == {"build_report": "cancelled"}
    assert "Somebody pressed the button." in sample.client.get("/jobs").text


def test_the_partner_takes_a_message_the_third_time_it_comes(sample: Sample) -> None:
    headers = {"Idempotency-Key": "key"}
    calls = [
        sample.client.post("/partner", data={"text": "sent"}, headers=headers).status_code
        for _ in range(4)
    ]
    assert calls == [503, 503, 204, 204]
    assert "after 4 calls" in sample.client.get("/results").text


def test_the_app_is_small_and_uses_public_names_only() -> None:
    lines = 0
    for path in APP.rglob("*.py"):
        source = path.read_text()
        lines += len(source.splitlines())
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                assert all(not name.name.startswith("embedded_tasks") for name in node.names)
            elif isinstance(node, ast.ImportFrom) and "embedded_tasks" in str(node.module):
                assert node.module == "embedded_tasks"
                public = {*embedded_tasks.__all__, "admin"}
                assert {name.name for name in node.names} <= public
    assert 100 < lines < 230
