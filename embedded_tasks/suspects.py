"""Suspects: jobs that may be what kills the process, which runs one of them at a time.

What lives here: whether one may start now, and which one runs. What does not: claiming it, and what
a death means for it, which is in `recovery.py`. Used by the worker.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from embedded_tasks.clock import Clock, Timer

__all__ = ["Suspects"]

_REST = 1.0
_LONG_REST = 1.8
_ACQUITTED_AFTER = 30.0


class Suspects:
    """Lets one suspect run at a time, and none right after a death.

    Where something else kills processes one after another, a suspect that started first thing would
    be there each time and be convicted for it. After a rest its process has shown that it lives
    without it. One that the next death would convict rests for longer, against deaths that come
    about every second.

    Args:
        clock: Where the time comes from.
        acquit: Called with the id of a suspect that has run long enough to be none any more.
        may_start: Called when the next one may start.
    """

    def __init__(
        self, clock: Clock, acquit: Callable[[str], None], may_start: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._acquit = acquit
        self._may_start = may_start
        self._running: str | None = None
        self._acquittal: Timer | None = None
        self._rests_since = -math.inf

    @property
    def none_runs(self) -> bool:
        """Whether none runs here."""
        return self._running is None

    @property
    def next_start(self) -> float:
        """The wall clock at which the next one may start, or 0 when that is now."""
        return self._after(_REST)

    @property
    def next_last_chance(self) -> float:
        """The same, for one that the next death would convict."""
        return self._after(_LONG_REST)

    def _after(self, rest: float) -> float:
        left = self._rests_since + rest - self._clock.monotonic()
        return self._clock.now() + left if left > 0 else 0.0

    def rest(self) -> None:
        """A process has died, or this one has just begun: none starts for a while."""
        self._rests_since = self._clock.monotonic()

    def started(self, job_id: str) -> None:
        """Watch a suspect that runs now."""
        self._running = job_id
        self._acquittal = self._clock.call_later(_ACQUITTED_AFTER, self._run_long_enough)

    def _run_long_enough(self) -> None:
        if self._running is not None:
            self._acquit(self._running)
            self.ended(self._running)

    def ended(self, job_id: str) -> None:
        """An attempt of this job has ended; if it was the suspect, the next one may start."""
        if job_id != self._running:
            return
        self._running = None
        if self._acquittal is not None:
            self._acquittal.cancel()
            self._acquittal = None
        self._may_start()

    def close(self) -> None:
        """Forget the timer."""
        if self._acquittal is not None:
            self._acquittal.cancel()
