"""Time, asked for and never taken.

What lives here: the clock that every other module is given, and what a duration is. What does
not: the loops that wait. Built by the runner, replaced by `FakeClock` in tests.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

from embedded_tasks.errors import ConfigurationError

__all__ = [
    "Alarm",
    "Clock",
    "Duration",
    "SystemClock",
    "Throttle",
    "Timer",
    "WallAlarm",
    "pause",
    "seconds",
]

Duration = float | int | timedelta
"""A length of time: seconds, or a `timedelta`."""

_LONGEST = 100 * 365 * 86400.0
_LONGEST_SLEEP = 30.0


class Timer(Protocol):
    """A callback that waits for its time."""

    def cancel(self) -> None:
        """Forget the callback."""
        ...


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> float:
        """Return the wall clock, in seconds since 1970 (UTC); for due times only."""
        ...

    def monotonic(self) -> float:
        """Return a clock that never jumps, in seconds; for durations only."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the event loop after `delay` seconds of the monotonic clock."""
        ...


class SystemClock:
    """The machine's own clocks, and the timer heap of the running event loop."""

    def now(self) -> float:
        """Return the wall clock, in seconds since 1970 (UTC)."""
        return time.time()

    def monotonic(self) -> float:
        """Return the monotonic clock, in seconds."""
        return time.monotonic()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call `callback` on the running event loop after `delay` seconds."""
        return asyncio.get_running_loop().call_later(delay, callback)


class Alarm:
    """Calls back once, at the earliest of the times that it was set to.

    Args:
        clock: Where the time comes from.
        callback: What is called.
    """

    def __init__(self, clock: Clock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._callback = callback
        self._timer: Timer | None = None
        self._at = 0.0

    def set(self, delay: float) -> None:
        """Call back after so many seconds, if not earlier."""
        at = self._clock.monotonic() + delay
        if self._timer is None or at < self._at:
            self.cancel()
            self._at = at
            self._timer = self._clock.call_later(delay, self._call)

    def cancel(self) -> None:
        """Do not call back."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _call(self) -> None:
        self._timer = None
        self._callback()


class WallAlarm:
    """Calls back once the wall clock has come to the earliest of the times that it was set to.

    And when the clock was put back: what is known of due times may be wrong then. The clock is
    looked at every half minute, as it may jump meanwhile.

    Args:
        clock: Where the time comes from.
        callback: What is called.
    """

    def __init__(self, clock: Clock, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._callback = callback
        self._alarm = Alarm(clock, self._look)
        self._when = math.inf
        self._looked_at = 0.0

    def set(self, when: float) -> None:
        """Call back at this time, if not earlier."""
        now = self._clock.now()
        # While it is set, what is set on top must not hide that the clock was put back.
        self._looked_at = now if self._when == math.inf else max(self._looked_at, now)
        self._when = min(self._when, when)
        self._alarm.set(max(0.0, min(when - now, _LONGEST_SLEEP)))

    def cancel(self) -> None:
        """Do not call back."""
        self._when = math.inf
        self._alarm.cancel()

    def _look(self) -> None:
        if self._looked_at <= self._clock.now() < self._when:
            self.set(self._when)
        else:
            self._when = math.inf
            self._callback()


class Throttle:
    """Calls back at once, and then no more often than this.

    Args:
        clock: Where the time comes from.
        every: Seconds between two calls.
        callback: What is called.
    """

    def __init__(self, clock: Clock, every: float, callback: Callable[[], None]) -> None:
        self._clock = clock
        self._every = every
        self._callback = callback
        self._last = -every
        self._later: Timer | None = None

    def __call__(self) -> None:
        """Call back now, or as soon as it may be."""
        wait = self._last + self._every - self._clock.monotonic()
        if wait <= 0:
            self._call()
        elif self._later is None:
            self._later = self._clock.call_later(wait, self._call)

    def _call(self) -> None:
        self._later = None
        self._last = self._clock.monotonic()
        self._callback()


async def pause(clock: Clock, delay: float) -> None:
    """Return after `delay` seconds of the clock."""
    over = asyncio.Event()
    timer = clock.call_later(delay, over.set)
    try:
        await over.wait()
    finally:
        timer.cancel()


def seconds(duration: Duration, name: str) -> float:
    """Return a duration in seconds.

    Args:
        duration: Seconds or a timedelta; not negative, at most a hundred years.
        name: The option it was given as, for the error.

    Raises:
        ConfigurationError: It is not a duration, negative, not finite, or absurdly long.
    """
    if isinstance(duration, timedelta):
        duration = duration.total_seconds()
    if isinstance(duration, bool) or not isinstance(duration, int | float):
        raise ConfigurationError(
            f"{name}={duration!r}: expected seconds or a timedelta, got {type(duration).__name__}."
        )
    if math.isnan(duration) or not 0 <= duration <= _LONGEST:
        raise ConfigurationError(f"{name}={duration!r}: expected 0 to 100 years, in seconds.")
    return float(duration)
