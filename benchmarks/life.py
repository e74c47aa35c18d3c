"""Jobs that do nothing, enqueued and attempted in one process.

What lives here: how many are enqueued and how many live their whole life per second, and how long
one takes. What does not: HTTP. Called by `__main__`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from benchmarks.figures import Figure, Ratio, percentile
from benchmarks.files import Place
from benchmarks.jobs import calls, counted, counted_in_a_thread, nothing
from benchmarks.observing import Settled
from embedded_tasks import TaskRunner
from embedded_tasks.job import JobState

__all__ = ["FIGURES", "RATIOS", "Enqueuing", "Life"]

_CALLERS = 100
_PAUSE = 0.001

_KINDS: dict[str, Callable[[int], Any]] = {"async": counted, "sync": counted_in_a_thread}

FIGURES = [
    Figure("enqueue.one", "enqueue, one caller", "jobs/s"),
    Figure("enqueue.hundred", "enqueue, 100 concurrent callers", "jobs/s"),
    *(
        Figure(f"life.{kind}.{key}", title.replace("jobs", f"{kind} jobs"), unit)
        for kind in _KINDS
        for key, title, unit in (
            ("drained", "jobs attempted and settled, when all are enqueued", "jobs/s"),
            ("whole", "jobs enqueued, then attempted and settled", "jobs/s"),
            ("meanwhile", "jobs enqueued by 100 callers meanwhile", "jobs/s"),
            ("p50", "... from enqueue's call to the outcome, median", "ms"),
            ("p99", "... the same, 99th percentile", "ms"),
        )
    ),
]

RATIOS = [
    Ratio("enqueue.one", "raw.one", "enqueue, one caller / SQLite alone, one row"),
    Ratio("enqueue.one", "raw.insert_crossing", "enqueue, one caller / our insert, bare crossing"),
    Ratio("enqueue.hundred", "raw.hundred", "enqueue, 100 callers / SQLite alone, 100 rows"),
    Ratio("enqueue.hundred", "raw.insert", "enqueue, 100 callers / our insert alone, 100 rows"),
    Ratio("life.async.whole", "raw.insert", "whole life, async / our insert alone, 100 rows"),
    Ratio("life.async.meanwhile", "raw.insert", "the same, enqueued while others are attempted"),
    Ratio("life.sync.whole", "raw.insert", "whole life, sync / our insert alone, 100 rows"),
    Ratio("life.sync.meanwhile", "raw.insert", "the same, enqueued while others are attempted"),
]


class Enqueuing:
    """Measures how fast jobs are stored by a process that runs none.

    Args:
        place: Where files are made.
        scale: How much is done; 1 for a full run.
    """

    def __init__(self, place: Place, scale: float) -> None:
        self._place = place
        self._single = max(50, int(500 * scale))
        self._many = max(1_000, int(10_000 * scale))

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        return asyncio.run(self._measure())

    async def _measure(self) -> dict[str, float]:
        runner = self._place.runner()
        async with runner:
            # First the many: a log that still grows, and code that has not run yet, are slower, and
            # the bare crossing comes after many rows, too.
            hundred = await _enqueue(runner, nothing, self._many, _CALLERS)
            one = await _enqueue(runner, nothing, self._single, 1)
        return {
            "enqueue.one": self._single / one,
            "enqueue.hundred": self._many / hundred,
        }


class Life:
    """Measures whole lives of jobs with the default concurrency.

    Args:
        place: Where files are made.
        scale: How much is done; 1 for a full run.
        kind: "async" or "sync" functions.
    """

    def __init__(self, place: Place, scale: float, kind: str) -> None:
        self._place = place
        self._jobs = max(1_000, int((10_000 if kind == "async" else 5_000) * scale))
        self._kind = kind
        self._function = _KINDS[kind]

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        parts = (self._drained(), self._meanwhile(), self._timed())
        values = {key: value for part in parts for key, value in asyncio.run(part).items()}
        return {f"life.{self._kind}.{key}": value for key, value in values.items()}

    async def _drained(self) -> dict[str, float]:
        path = self._place.fresh()
        enqueuer = self._place.runner(path)
        async with enqueuer:
            enqueuing = await _enqueue(enqueuer, self._function, self._jobs, _CALLERS)
        runner = self._place.runner(path)
        calls.renew(self._jobs)
        async with runner.open(run_jobs=True):
            start = time.perf_counter()
            await _all_on_disk(runner)
            draining = time.perf_counter() - start
        return {"drained": self._jobs / draining, "whole": self._jobs / (enqueuing + draining)}

    async def _meanwhile(self) -> dict[str, float]:
        runner = self._place.runner()
        calls.renew(self._jobs)
        async with runner.open(run_jobs=True):
            start = time.perf_counter()
            await _enqueue(runner, self._function, self._jobs, _CALLERS)
            await _all_on_disk(runner)
            seconds = time.perf_counter() - start
        return {"meanwhile": self._jobs / seconds}

    async def _timed(self) -> dict[str, float]:
        """The same with an observer, who is told of each outcome, which takes its time."""
        settled = Settled(self._jobs)
        runner = self._place.runner(None, settled)
        called: dict[str, float] = {}
        async with runner.open(run_jobs=True):
            await _enqueue(runner, self._function, self._jobs, _CALLERS, called)
            await settled.all.wait()
        times = [(settled.at[id] - moment) * 1000 for id, moment in called.items()]
        return {"p50": percentile(times, 50), "p99": percentile(times, 99)}


async def _all_on_disk(runner: TaskRunner) -> None:
    """Return when all functions were called and the file has all their outcomes."""
    await calls.all.wait()
    # What has ended is told of to nobody here, as in most apps.
    while (await runner.counts())[JobState.RUNNING]:  # noqa: ASYNC110
        await asyncio.sleep(_PAUSE)


async def _enqueue(
    runner: TaskRunner,
    function: Callable[[int], Any],
    jobs: int,
    callers: int,
    called: dict[str, float] | None = None,
) -> float:
    """Enqueue so many jobs by so many callers; return the seconds, and when each was called."""

    async def call(numbers: range) -> None:
        for number in numbers:
            moment = time.perf_counter()
            job = await runner.enqueue(function, number)
            if called is not None:
                called[job.id] = moment

    start = time.perf_counter()
    share = jobs // callers
    await asyncio.gather(*(call(range(i * share, (i + 1) * share)) for i in range(callers)))
    return time.perf_counter() - start
