"""A clock that stands still until a test moves it.

What lives here: `FakeClock`. What does not: the clock of production (`embedded_tasks/clock.py`).
Called by tests of everything that waits.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

__all__ = ["FakeClock", "FakeTimer"]


class FakeTimer:
    """A callback that waits for its time."""

    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """Wall clock, monotonic clock and timer heap, moved by hand.

    Args:
        now: The wall clock at the beginning, in seconds since 1970.
    """

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._monotonic = 0.0
        self._order = count()
        self._timers: list[tuple[float, int, FakeTimer]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(self._monotonic + max(delay, 0.0), callback)
        heapq.heappush(self._timers, (timer.at, next(self._order), timer))
        return timer

    @property
    def waits(self) -> list[float]:
        """How far away each timer is, the next one first."""
        return sorted(
            timer.at - self._monotonic for _, _, timer in self._timers if not timer.cancelled
        )

    def advance(self, seconds: float) -> None:
        """Move both clocks, and call what is due on the way at its time, in order."""
        end = self._monotonic + seconds
        while self._timers and self._timers[0][0] <= end:
            at, _, timer = heapq.heappop(self._timers)
            self._move(max(at - self._monotonic, 0.0))
            if not timer.cancelled:
                timer.callback()
        self._move(end - self._monotonic)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or back; the monotonic one does not notice."""
        self._now += seconds

    def _move(self, seconds: float) -> None:
        self._now += seconds
        self._monotonic += seconds
