"""Loops that do not die in silence, and small tasks that nobody forgets.

What lives here: `embedded_tasks/supervision.py`. What does not: the loops. Called by pytest.
"""

from __future__ import annotations

import asyncio
import inspect
import os
from itertools import pairwise

import pytest
from structlog.testing import capture_logs

from embedded_tasks.supervision import Supervisor
from tests.support.clock import FakeClock
from tests.support.turns import turns, until

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
    assert supervisor.failures == {"The loop worker": "ValueError('again')"}
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


async def test_work_that_is_closed_before_it_begins_leaves_no_warning() -> None:
    supervisor = Supervisor(FakeClock())

    async def work() -> None:
        raise AssertionError("never begun")

    coroutine = work()
    supervisor.spawn("late", coroutine)
    # A warning that it was never awaited would be an error here.
    await supervisor.close()
    await turns()
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


async def test_nothing_is_begun_after_closing() -> None:
    supervisor = Supervisor(FakeClock())
    await supervisor.close()

    async def work() -> None:
        pytest.fail("begun")

    supervisor.spawn("look", work())
    await turns()
    assert supervisor.failures == {}


async def test_a_loop_s_failure_is_over_when_it_has_run_again_for_a_while() -> None:
    clock = FakeClock()
    supervisor = Supervisor(clock)
    runs = 0

    async def loop() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError("twice")
        await asyncio.Event().wait()

    with capture_logs():
        supervisor.loop("worker", loop)
        await turns()
        clock.advance(0.1)
        await turns()
        clock.advance(0.2)
        await turns()
    assert supervisor.failures
    assert supervisor.past == []
    clock.advance(10)
    assert supervisor.failures == {}
    (past,) = supervisor.past
    assert past.startswith("The loop worker failed 2 times, at last at 2027-01-15T")
    assert "ValueError('twice')" in past
    await supervisor.close()


async def test_a_loop_that_fails_after_a_long_life_begins_with_a_short_pause() -> None:
    clock = FakeClock()
    supervisor = Supervisor(clock)
    lives = iter([0, 0, 0, 0, 100])
    over = asyncio.Event()

    async def loop() -> None:
        life = next(lives)
        if life:
            clock.advance(life)
        raise ValueError("again")

    with capture_logs() as lines:
        supervisor.loop("worker", loop)
        for _ in range(4):
            await turns()
            clock.advance(clock.waits[0])
        await turns()
    assert [line["again_after"] for line in lines] == [0.1, 0.2, 0.4, 0.8, 0.1]
    over.set()
    await supervisor.close()


async def test_small_work_that_failed_is_over_when_it_works_again_or_after_a_minute() -> None:
    clock = FakeClock()
    supervisor = Supervisor(clock)

    async def work(error: Exception | None) -> None:
        if error is not None:
            raise error

    with capture_logs():
        supervisor.spawn("look", work(ValueError("once")))
        supervisor.spawn("tell", work(ValueError("once")))
        await turns()
    assert supervisor.failures.keys() == {"look", "tell"}
    supervisor.spawn("look", work(None))
    await turns()
    assert supervisor.failures.keys() == {"tell"}
    clock.advance(60)
    assert supervisor.failures == {}
    assert len(supervisor.past) == 2
    await supervisor.close()


async def test_a_timer_that_fails_is_told_and_takes_nothing_along() -> None:
    clock = FakeClock()
    supervisor = Supervisor(clock)
    called: list[str] = []

    def broken() -> None:
        raise ValueError("broken")

    supervisor.clock.call_later(1, broken)
    supervisor.clock.call_later(1, lambda: called.append("next"))
    with capture_logs() as lines:
        clock.advance(1)
    assert called == ["next"]
    assert [line["event"] for line in lines] == ["background_work.failed"]
    ((name, why),) = supervisor.failures.items()
    assert "broken" in name
    assert why == "ValueError('broken')"


async def test_a_reader_that_fails_is_called_again_after_growing_pauses() -> None:
    clock = FakeClock()
    supervisor = Supervisor(clock)
    loop = supervisor.watching(asyncio.get_running_loop())
    read, write = os.pipe()
    calls: list[float] = []
    well = asyncio.Event()

    def look() -> None:
        calls.append(round(clock.monotonic(), 6))
        if len(calls) < 4:
            raise OSError("broken")
        os.read(read, 10)
        well.set()

    loop.add_reader(read, look)
    os.write(write, b"x")
    with capture_logs() as lines:
        while not well.is_set():
            seen = len(calls)
            await until(lambda seen=seen: len(calls) > seen)  # type: ignore[misc]  # bound in its round
            if not well.is_set():
                assert supervisor.failures
                clock.advance(clock.waits[0])
    assert calls == [0.0, 0.1, 0.3, 0.7]
    assert len(lines) == 3
    assert supervisor.failures == {}
    assert loop.remove_reader(read)
    os.close(read)
    os.close(write)


async def test_a_reader_that_is_removed_while_it_rests_stays_removed() -> None:
    clock = FakeClock()
    loop = Supervisor(clock).watching(asyncio.get_running_loop())
    read, write = os.pipe()
    calls: list[None] = []

    def look() -> None:
        calls.append(None)
        raise OSError("broken")

    loop.add_reader(read, look)
    os.write(write, b"x")
    with capture_logs():
        await until(lambda: calls)
    loop.remove_reader(read)
    clock.advance(10)
    await turns()
    assert len(calls) == 1
    os.close(read)
    os.close(write)
