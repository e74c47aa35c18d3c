"""What attempts came to and how long they took, counted in memory until it is written.

What lives here: counting, by the minute and by the hour. What does not: writing (`notes`). Owned by
the notebook.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from embedded_tasks.job import (
    Cancelled,
    Crashed,
    Expired,
    Failed,
    Held,
    Interrupted,
    Outcome,
    RetryLater,
    Snoozed,
    Succeeded,
)

__all__ = ["CRASHED", "OUTCOMES", "RUN_TIME", "SPANS", "WAIT", "Collector", "class_of"]

SPANS: Final = (60, 3600)
OUTCOMES: Final = 0
RUN_TIME: Final = 1
WAIT: Final = 2

CRASHED: Final = 8
"""The number of an outcome: the process died."""
_NUMBERS: Final[Mapping[type[Outcome], int]] = {
    Succeeded: 0,
    RetryLater: 1,
    Failed: 2,
    Snoozed: 3,
    Cancelled: 4,
    Expired: 5,
    Interrupted: 6,
    Held: 7,
    Crashed: CRASHED,
}
_LAST_CLASS: Final = 70


def class_of(seconds: float) -> int:
    """Return the class of a length of time; see `Histogram`."""
    if seconds <= 0.001:
        return 0
    return min(math.ceil(2 * math.log2(seconds * 1000) - 1e-9), _LAST_CLASS)


class Collector:
    """Counts, and hands over what was counted since the last time."""

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str, int, int], int] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, task: str, outcome: Outcome, ended_at: float, ran: float, waited: float) -> None:
        """Count an attempt that has ended; times are in seconds."""
        minute = int(ended_at) // 60 * 60
        self._count(
            (minute, task, OUTCOMES, _NUMBERS[type(outcome)]),
            (minute, task, RUN_TIME, class_of(ran)),
            (minute, task, WAIT, class_of(waited)),
        )

    def add_crash(self, task: str, found_at: float) -> None:
        """Count an attempt whose process died; how long it ran nobody knows."""
        self._count((int(found_at) // 60 * 60, task, OUTCOMES, CRASHED))

    def _count(self, *keys: tuple[int, str, int, int]) -> None:
        for key in keys:
            self._counts[key] = self._counts.get(key, 0) + 1

    def take(self) -> list[tuple[int, int, int, str, int, int]]:
        """Return what was counted as rows (span, kind, at, task, class, how many); forget it."""
        counts, self._counts = self._counts, {}
        return [
            (span, kind, at // span * span, task, number, total)
            for (at, task, kind, number), total in counts.items()
            for span in SPANS
        ]
