"""What a long queue, a long history and their removal do to speed, start and memory.

What lives here: the same life of jobs in a file that is empty and in one that is full; a start
after a crash; a pruner at work. What does not: filling files. Called by `__main__`.
"""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.child import ask, start
from benchmarks.figures import Figure, Ratio
from benchmarks.files import Place
from benchmarks.filled import count_finished, fill
from benchmarks.jobs import nothing

__all__ = ["FIGURES", "RATIOS", "Depth", "Pruning"]

FIGURES = [
    *(
        Figure(f"depth.{case}.{key}", f"{title}, {more}", unit)
        for case, title in (
            ("empty", "file with nothing else"),
            ("full", "1,000,000 waiting, 1,000,000 finished"),
        )
        for key, more, unit in (
            ("enqueued", "enqueue, 100 callers", "jobs/s"),
            ("claimed", "attempted and settled", "jobs/s"),
            ("memory", "memory afterwards", "MiB"),
            ("ready", "start", "s"),
            ("recovered", "start, 1,000 jobs of a killed process to put back", "s"),
        )
    ),
    Figure(
        "depth.later", "start in the full file with 1,000 to put back, beyond an empty one", "s"
    ),
    Figure("depth.more", "memory, full file, beyond an empty one", "MiB"),
    Figure("prune.without", "attempted and settled, nothing to remove", "jobs/s"),
    Figure("prune.with", "attempted and settled, beside a pruner at work", "jobs/s"),
    Figure("prune.removed", "... removed by the pruner meanwhile", "jobs/s"),
]

RATIOS = [
    Ratio("depth.full.enqueued", "depth.empty.enqueued", "enqueue, full file / empty"),
    Ratio("depth.full.claimed", "depth.empty.claimed", "attempted and settled, full file / empty"),
    Ratio("prune.with", "prune.without", "attempted and settled, pruner at work / nothing to do"),
]

_LATER = 86400.0
_FORGET = """
    DELETE FROM jobs WHERE task = (SELECT id FROM tasks WHERE name = 'benchmarks.jobs:linger')
"""


class Depth:
    """Measures the life of jobs in two files, which are made once.

    Args:
        place: Where files are made.
        depth: How many wait, and how many have finished, in the full one.
        jobs: How many live in each round.
        dead: How many a killed process leaves behind.
    """

    def __init__(self, place: Place, depth: int, jobs: int, dead: int) -> None:
        self._jobs = jobs
        self._dead = dead
        self._files = {
            "empty": fill(place, nothing, jobs),
            "full": fill(place, nothing, depth, (depth, _LATER)),
        }

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        values: dict[str, float] = {}
        for case, path in self._files.items():
            with start("life", path, jobs=self._jobs) as process:
                found = ask(process)
            values |= {
                f"depth.{case}.{key}": found[key]
                for key in ("enqueued", "claimed", "memory", "ready")
            }
        for case, path in self._files.items():
            values[f"depth.{case}.recovered"] = _recover(path, self._dead)
        values["depth.later"] = values["depth.full.recovered"] - values["depth.empty.ready"]
        values["depth.more"] = values["depth.full.memory"] - values["depth.empty.memory"]
        return values


class Pruning:
    """Measures the life of jobs while others are removed.

    Args:
        place: Where files are made.
        jobs: How many live.
        finished: How many are to be removed; more than can be meanwhile.
    """

    def __init__(self, place: Place, jobs: int, finished: int) -> None:
        self._place = place
        self._jobs = jobs
        self._finished = finished

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        without, _ = self._life(_LATER)
        beside, removed = self._life(-_LATER)
        return {"prune.without": without, "prune.with": beside, "prune.removed": removed}

    def _life(self, prune_in: float) -> tuple[float, float]:
        path = fill(self._place, nothing, self._jobs, (self._finished, prune_in))
        before = count_finished(path)
        with start("life", path, jobs=self._jobs) as process:
            found = ask(process)
        removed = (before - count_finished(path)) / (found["ready"] + found["took"])
        return found["claimed"], removed


def _recover(path: Path, jobs: int) -> float:
    """Let a process die with so many jobs; return how long the next one takes to be ready."""
    with start("die", path, jobs=jobs) as process:
        assert process.wait(60) == -signal.SIGKILL
    with start("open", path) as process:
        took = float(ask(process))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        # They would keep the slots of the next round.
        connection.execute(_FORGET)
        connection.commit()
    return took
