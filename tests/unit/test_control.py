"""What operators do, on a whole runner: queues that are paused, and acts on one job and on many.

What lives here: `runner.control`. What does not: routes. Called by pytest.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from embedded_tasks.control import Action, BulkReport
from embedded_tasks.errors import ConfigurationError, JobNotFoundError, JobStateError
from embedded_tasks.events import EventName
from embedded_tasks.handle import CancelAnswer
from embedded_tasks.store import JobFilter
from tests.support.runners import Timed, running
from tests.support.tasks import note, wait, world

pytestmark = pytest.mark.anyio

NOBODY = "01890000-0000-7000-8000-000000000000"


async def entries(timed: Timed) -> list[tuple[str | None, str, str]]:
    page = await timed.runner.control.audit()
    return [(entry.by, entry.action, entry.target) for entry in page.entries]


async def test_a_job_of_a_paused_queue_waits_until_it_is_resumed() -> None:
    async with running() as timed:
        control = timed.runner.control
        assert await control.pause("default", by="ada")
        assert not await control.pause("default", by="bob")
        job = await timed.runner.enqueue(note, "waits")
        await timed.runner.counts()
        assert (await job.refresh()).state == "queued"
        assert world.calls == []
        other = await timed.runner.options(queue="mail").enqueue(note, "runs")
        await other.result()
        assert await control.resume("default", by="ada")
        assert not await control.resume("default", by="ada")
        await job.result()
        assert world.calls == [("runs",), ("waits",)]
        assert await entries(timed) == [("ada", "resume", "default"), ("ada", "pause", "default")]


async def test_a_pause_is_known_to_a_sibling_at_once_and_after_a_restart(tmp_path: Path) -> None:
    file = str(tmp_path / "tasks.db")
    async with running(file, run_jobs=False) as first:
        await first.runner.control.pause("default")
    async with running(file) as second:
        job = await second.runner.enqueue(note, 1)
        await second.runner.counts()
        assert (await job.refresh()).state == "queued"
        queues = {queue.name: queue for queue in await second.runner.reports.queues()}
        assert queues["default"].paused


async def test_a_running_job_goes_on_while_its_queue_is_paused() -> None:
    async with running() as timed:
        job = await timed.runner.enqueue(wait)
        await world.started.wait()
        await timed.runner.control.pause("default")
        world.go_on.set()
        assert await job.result() == ""


@pytest.mark.parametrize("queue", ["", "x" * 201, "a\nb"])
async def test_a_queue_that_cannot_be_is_not_paused(queue: str) -> None:
    async with running() as timed:
        with pytest.raises(ConfigurationError):
            await timed.runner.control.pause(queue)


async def test_a_scheduled_job_runs_now() -> None:
    async with running() as timed:
        job = await timed.runner.options(delay=timedelta(hours=1)).enqueue(note, 1)
        await timed.runner.control.run_now(job.id, by="ada")
        assert await job.result() == 1
        assert await entries(timed) == [("ada", "run_now", job.id)]


async def test_a_finished_job_is_retried_and_deleted_and_no_other() -> None:
    async with running() as timed:
        control = timed.runner.control
        job = await timed.runner.enqueue(note, 1)
        assert await job.result() == 1
        await control.retry(job.id, by="ada")
        await timed.events.wait(EventName.SUCCEEDED, 2)
        await control.delete(job.id, by="ada")
        with pytest.raises(JobNotFoundError):
            await job.refresh()
        waiting = await timed.runner.options(delay=60).enqueue(note, 2)
        for refused in (control.retry, control.delete):
            with pytest.raises(JobStateError, match="scheduled"):
                await refused(waiting.id)
            with pytest.raises(JobNotFoundError):
                await refused(NOBODY)
        runs = await timed.runner.enqueue(wait)
        await world.started.wait()
        with pytest.raises(JobStateError, match="running"):
            await control.run_now(runs.id)
        assert await entries(timed) == [("ada", "delete", job.id), ("ada", "retry", job.id)]


async def test_a_cancellation_is_written_down_with_its_answer() -> None:
    async with running() as timed:
        job = await timed.runner.options(delay=60).enqueue(note, 2)
        assert await timed.runner.control.cancel(job.id, by="ada") is CancelAnswer.CANCELLED
        assert await timed.runner.control.cancel(job.id, by="ada") is CancelAnswer.FINISHED
        (entry,) = (await timed.runner.control.audit()).entries
        assert (entry.action, entry.target, entry.details) == (
            "cancel",
            job.id,
            {"answer": "cancelled"},
        )


async def test_many_are_counted_first_and_then_changed_up_to_a_cap() -> None:
    async with running(run_jobs=False) as timed:
        control, runner = timed.runner.control, timed.runner
        jobs = [await runner.options(delay=60).enqueue(note, n) for n in range(7)]
        wanted = JobFilter(state="scheduled", limit=2, before=3)
        assert await control.bulk("cancel", wanted, dry_run=True) == BulkReport(7, 0, False, True)
        assert (await jobs[0].refresh()).state == "scheduled"
        assert await control.bulk(Action.CANCEL, wanted, cap=5, by="ada") == BulkReport(5, 5, True)
        assert await control.bulk("cancel", wanted) == BulkReport(2, 2, False)
        assert await control.bulk("cancel", wanted) == BulkReport(0, 0, False)
        entry = (await control.audit()).entries[-1]
        assert (entry.by, entry.action, entry.target) == ("ada", "bulk cancel", "state=scheduled")
        assert entry.details == {"matched": 5, "changed": 5, "capped": True}


async def test_many_are_chosen_by_their_ids_if_their_state_allows_it() -> None:
    async with running(run_jobs=False) as timed:
        control, runner = timed.runner.control, timed.runner
        later = await runner.options(delay=60).enqueue(note, 1)
        due = await runner.enqueue(note, 2)
        ids = [later.id, due.id, NOBODY, later.id]
        assert await control.bulk("run_now", ids) == BulkReport(1, 1, False)
        assert (await later.refresh()).state == "queued"
        assert await control.bulk("delete", ids) == BulkReport(0, 0, False)
        assert await control.bulk("cancel", ids, cap=1) == BulkReport(1, 1, True)


async def test_many_are_retried_by_their_kind_of_failure() -> None:
    async with running() as timed:
        world.raises = [ValueError("bad")] * 3
        for number in range(3):
            await timed.runner.enqueue(note, number)
        await timed.events.wait(EventName.FAILED, 3)
        (group,) = await timed.runner.reports.error_groups()
        assert (group.error_type, group.count) == ("ValueError", 3)
        assert group.place.endswith(":_act")
        report = await timed.runner.control.bulk("retry", JobFilter(group=group.id))
        assert report == BulkReport(3, 3, False)
        await timed.events.wait(EventName.SUCCEEDED, 3)


async def test_what_has_succeeded_is_retried_only_where_it_is_named() -> None:
    async with running() as timed:
        job = await timed.runner.enqueue(note, 1)
        await job.result()
        control = timed.runner.control
        assert await control.bulk("retry", JobFilter(), dry_run=True) == BulkReport(
            0, 0, False, True
        )
        named = JobFilter(state="succeeded")
        assert await control.bulk("retry", named, dry_run=True) == BulkReport(1, 0, False, True)


async def test_an_action_that_is_none_and_a_cap_that_is_none_are_refused() -> None:
    async with running(run_jobs=False) as timed:
        with pytest.raises(ConfigurationError, match="retry, cancel, run_now, delete"):
            await timed.runner.control.bulk("explode", JobFilter())
        for cap in (0, 100_001):
            with pytest.raises(ConfigurationError, match="cap"):
                await timed.runner.control.bulk("retry", JobFilter(), cap=cap)


async def test_a_filter_and_an_action_that_exclude_each_other_mean_no_job() -> None:
    async with running(run_jobs=False) as timed:
        await timed.runner.enqueue(note, 1)
        report = await timed.runner.control.bulk("retry", JobFilter(state="queued"))
        assert report == BulkReport(0, 0, False)
