"""Hearing when jobs have their outcomes.

What lives here: an observer. What does not: what is measured with it. Used by the modules that
measure.
"""

from __future__ import annotations

import asyncio
import time

from embedded_tasks.events import JobEvent

__all__ = ["Settled"]


class Settled:
    """An observer: when each job's outcome was on the disk, and when all were.

    Args:
        wanted: How many jobs there are.
    """

    def __init__(self, wanted: int) -> None:
        self.at: dict[str, float] = {}
        self.all = asyncio.Event()
        self._wanted = wanted

    def __call__(self, event: JobEvent) -> None:
        self.at[event.job_id] = time.perf_counter()
        if len(self.at) >= self._wanted:
            self.all.set()
