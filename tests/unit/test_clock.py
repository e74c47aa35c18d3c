"""Time as it is asked for: durations, the machine's clock, and the clock of the tests.

What lives here: `embedded_tasks/clock.py` and `tests/support/clock.py`. What does not: who waits.
Called by pytest.
"""

from __future__ import annotations

import asyncio
import math
import time
from datetime import timedelta
from typing import Any

import pytest

from embedded_tasks.clock import Alarm, SystemClock, WallAlarm, pause, seconds
from embedded_tasks.errors import ConfigurationError
from tests.support.clock import FakeClock

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (0, 0.0),
        (1.5, 1.5),
        (timedelta(hours=2, milliseconds=5), 7200.005),
        (3_153_600_000, 3.1536e9),
    ],
)
def test_a_duration_is_seconds_or_a_timedelta(given: Any, wanted: float) -> None:
    found = seconds(given, "delay")
    assert found == wanted
    assert type(found) is float


@pytest.mark.parametrize(
    "given",
    [
        -1,
        timedelta(seconds=-1),
        math.nan,
        math.inf,
        1e11,
        True,
        "5",
        None,
        [5],
        timedelta(days=99999),
    ],
)
def test_what_is_no_duration_is_refused_by_its_name(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"delay=.*expected"):
        seconds(given, "delay")


async def test_the_machine_s_clock_tells_the_machine_s_time() -> None:
    clock = SystemClock()
    assert abs(clock.now() - time.time()) < 60
    before = clock.monotonic()
    fired = asyncio.Event()
    clock.call_later(0, fired.set)
    clock.call_later(1000, lambda: pytest.fail("too early")).cancel()
    await fired.wait()
    assert clock.monotonic() >= before


async def test_a_pause_lasts_as_long_as_the_clock_says() -> None:
    clock = FakeClock()
    task = asyncio.create_task(pause(clock, 5))
    await asyncio.sleep(0)
    clock.advance(4.999)
    await asyncio.sleep(0)
    assert not task.done()
    clock.advance(0.001)
    await task


async def test_a_pause_that_is_cancelled_leaves_no_timer() -> None:
    clock = FakeClock()
    task = asyncio.create_task(pause(clock, 5))
    await asyncio.sleep(0)
    assert clock.waits == [5]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.waits == []


def test_the_tests_clock_stands_still_until_it_is_moved() -> None:
    clock = FakeClock(100.0)
    assert (clock.now(), clock.monotonic()) == (100.0, 0.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (102.5, 2.5)


def test_the_tests_clock_calls_back_in_order_and_on_time() -> None:
    clock = FakeClock(100.0)
    seen: list[tuple[str, float]] = []

    def call(name: str) -> None:
        seen.append((name, clock.now()))

    def again() -> None:
        call("again")
        clock.call_later(1, lambda: call("late"))

    clock.call_later(3, lambda: call("third"))
    clock.call_later(1, again)
    clock.call_later(2, lambda: call("never")).cancel()
    clock.call_later(9, lambda: call("beyond"))
    clock.advance(4)
    assert seen == [("again", 101.0), ("late", 102.0), ("third", 103.0)]
    assert clock.waits == [5]
    assert clock.now() == 104.0


def test_the_wall_clock_may_jump_without_a_timer_noticing() -> None:
    clock = FakeClock(100.0)
    seen: list[float] = []
    clock.call_later(1, lambda: seen.append(clock.now()))
    clock.jump(-50)
    clock.advance(1)
    assert seen == [51.0]


def test_an_alarm_rings_once_at_the_earliest_of_its_times() -> None:
    clock, rung = FakeClock(), list[float]()
    alarm = Alarm(clock, lambda: rung.append(clock.monotonic()))
    begun = clock.monotonic()
    for delay in (3.0, 2.0, 5.0):
        alarm.set(delay)
    assert clock.waits == [2.0]
    clock.advance(10)
    assert rung == [begun + 2.0]
    alarm.set(1.0)
    alarm.cancel()
    clock.advance(10)
    assert len(rung) == 1


def test_a_wall_alarm_rings_when_the_clock_has_come_to_its_time_or_was_put_back() -> None:
    clock, rung = FakeClock(), list[float]()
    alarm = WallAlarm(clock, lambda: rung.append(clock.now()))
    begun = clock.now()
    alarm.set(begun + 70)
    alarm.set(begun + 100)
    for wait in (30.0, 30.0, 10.0):
        assert (clock.waits, rung) == ([wait], [])
        clock.advance(wait)
    assert rung == [begun + 70]
    assert clock.waits == []
    alarm.set(begun + 3600)
    clock.jump(-60)
    clock.advance(30)
    assert rung == [begun + 70, begun + 40]
    alarm.set(begun + 3600)
    clock.jump(4000)
    clock.advance(30)
    assert len(rung) == 3
    alarm.set(clock.now() + 1)
    alarm.cancel()
    clock.advance(100)
    assert len(rung) == 3


def test_a_wall_alarm_that_is_set_again_still_notices_that_the_clock_was_put_back() -> None:
    clock, rung = FakeClock(), list[float]()
    alarm = WallAlarm(clock, lambda: rung.append(clock.now()))
    alarm.set(clock.now() + 3600)
    clock.jump(-600)
    alarm.set(clock.now() + 3600)
    clock.advance(30)
    assert len(rung) == 1
