"""Loops that do not die in silence, and small tasks that nobody forgets.

What lives here: `embedded_tasks/supervision.py`. What does not: the loops. Called by pytest.
"""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from embedded_tasks.supervision import Supervisor
from tests.support.clock import FakeClock
from tests.support.turns import turns

pytestmark = pytest.mark.anyio


async def test_a_loop_that_fails_is_run_again_after_growing_pauses() -> None:
    clock = FakeClock()
    supervisor = Supervisor(clock)
    runs: list[float] = []

    async def loop() -> None:
        runs.append(clock.monotonic())
        if len(runs) < 10:
            raise ValueError("again")

    with capture_logs() as lines:
        supervisor.loop("worker", loop)
        while len(runs) < 10:
            await turns()
            clock.advance(clock.waits[0] if clock.waits else 0)
        await supervisor.ended("worker")
    pauses = [round(after - before, 6) for before, after in pairwise(runs)]
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert [line["event"] for line in lines] == ["loop.failed"] * 9
    assert lines[0]["loop"] == "worker"
    assert lines[0]["exc_info"]


async def test_a_failing_loop_is_told_to_health() -> None:
    clock = FakeClock()
    supervisor = Supervisor(clock)

    async def loop() -> None:
        raise ValueError("again")

    with capture_logs():
        supervisor.loop("worker", loop)
        await turns()
    assert supervisor.failures == {"worker": "ValueError('again')"}
    await supervisor.close()


async def test_a_loop_that_returns_has_ended() -> None:
    supervisor = Supervisor(FakeClock())
    done = asyncio.Event()

    async def loop() -> None:
        await done.wait()

    supervisor.loop("worker", loop)
    ended = asyncio.create_task(supervisor.ended("worker"))
    await turns()
    assert not ended.done()
    done.set()
    await ended


async def test_a_small_task_that_fails_is_logged_and_hurts_nobody() -> None:
    supervisor = Supervisor(FakeClock())

    async def work() -> None:
        raise ValueError("once")

    with capture_logs() as lines:
        supervisor.spawn("look", work())
        await turns()
    assert [(line["event"], line["work"]) for line in lines] == [("background_work.failed", "look")]
    await supervisor.close()


async def test_nothing_is_left_after_closing() -> None:
    supervisor = Supervisor(FakeClock())
    ended: list[str] = []

    async def forever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    before = asyncio.all_tasks()
    supervisor.loop("worker", lambda: forever("loop"))
    supervisor.spawn("look", forever("task"))
    await turns()
    await supervisor.close()
    assert sorted(ended) == ["loop", "task"]
    assert asyncio.all_tasks() == before


async def test_closing_twice_and_with_nothing_to_close_is_fine() -> None:
    supervisor = Supervisor(FakeClock())
    await supervisor.close()
    await supervisor.close()


async def test_nothing_is_begun_after_closing() -> None:
    supervisor = Supervisor(FakeClock())
    await supervisor.close()

    async def work() -> None:
        pytest.fail("begun")

    supervisor.spawn("look", work())
    await turns()
    assert supervisor.failures == {}
