"""What fails in the background is told, and what is over goes out of the way.

What lives here: the memory of failures, and callbacks of the clock and the loop that cannot fail in
silence. What does not: loops, which are in `supervision.py`. Used by the supervisor.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import ParamSpec

import structlog

from embedded_tasks.clock import Clock, Timer

__all__ = ["Failures", "GuardedClock", "GuardedLoop"]

_log = structlog.get_logger("embedded_tasks")

_PROVEN = 10.0
_FORGOTTEN = 60.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0

P = ParamSpec("P")


@dataclass(slots=True)
class _Failure:
    why: str
    at: float
    times: int
    over_at: float


class Failures:
    """What has failed, by name: what is so now, and what is over.

    A loop's failure is over when the loop has run again for ten seconds; any other when the same
    thing works again, or after a minute.

    Args:
        clock: Where the time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, _Failure] = {}

    def failed(self, name: str, error: BaseException, *, again: bool = False) -> None:
        """Keep a failure; `again` when it stands until it is said to run again."""
        known = self._known.get(name)
        times = 1 if known is None else known.times + 1
        over = math.inf if again else self._clock.monotonic() + _FORGOTTEN
        self._known[name] = _Failure(repr(error), self._clock.now(), times, over)

    def runs_again(self, name: str) -> None:
        """A loop that had failed has begun again."""
        self._known[name].over_at = self._clock.monotonic() + _PROVEN

    def worked(self, name: str) -> None:
        """What may have failed before has worked."""
        if name in self._known:
            failure = self._known[name]
            failure.over_at = min(failure.over_at, self._clock.monotonic())

    @property
    def now(self) -> dict[str, str]:
        """What is not over, with the last error."""
        moment = self._clock.monotonic()
        return {name: one.why for name, one in self._known.items() if moment < one.over_at}

    @property
    def past(self) -> list[str]:
        """What is over, in words."""
        return [
            f"{name} failed {'once' if one.times == 1 else f'{one.times} times'}, "
            f"at last at {_moment(one.at)}: {one.why}. That is over."
            for name, one in self._known.items()
            if self._clock.monotonic() >= one.over_at
        ]

    def guarded(self, name: str, callback: Callable[P, object]) -> Callable[P, None]:
        """Return a callback that fails aloud and lets its caller go on."""

        def call(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                callback(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  # the loop would only print it
                self.failed(name, error)
                _log.exception("background_work.failed", work=name)
            else:
                self.worked(name)

        return call


class GuardedClock:
    """A clock whose callbacks cannot fail in silence.

    Args:
        clock: Where the time comes from.
        failures: What is told.
    """

    def __init__(self, clock: Clock, failures: Failures) -> None:
        self._clock = clock
        self._failures = failures
        self.now: Callable[[], float] = clock.now
        self.monotonic: Callable[[], float] = clock.monotonic

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call back after `delay` seconds."""
        name = f"timer {getattr(callback, '__qualname__', type(callback).__name__)}"
        return self._clock.call_later(delay, self._failures.guarded(name, callback))


class GuardedLoop:
    """The part of the event loop that watches descriptors, with callbacks that may fail.

    One that fails is called again after a pause: what it should have read is still there, and
    without the pause the loop would be busy with nothing else.

    Args:
        loop: The running event loop.
        clock: Where the pauses come from.
        failures: What is told.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, failures: Failures) -> None:
        self._loop = loop
        self._clock = clock
        self._failures = failures
        self._pauses: dict[int, tuple[float, Timer | None]] = {}

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        """Call back whenever the descriptor can be read or has an error."""
        self._loop.add_reader(fd, self._ready, fd, callback)

    def remove_reader(self, fd: int) -> bool:
        """Stop calling back."""
        _, timer = self._pauses.pop(fd, (0.0, None))
        if timer is not None:
            timer.cancel()
        return self._loop.remove_reader(fd)

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        """Call back once, after some seconds."""
        return self._loop.call_later(delay, self._failures.guarded("timer of siblings", callback))

    def _ready(self, fd: int, callback: Callable[[], object]) -> None:
        name = f"reader {getattr(callback, '__qualname__', type(callback).__name__)}"
        try:
            callback()
        except Exception as error:  # noqa: BLE001  # as above
            self._failures.failed(name, error)
            delay = min(self._pauses.get(fd, (_FIRST_PAUSE / 2, None))[0] * 2, _LONGEST_PAUSE)
            _log.exception("background_work.failed", work=name, again_after=delay)
            self._loop.remove_reader(fd)
            again = self._clock.call_later(delay, partial(self.add_reader, fd, callback))
            self._pauses[fd] = delay, again
        else:
            self._pauses.pop(fd, None)
            self._failures.worked(name)


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
