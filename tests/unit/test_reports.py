"""What operators see of a whole runner: numbers, tasks, a job's timeline, and the file.

What lives here: `runner.reports` without its feed. What does not: how jobs are found
(`tests/store_contract`). Called by pytest.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from embedded_tasks.errors import ConfigurationError, JobNotFoundError, StoreUnavailableError
from embedded_tasks.events import EventName
from embedded_tasks.failure import describe, group_of
from embedded_tasks.job import AttemptError, AttemptRecord, JobRecord, JobState, ShownState
from embedded_tasks.reported import AuditEntry, Count
from embedded_tasks.signature import Signature
from embedded_tasks.sites import NonDurableSites
from embedded_tasks.store import JobFilter, has_wal_reset_bug
from embedded_tasks.timeline import timeline_of
from tests.support.runners import running
from tests.support.tasks import flaky, note, wait, world

pytestmark = pytest.mark.anyio


async def test_an_overview_tells_states_queues_and_what_needs_a_person() -> None:
    async with running(concurrency=1) as timed:
        world.raises = [ValueError("bad")]
        await timed.runner.enqueue(note, 1)
        await timed.events.wait(EventName.FAILED, 1)
        await timed.runner.enqueue(wait)
        await world.started.wait()
        await timed.runner.options(queue="mail").enqueue(note, 2)
        await timed.runner.options(queue="mail", delay=60).enqueue(note, 3)
        timed.clock.advance(5)
        found = await timed.runner.reports.overview()
        assert {state: count.value for state, count in found.states.items() if count.value} == {
            ShownState.SCHEDULED: 1,
            ShownState.QUEUED: 1,
            ShownState.RUNNING: 1,
            ShownState.FAILED: 1,
        }
        assert found.needs_you == Count(1)
        assert [(q.name, q.depth.value, q.scheduled.value, q.running) for q in found.queues] == [
            ("default", 0, 0, 1),
            ("mail", 1, 1, 0),
        ]
        assert found.queues[1].oldest_wait == pytest.approx(5.0)
        assert [group.error_type for group in found.errors] == ["ValueError"]


async def test_whose_a_job_is_is_kept_and_checked() -> None:
    async with running() as timed:
        job = await timed.runner.options(owner="user:7").enqueue(note, 1)
        await job.result()
        assert (await timed.runner.reports.job(job.id)).belongs_to == "user:7"
        page = await timed.runner.reports.jobs(JobFilter(belongs_to="user:7"))
        assert [found.id for found in page.jobs] == [job.id]
        assert (await timed.runner.reports.jobs(JobFilter(belongs_to="user:8"))).jobs == []
        for wrong in ("", "x" * 201, 7):
            with pytest.raises(ConfigurationError, match="owner"):
                await timed.runner.options(owner=wrong).enqueue(note, 1)  # type: ignore[arg-type]  # on purpose


async def test_a_search_finds_in_arguments_only_what_its_reader_may_see() -> None:
    async with running() as timed:
        await (await timed.runner.enqueue(note, "token=abc", "visible")).result()
        reports = timed.runner.reports

        class Shown:
            def arguments_text(self, record: JobRecord) -> str:
                return (record.args or "").replace("token=abc", "***")

            def errors_text(self, record: JobRecord) -> str:
                return record.reason or ""

        shows, secret = Shown(), JobFilter(argument="abc")
        assert len((await reports.jobs(secret)).jobs) == 1
        assert (await reports.jobs(secret, shows=shows)).jobs == []
        assert len((await reports.jobs(JobFilter(argument="VISIBLE"), shows=shows)).jobs) == 1
        assert (await reports.jobs(JobFilter(text="abc"), shows=shows)).jobs == []


async def test_a_timeline_tells_attempts_and_acts_in_their_order() -> None:
    async with running() as timed:
        world.raises = [ValueError("bad"), None, None]
        job = await timed.runner.enqueue(flaky, 1)
        await timed.events.wait(EventName.RETRY_SCHEDULED, 1)
        timed.clock.advance(1)
        await timed.runner.control.run_now(job.id, by="ada")
        await job.result()
        timed.clock.advance(1)
        await timed.runner.control.retry(job.id, by="bob")
        await timed.events.wait(EventName.SUCCEEDED, 2)
        steps = await timed.runner.reports.timeline(job.id)
        assert [(step.what, step.attempt, step.outcome, step.by) for step in steps] == [
            ("enqueued", None, None, None),
            ("started", 1, None, None),
            ("ended", 1, "retry", None),
            ("by hand", None, "run_now", "ada"),
            ("started", 2, None, None),
            ("ended", 2, "succeeded", None),
            ("by hand", None, "retry", "bob"),
            ("started", 3, None, None),
            ("ended", 3, "succeeded", None),
            ("finished", None, "succeeded", None),
        ]
        assert steps[2].error_type == "ValueError"
        with pytest.raises(JobNotFoundError):
            await timed.runner.reports.timeline("nobody")


def record(state: JobState, attempts: list[AttemptRecord], **changes: Any) -> JobRecord:
    values: dict[str, Any] = dict.fromkeys(JobRecord.__dataclass_fields__)
    values |= {"id": "x", "state": state, "created_at": 1.0, "due_at": 1.0, "attempt": 1}
    values |= {"attempts": tuple(attempts)} | changes
    return JobRecord(**values)


def test_a_death_and_the_replay_after_it_are_marked() -> None:
    died = AttemptRecord(
        number=1,
        outcome="crashed",
        started_at=2.0,
        ended_at=3.0,
        error=AttemptError("ProcessDied", "Its process (pid 7) died while it ran."),
    )
    steps = timeline_of(record(JobState.RUNNING, [died], attempt=2, started_at=4.0), [])
    assert [(step.what, step.at) for step in steps] == [
        ("enqueued", 1.0),
        ("started", 2.0),
        ("died", 3.0),
        ("replayed", 3.0),
        ("started", 4.0),
    ]
    steps = timeline_of(record(JobState.HELD, [died], reason="crash"), [])
    assert [step.what for step in steps] == ["enqueued", "started", "died", "held"]
    entry = AuditEntry(1, 3.5, "ada", "retry", "x")
    steps = timeline_of(record(JobState.QUEUED, [died], due_at=3.5), [entry])
    assert [step.what for step in steps][-2:] == ["by hand", "due"]


async def test_the_file_and_its_processes_are_told(tmp_path: Path) -> None:
    file = tmp_path / "tasks.db"
    async with running(str(file)) as first, running(str(file), run_jobs=False):
        found = await first.runner.reports.durability()
        assert found.path == str(file)
        assert found.size == file.stat().st_size
        assert found.wal_size > 0
        assert found.free
        assert (found.journal_mode, found.synchronous) == ("wal", "off")
        assert sorted((p.lock, p.runs_jobs) for p in found.processes) == [
            ("held", False),
            ("ours", True),
        ]
        assert found.non_durable_sites == []


async def test_nothing_is_promised_of_a_file_that_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "tasks.db"
    async with running(str(file)) as timed:
        file.rename(tmp_path / "elsewhere.db")
        with pytest.raises(StoreUnavailableError, match="was deleted or moved away"):
            await timed.runner.reports.durability()
        (tmp_path / "elsewhere.db").rename(file)
        await timed.runner.reports.durability()


@pytest.mark.parametrize(
    ("version", "affected"),
    [
        ((3, 40, 1), True),
        ((3, 44, 5), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 52, 0), False),
    ],
)
def test_which_releases_have_the_wal_reset_bug(
    version: tuple[int, int, int], affected: bool
) -> None:
    assert has_wal_reset_bug(version) is affected


def test_places_of_non_durable_tasks_are_counted_and_bounded() -> None:
    sites = NonDurableSites(lambda: 5.0)
    for line in range(60):
        sites.add("app.py", line, "a lambda")
    sites.add("app.py", 7, "a session")
    assert sites.total == 61
    assert len(sites.list()) == 50
    first = sites.list()[0]
    assert (first.line, first.count, first.reason, first.last_at) == (7, 2, "a session", 5.0)


@pytest.mark.parametrize(
    "wrong", [{"metric": "x"}, {"metric": "failures", "since": 30 * 86_400, "bucket": 60}]
)
async def test_a_series_that_cannot_be_is_refused_or_made_coarser(wrong: dict[str, Any]) -> None:
    async with running(run_jobs=False) as timed:
        if wrong["metric"] == "x":
            with pytest.raises(ConfigurationError, match="throughput"):
                await timed.runner.reports.series(**wrong)
        else:
            assert (await timed.runner.reports.series(**wrong)).seconds == 3600


class Order(BaseModel):
    number: int


@dataclass
class Plain:
    name: str


class Opaque: ...


def ship(order: Order, to: Plain, id: UUID, what: Opaque, *, fast: bool = False) -> None: ...


def anything(first, *rest: int, **more: str): ...  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201  # on purpose


def test_parameters_are_told_as_json_schema() -> None:
    found = Signature(ship, type("Context", (), {})).schema()
    assert found is not None
    assert found["required"] == ["order", "to", "id", "what"]
    properties = found["properties"]
    assert properties["order"]["properties"]["number"]["type"] == "integer"
    assert properties["to"]["properties"]["name"]["type"] == "string"
    assert properties["id"]["format"] == "uuid"
    assert properties["what"] == {"description": "Opaque"}
    assert properties["fast"] == {"type": "boolean", "default": False}


def test_parameters_without_types_are_told_too() -> None:
    found = Signature(anything, type("Context", (), {})).schema()
    assert found == {
        "type": "object",
        "properties": {"first": {}, "rest": {"type": "array"}, "more": {"type": "object"}},
        "required": ["first"],
    }


def fail_here() -> None:
    int("x")


def test_the_place_of_an_error_is_the_innermost_one_in_the_users_code() -> None:
    with pytest.raises(ValueError, match="x") as raised:
        fail_here()
    assert describe(raised.value).place == f"{__name__}:fail_here"
    assert describe(ValueError("never raised")).place == ""
    assert group_of("ValueError", "a:b") == group_of("ValueError", "a:b")
    assert group_of("ValueError", "a:b") != group_of("KeyError", "a:b")
