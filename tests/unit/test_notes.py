"""What jobs say while they run: coalesced, from any thread, kept with the job.

What lives here: progress, log lines and figures on a whole runner. What does not: the statements
(`tests/store_contract`). Called by pytest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from embedded_tasks import JobContext
from embedded_tasks.collector import Collector, class_of
from embedded_tasks.events import EventName, JobEvent
from embedded_tasks.job import Failed, JobRecord, Succeeded
from embedded_tasks.job_logs import JobLogHandler, capture
from embedded_tasks.reported import Histogram, Metric
from tests.support.runners import Timed, running
from tests.support.tasks import note, world
from tests.support.turns import until

pytestmark = pytest.mark.anyio


async def count_rows(ctx: JobContext, rows: int) -> None:
    for row in range(rows):
        ctx.progress(row + 1, rows, "rows")


def count_rows_in_a_thread(ctx: JobContext, rows: int) -> None:
    for row in range(rows):
        ctx.progress(row + 1, rows)
        ctx.log("row", number=row)


async def count_and_wait(ctx: JobContext) -> None:
    ctx.progress(1, 2, "half")
    world.contexts.append(ctx)
    world.started.set()
    await world.go_on.wait()


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("no text")


async def log_odd_things(ctx: JobContext) -> None:
    ctx.log("nul \0 and \ud800", level="warning", odd=Odd(), nul="\0")
    ctx.progress(float("1e300"), None, "\ud800" * 600)


async def log_as_apps_do() -> None:
    logging.getLogger("shop").warning("sold %s", "out")
    capture(None, "info", {"event": "paid", "amount": 3, "job_id": "x", "text": "t"})


@asynccontextmanager
async def counting_notes(timed: Timed, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Any]]:
    """Tell of every write of notes."""
    session = timed.runner._session
    assert session is not None
    written: list[Any] = []
    plain: Callable[[Any], Awaitable[None]] = session.store.steering.note

    async def note_down(notes: Any) -> None:
        await plain(notes)
        written.append(notes)

    monkeypatch.setattr(session.store.steering, "note", note_down)
    yield written


async def stored(timed: Timed, job_id: str) -> JobRecord:
    return await timed.runner.reports.job(job_id)


async def test_a_job_tells_how_far_it_is_with_one_write_for_many_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running() as timed, counting_notes(timed, monkeypatch) as written:
        job = await timed.runner.enqueue(count_rows, 1000)
        await job.result()
        await asyncio.sleep(0)
        timed.clock.advance(0.5)
        await until(lambda: written)
        assert len(written) == 1
        found = await stored(timed, job.id)
        assert found.progress is not None
        assert (found.progress.done, found.progress.total, found.progress.message) == (
            1000,
            1000,
            "rows",
        )
        assert found.progress.share == 1.0
        page = await timed.runner.reports.jobs()
        assert page.jobs[0].progress == found.progress


async def test_a_thread_tells_and_logs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as timed, counting_notes(timed, monkeypatch) as written:
        job = await timed.runner.enqueue(count_rows_in_a_thread, 20)
        await job.result()
        await asyncio.sleep(0)
        timed.clock.advance(0.5)
        await until(lambda: written)
        page = await timed.runner.reports.logs(job.id)
        assert [line.fields for line in page.lines] == [{"number": str(n)} for n in range(20)]
        assert not page.more
        rest = await timed.runner.reports.logs(job.id, after=page.lines[4].id, limit=3)
        assert [line.id for line in rest.lines] == [line.id for line in page.lines[5:8]]
        assert rest.more


async def test_what_was_said_last_is_written_when_the_runner_stops(tmp_path: Path) -> None:
    file = str(tmp_path / "tasks.db")
    async with running(file) as timed:
        job = await timed.runner.enqueue(count_rows, 3)
        await job.result()
    async with running(file) as timed:
        found = await stored(timed, job.id)
        assert found.progress is not None
        assert found.progress.done == 3


async def test_progress_is_seen_while_the_job_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as timed, counting_notes(timed, monkeypatch) as written:
        job = await timed.runner.enqueue(count_and_wait)
        await world.started.wait()
        await asyncio.sleep(0)
        timed.clock.advance(0.5)
        await until(lambda: written)
        found = await stored(timed, job.id)
        assert found.progress is not None
        assert found.progress.share == 0.5
        first = found.revision
        world.contexts[0].progress(2, 2)
        await asyncio.sleep(0)
        timed.clock.advance(0.5)
        await until(lambda: len(written) == 2)
        assert (await stored(timed, job.id)).revision != first
        world.go_on.set()
        await job.result()


async def test_odd_things_are_kept_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as timed, counting_notes(timed, monkeypatch) as written:
        job = await timed.runner.enqueue(log_odd_things)
        await job.result()
        await asyncio.sleep(0)
        timed.clock.advance(0.5)
        await until(lambda: written)
        (line,) = (await timed.runner.reports.logs(job.id)).lines
        assert line.text == "nul \\x00 and \\ud800"
        assert line.level == "warning"
        assert line.fields == {"odd": "<it cannot be shown: RuntimeError>", "nul": "\\x00"}
        progress = (await stored(timed, job.id)).progress
        assert progress is not None
        assert progress.message is not None


async def test_what_an_app_logs_in_a_task_is_kept_with_its_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler = JobLogHandler()
    logging.getLogger("shop").addHandler(handler)
    try:
        async with running() as timed, counting_notes(timed, monkeypatch) as written:
            logging.getLogger("shop").warning("outside of any job")
            assert capture(None, "info", {"event": "outside"}) == {"event": "outside"}
            job = await timed.runner.enqueue(log_as_apps_do)
            await job.result()
            await asyncio.sleep(0)
            timed.clock.advance(0.5)
            await until(lambda: written)
            lines = (await timed.runner.reports.logs(job.id)).lines
            assert [(line.level, line.text, line.fields) for line in lines] == [
                ("warning", "sold out", {"logger": "shop"}),
                ("info", "paid", {"amount": "3", "text_": "t"}),
            ]
    finally:
        logging.getLogger("shop").removeHandler(handler)


async def test_an_idle_runner_writes_no_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as timed, counting_notes(timed, monkeypatch) as written:
        timed.clock.advance(3600)
        await timed.runner.counts()
        assert written == []


async def test_figures_are_written_together_and_outlive_a_restart(tmp_path: Path) -> None:
    file = str(tmp_path / "tasks.db")
    async with running(file) as timed:
        world.raises = [None, ValueError("bad"), None]
        for number in range(3):
            await timed.runner.enqueue(note, number)
        await timed.events.wait(EventName.SUCCEEDED, 2)
        await timed.events.wait(EventName.FAILED, 1)
    async with running(file) as timed:
        series = await timed.runner.reports.series(Metric.THROUGHPUT)
        assert sum(bucket.count for bucket in series.buckets) == 3
        failures = await timed.runner.reports.series("failures", bucket=3600, since=86_400)
        assert [bucket.count for bucket in failures.buckets if bucket.count] == [1]
        assert len(failures.buckets) == 25
        (report,) = await timed.runner.reports.tasks()
        assert (report.name, report.known) == ("tests.support.tasks:note", True)
        assert report.success_rate == pytest.approx(2 / 3)
        waits = await timed.runner.reports.series("queue_wait")
        assert [b.p95 for b in waits.buckets if b.count] == [Histogram.upper(0)]


async def test_a_crash_is_a_failure_in_all_figures_also_after_a_restart(tmp_path: Path) -> None:
    file = str(tmp_path / "tasks.db")
    async with running(file) as timed:
        job = await timed.runner.enqueue(note)
        await job.result()
        session = timed.runner._running("test")
        told: list[JobEvent] = []
        session.operating._observe = told.append
        crash = JobEvent(EventName.CRASHED, job.id, "tests.support.tasks:note", 1)
        session.recoverer._observe(crash)
        assert told == [crash]
    async with running(file) as timed:
        failures = await timed.runner.reports.series(Metric.FAILURES)
        assert sum(bucket.count for bucket in failures.buckets) == 1
        ended = await timed.runner.reports.series(Metric.THROUGHPUT)
        assert sum(bucket.count for bucket in ended.buckets) == 2
        (report,) = await timed.runner.reports.tasks()
        assert (report.failed, report.success_rate) == (1, 0.5)


def test_lengths_of_time_fall_into_classes_that_hold_them() -> None:
    for seconds in (0.0, 0.0005, 0.001, 0.0011, 0.7, 1.0, 60.0, 86_400.0):
        number = class_of(seconds)
        assert Histogram.upper(number) >= seconds
        assert number == 0 or Histogram.upper(number - 1) < seconds
    assert class_of(-5.0) == 0
    assert class_of(1e18) == class_of(1e17)


def test_quantiles_come_from_the_class_that_they_fall_into() -> None:
    histogram = Histogram({0: 90, 10: 9, 20: 1})
    assert histogram.quantile(0.5) == Histogram.upper(0)
    assert histogram.quantile(0.95) == Histogram.upper(10)
    assert histogram.quantile(1.0) == Histogram.upper(20)
    assert Histogram({}).quantile(0.5) is None


def test_a_collector_hands_over_what_it_counted_once() -> None:
    collector = Collector()
    collector.add("shop:send", Succeeded("null"), 3_661.0, 0.5, 0.0)
    collector.add("shop:send", Failed("x", None), 3_661.0, 0.5, 0.0)
    assert collector
    rows = collector.take()
    assert (60, 0, 3660, "shop:send", 0, 1) in rows
    assert (3600, 0, 3600, "shop:send", 2, 1) in rows
    assert (60, 1, 3660, "shop:send", class_of(0.5), 2) in rows
    assert not collector
    assert collector.take() == []
