"""What is logged of a job's life: constant names, ids, and never an argument.

What lives here: whole lives, with a mark in their arguments that no log line may show. What does
not: levels and values of single lines (`test_logs.py`). Called by pytest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from embedded_tasks.errors import EmbeddedTasksError
from embedded_tasks.events import EventName
from tests.support import tasks
from tests.support.runners import running
from tests.support.stores import write
from tests.support.tasks import world
from tests.support.turns import until

pytestmark = pytest.mark.anyio

SECRET = "sw0rdfish"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[Any]]:
    """Everything that is logged, through structlog and through the standard library."""
    caplog.set_level(logging.DEBUG)
    with capture_logs() as lines:
        yield lines
    assert SECRET not in repr(lines)
    assert SECRET not in caplog.text
    assert SECRET not in repr([record.args for record in caplog.records])


async def test_the_start_and_the_end_are_one_line_each(tmp_path: Path, lines: list[Any]) -> None:
    path = str(tmp_path / "tasks.db")
    async with running(path):
        pass
    assert [(line["event"], line["file"]) for line in lines] == [
        ("runner.started", path),
        ("runner.stopped", path),
    ]
    start = lines[0]
    assert (start["processes"], start["recovered"], start["expired"]) == (1, 0, 0)


async def test_a_success_is_not_logged_unless_asked_for(lines: list[Any]) -> None:
    for asked in (False, True):
        async with running(log_successes=asked) as at:
            await (await at.runner.enqueue(tasks.note, SECRET)).result()
        assert ("job.succeeded" in {line["event"] for line in lines}) is asked


async def test_failures_and_retries_do_not_show_arguments(lines: list[Any]) -> None:
    async with running() as at:
        world.raises = [ValueError("one"), ValueError("two"), ValueError("three")]
        await at.runner.enqueue(tasks.flaky, SECRET, {SECRET: [SECRET]})
        for times, wait in [(1, 10), (2, 20)]:
            await at.events.wait(EventName.RETRY_SCHEDULED, times)
            at.clock.advance(wait)
        await at.events.wait(EventName.FAILED)
    told = [line for line in lines if line["event"].startswith("job.")]
    assert [line["event"] for line in told] == [
        "job.retry_scheduled",
        "job.retry_scheduled",
        "job.failed",
    ]
    assert {line["task"] for line in told} == {"tests.support.tasks:flaky"}
    assert [line["attempt"] for line in told] == [1, 2, 3]


async def test_cancelled_expired_and_snoozed_jobs_do_not_show_arguments(lines: list[Any]) -> None:
    async with running() as at:
        job = await at.runner.enqueue(tasks.wait, SECRET)
        await world.started.wait()
        await job.cancel()
        await at.events.wait(EventName.CANCELLED)
        await at.runner.options(finish_within=5).enqueue(tasks.wait, SECRET)
        await until(lambda: len(world.calls) == 2)
        at.clock.advance(5)
        await at.events.wait(EventName.EXPIRED)
        await at.runner.enqueue(tasks.ask_for_snooze, 60)
        await at.events.wait(EventName.SNOOZED)


async def test_held_jobs_do_not_show_arguments(lines: list[Any]) -> None:
    async with running() as at:
        texts = [f'[1,["{SECRET}"', f'[1,["{SECRET}"],{{"other":"{SECRET}"}}]', f'[9,"{SECRET}"]']
        for number, text in enumerate(texts, start=1):
            await at.runner.options(delay=60).enqueue(tasks.ask_for_snooze, 60)
            store = at.runner._running("test").store
            await write(store, f"UPDATE jobs SET args = '{text}' WHERE state = 'queued'")
            at.clock.advance(60)
            await at.events.wait(EventName.HELD, number)


async def test_arguments_that_are_refused_are_not_logged(lines: list[Any]) -> None:
    async with running() as at:
        for function, bad in [(tasks.typed, [SECRET]), (tasks.note, object())]:
            anything: Any = function
            with pytest.raises(EmbeddedTasksError) as refused:
                await at.runner.enqueue(anything, SECRET, bad)
            assert SECRET not in str(refused.value)


async def test_the_debug_lines_of_the_libraries_below_do_not_show_arguments(
    lines: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with running() as at:
        await (await at.runner.enqueue(tasks.note, SECRET)).result()
        await (await at.runner.enqueue(tasks.wait, SECRET)).cancel()
    assert any(record.name == "aiosqlite" for record in caplog.records)
