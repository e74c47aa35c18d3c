"""What the tests of the adapter share.

What lives here: test mode and production, both ways into a request, a store that can be slow. What
does not: the tasks (`tasks.py`). Called by pytest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from embedded_tasks import TaskRunner
from tests.web.drop_in import tasks
from tests.web.drop_in.disk import Disk, SlowConnection


@pytest.fixture(autouse=True)
def test_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")


@pytest.fixture
def production(test_mode: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EMBEDDED_TASKS_TESTING")


@pytest.fixture(params=["test", "production"])
def mode(request: pytest.FixtureRequest, test_mode: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a job may lean on is the same under test and in production."""
    if request.param == "production":
        monkeypatch.delenv("EMBEDDED_TASKS_TESTING")
    return str(request.param)


@pytest.fixture(params=["stack", "yield"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """FastAPI's exit stack, and what is used where a later FastAPI has it no more."""
    if request.param == "yield":
        monkeypatch.setattr("embedded_tasks.fastapi.installing.has_function_stack", lambda: False)
    return str(request.param)


@pytest.fixture(autouse=True)
def clean_tasks() -> Iterator[None]:
    tasks.forget()
    yield
    tasks.forget()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def runner(path: Path) -> TaskRunner:
    return TaskRunner(path)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    disk = Disk()
    factory = type("Slow", (SlowConnection,), {"disk": disk})
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=factory))
    yield disk
    disk.open_gate()
