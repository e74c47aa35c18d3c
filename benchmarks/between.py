"""How soon a job starts, and what several processes on one file do to each other.

What lives here: the time from a stored job to its first line, here and from another process; four
processes that enqueue beside one. What does not: throughput. Called by `__main__`.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.child import ask, hear, start, tell
from benchmarks.figures import Figure, Ratio, percentile
from benchmarks.files import Place
from benchmarks.jobs import mark, marks

__all__ = ["FIGURES", "RATIOS", "Latency", "Processes"]

FIGURES = [
    Figure("processes.one", "enqueue, one process with 100 callers", "jobs/s"),
    Figure("processes.four", "enqueue, four processes with 25 callers each", "jobs/s"),
    Figure("processes.p50", "... an enqueue of the four, median", "ms"),
    Figure("processes.p99", "... the same, 99th percentile", "ms"),
    Figure("latency.own.p50", "idle runner: from enqueue's return to the first line", "ms"),
    Figure("latency.own.p99", "... the same, 99th percentile", "ms"),
    Figure("latency.other.p50", "the same, enqueued by another process", "ms"),
    Figure("latency.other.p99", "... the same, 99th percentile", "ms"),
]

RATIOS = [
    Ratio("processes.four", "processes.one", "enqueue, four processes / one"),
    Ratio("processes.p99", "processes.p50", "an enqueue of the four, 99th percentile / median"),
]

_PAUSE = 0.005


class Processes:
    """Measures enqueues by one process and by four, for a time.

    Args:
        place: Where files are made.
        seconds: How long each.
    """

    def __init__(self, place: Place, seconds: float) -> None:
        self._place = place
        self._seconds = seconds

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        one, four = self._run(1, 100), self._run(4, 25)
        return {
            "processes.one": sum(each["rate"] for each in one),
            "processes.four": sum(each["rate"] for each in four),
            "processes.p50": percentile([each["p50"] for each in four], 50),
            "processes.p99": max(each["p99"] for each in four),
        }

    def _run(self, processes: int, callers: int) -> list[dict[str, float]]:
        path = self._place.with_schema()
        with ExitStack() as stack:
            made = [
                stack.enter_context(start("callers", path, callers=callers, seconds=self._seconds))
                for _ in range(processes)
            ]
            # All begin before the first is heard.
            for process in made:
                tell(process)
            return [hear(process) for process in made]


class Latency:
    """Measures how soon a job's function is called, when nothing else is to be done.

    Args:
        place: Where files are made.
        jobs: How many, one by one, here and from another process.
    """

    def __init__(self, place: Place, jobs: int) -> None:
        self._place = place
        self._jobs = jobs

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        return asyncio.run(self._measure(self._place.fresh()))

    async def _measure(self, path: Path) -> dict[str, float]:
        started = marks.renew()
        async with self._place.runner(path).open(run_jobs=True) as runner:
            own = []
            for number in range(self._jobs):
                await runner.enqueue(mark, number)
                stored = time.monotonic()
                # A start before the caller goes on is no wait.
                own.append(max(0.0, await started.get() - stored) * 1000)
                await asyncio.sleep(_PAUSE)
            other = await self._from_another(path, started)
        return {
            "latency.own.p50": percentile(own, 50),
            "latency.own.p99": percentile(own, 99),
            "latency.other.p50": percentile(other, 50),
            "latency.other.p99": percentile(other, 99),
        }

    async def _from_another(self, path: Path, started: asyncio.Queue[float]) -> list[float]:
        times = []
        with await asyncio.to_thread(start, "marks", path) as process:
            for _ in range(self._jobs):
                stored = await asyncio.to_thread(ask, process)
                times.append(max(0.0, await started.get() - stored) * 1000)
                await asyncio.sleep(_PAUSE)
            assert process.stdin is not None
            process.stdin.close()
        return times
