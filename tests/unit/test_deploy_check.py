"""What a check before a deploy finds, and that it leaves everything as it is.

What lives here: `embedded_tasks/deploy_check.py` and `store/looking.py`, on real files, as they are
about reading them. What does not: old and new releases (`tests/crash/test_releases.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from embedded_tasks import TaskRunner, check, task
from embedded_tasks.errors import StoreFormatError
from embedded_tasks.job import JobState, NewJob
from embedded_tasks.payload import encode_arguments
from embedded_tasks.references import References
from embedded_tasks.store import Store, looking
from embedded_tasks.store.opening import APPLICATION_ID, MIGRATIONS, SCHEMA_VERSION
from embedded_tasks.store.queries import QUERIES
from tests.support.jobs import ME, new_job, running_job
from tests.support.stores import opened
from tests.support.tasks import note

pytestmark = pytest.mark.anyio

HERE = __name__


def upgrade(version: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if args == ("bad",):
        raise LookupError("no such customer")
    return (*args, version), kwargs


@task(name="charge", version=3, upgrade=upgrade)
async def charge(key: str, version: int) -> None: ...


async def one_argument(key: str) -> None: ...


def endpoint() -> None: ...


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def runner(file: Path) -> TaskRunner:
    return TaskRunner(file, modules=["tests"])


@asynccontextmanager
async def holding(file: Path, *jobs: NewJob) -> AsyncIterator[Store]:
    """A file with jobs that a process has open."""
    async with opened(str(file)) as store:
        await store.insert(jobs)
        yield store


def jobs_of(name: str, *payloads: str, first: int = 1) -> list[NewJob]:
    numbered = enumerate(payloads, start=first)
    return [new_job(number, task=name, args=args) for number, args in numbered]


def everything(file: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in file.parent.iterdir()
    }


def text(*args: object) -> str:
    return encode_arguments(args, {}, References(), task="t", limit=1000)


NAME = f"{HERE}:one_argument"
CASES = {
    "fits": (NAME, text("a"), None),
    "an unknown function": (f"{HERE}:gone", text("a"), "has no"),
    "an unknown name": ("invoice", text("a"), "has a task named so"),
    "arguments that do not fit": (NAME, text("a", "b"), "too many positional arguments"),
    "a payload that cannot be read": (NAME, "{", "damaged"),
    "the present version": ("charge@3", text("a", 3), None),
    "an earlier version": ("charge", text("a"), None),
    "an upgrade that fails": ("charge@2", text("bad"), "LookupError: no such customer"),
    "an upgrade that does not fit": ("charge", text(), "missing a required argument"),
    "an upgrade of another type": ("charge", text(7), "valid string"),
    "a later version": ("charge@4", text("a", 4), "stored by version 4"),
    "a version of a task that has none": (f"{NAME}@2", text("a"), "stored by version 2"),
}


@pytest.mark.parametrize("case", CASES)
async def test_each_job_that_this_code_could_not_run_is_found_with_the_reason(
    file: Path, runner: TaskRunner, case: str
) -> None:
    name, args, reason = CASES[case]
    async with holding(file, *jobs_of(name, args)):
        report = check(runner, file)
    assert report.waiting == 1
    assert report.ok == (reason is None)
    if reason is not None:
        (found,) = report.findings
        assert reason in found.reason
        assert found.reason.endswith(".")
        assert found.jobs == 1
        assert len(found.examples) == 1
        assert f"{found.task}@{found.version}".removesuffix("@1") == name
        assert found.reason in str(report)


async def test_queued_held_and_running_jobs_are_looked_at_and_no_finished_ones(
    file: Path, runner: TaskRunner
) -> None:
    async with holding(file, *jobs_of(f"{HERE}:gone", *["[[],{}]"] * 3)) as store:
        await store.insert([running_job(4, task=f"{HERE}:gone")])
        await store.cancel(jobs_of("", "")[0].id, "why", 0.0)
        await store.add_process(ME, 1, 0.0, runs_jobs=True)
        report = check(runner, file)
    assert report.waiting == 3
    assert [found.jobs for found in report.findings] == [3]


async def test_findings_are_grouped_and_capped(file: Path, runner: TaskRunner) -> None:
    many = [job for n in range(130) for job in jobs_of(f"{HERE}:gone{n}", "[[],{}]", first=n + 1)]
    twice = jobs_of(f"{HERE}:gone0", *["[[],{}]"] * 9, first=200)
    async with holding(file, *many, *twice):
        report = check(runner, file)
    assert report.waiting == 139
    assert len(report.findings) == 100
    assert report.findings[0].jobs == 10
    assert len(report.findings[0].examples) == 5
    assert report.others == 30
    assert "30 more" in str(report)


async def test_an_open_file_is_read_and_left_alone(file: Path, runner: TaskRunner) -> None:
    async with holding(file, *jobs_of(NAME, text("a"))):
        before = everything(file)
        assert check(runner, file).waiting == 1
        # SQLite notes in its index of the log that somebody reads.
        assert {n: v for n, v in everything(file).items() if not n.endswith("-shm")} == {
            n: v for n, v in before.items() if not n.endswith("-shm")
        }


async def test_a_closed_file_is_read_and_nothing_is_made_beside_it(
    file: Path, runner: TaskRunner
) -> None:
    async with holding(file, *jobs_of(NAME, text("a"))):
        pass
    before = everything(file)
    assert list(before) == [file.name]
    assert check(runner, file).waiting == 1
    assert everything(file) == before


async def test_a_file_that_is_opened_while_it_is_read_is_read_again(
    file: Path, runner: TaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with holding(file, *jobs_of(NAME, text("a"))):
        pass
    look, others, tries = looking._look, list[sqlite3.Connection](), list[bool]()

    def opened_meanwhile(path: str, see: Any, *, in_use: bool) -> int:
        version = look(path, see, in_use=in_use)
        if not others:
            other = sqlite3.connect(file, isolation_level=None)
            other.execute("INSERT INTO meta VALUES ('a', 'b')")
            others.append(other)
        tries.append(in_use)
        return version

    monkeypatch.setattr(looking, "_look", opened_meanwhile)
    assert check(runner, file).waiting == 1
    others[0].close()
    assert tries == [False, True]


async def test_a_file_of_an_older_schema_is_read_and_not_migrated(
    file: Path, runner: TaskRunner
) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.executescript(MIGRATIONS[1])
        connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
        connection.execute("PRAGMA user_version=1")
        connection.execute("INSERT INTO tasks (name) VALUES (?)", (f"{HERE}:gone",))
        connection.execute(
            "INSERT INTO jobs (id, task, state, queue, priority, due_at, created_at, attempt,"
            " on_crash, args) VALUES ('x', 1, 'queued', 'q', 0, 0, 0, 0, 'retry', '')"
        )
    report = check(runner, file)
    assert [(found.task, found.examples) for found in report.findings] == [(f"{HERE}:gone", ("x",))]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
    assert SCHEMA_VERSION > 1


async def test_where_there_is_no_file_nothing_waits_and_none_is_made(
    file: Path, runner: TaskRunner
) -> None:
    report = check(runner, file)
    assert (report.ok, report.waiting, report.file) == (True, 0, None)
    assert list(file.parent.iterdir()) == []


async def test_a_file_of_another_program_is_refused(file: Path, runner: TaskRunner) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE orders (id)")
    with pytest.raises(StoreFormatError, match="another program"):
        check(runner, file)


async def test_under_test_the_app_s_own_file_is_not_touched(
    file: Path, runner: TaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "1")
    async with holding(file, *jobs_of(f"{HERE}:gone", "[[],{}]")):
        assert check(runner).file is None
    async with runner.open():
        await runner.enqueue(note, "a")
        report = check(runner)
    assert (report.ok, report.waiting) == (True, 1)


async def test_memory_has_nothing_that_waits() -> None:
    assert check(TaskRunner(":memory:")).ok


async def test_the_packages_of_an_installed_app_are_known_before_it_runs(file: Path) -> None:
    app, runner = FastAPI(), TaskRunner(file)
    runner.install(app)
    app.get("/")(endpoint)
    async with holding(file, *jobs_of(NAME, text("a"))):
        assert check(runner, file).ok


async def test_flat_memory_is_a_matter_of_windows(
    file: Path, runner: TaskRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "_WINDOW", 3)
    async with holding(file, *jobs_of(f"{HERE}:gone", *["[[],{}]"] * 10)):
        report = check(runner, file)
    assert (report.waiting, report.findings[0].jobs) == (10, 10)


def test_states_that_wait_are_all_that_have_not_finished() -> None:
    waiting = {JobState.QUEUED, JobState.RUNNING, JobState.HELD}
    statement = QUERIES["look_at_waiting"]
    assert {state for state in JobState if f"'{state}'" in statement} == waiting
