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
        self._tallies: dict[tuple[int, str], tuple[list[int], list[int], list[int]]] = {}

    def __bool__(self) -> bool:
        return bool(self._tallies)

    def add(self, task: str, outcome: Outcome, ended_at: float, ran: float, waited: float) -> None:
        """Count an attempt that has ended; times are in seconds."""
        outcomes, run_times, waits = self._tally(task, ended_at)
        outcomes[_NUMBERS[type(outcome)]] += 1
        run_times[class_of(ran)] += 1
        waits[class_of(waited)] += 1

    def add_crash(self, task: str, found_at: float) -> None:
        """Count an attempt whose process died; how long it ran nobody knows."""
        self._tally(task, found_at)[0][CRASHED] += 1

    def _tally(self, task: str, at: float) -> tuple[list[int], list[int], list[int]]:
        key = int(at) // 60 * 60, task
        tally = self._tallies.get(key)
        if tally is None:
            classes = _LAST_CLASS + 1
            tally = self._tallies[key] = ([0] * len(_NUMBERS), [0] * classes, [0] * classes)
        return tally

    def take(self) -> list[tuple[int, int, int, str, int, int]]:
        """Return what was counted as rows (span, kind, at, task, class, how many); forget it."""
        tallies, self._tallies = self._tallies, {}
        return [
            (span, kind, at // span * span, task, number, total)
            for (at, task), tally in tallies.items()
            for kind, totals in zip((OUTCOMES, RUN_TIME, WAIT), tally, strict=True)
            for number, total in enumerate(totals)
            if total
            for span in SPANS
        ]
