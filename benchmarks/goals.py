"""What the figures are meant to be, and whether they were.

What lives here: the bounds. What does not: measuring and printing. Called by `report.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.figures import Figures, Ratio

__all__ = ["GOALS", "Goal", "Judged", "judged"]


@dataclass(frozen=True)
class Goal:
    """One bound.

    Args:
        title: What is bounded.
        measure: Returns one value per round, or None if it was not measured.
        bound: By what.
        most: Whether the value may be that at most; else it is to be that at least.
        unit: What it counts; nothing for a ratio.
    """

    title: str
    measure: Callable[[Figures], list[float] | None]
    bound: float
    most: bool = False
    unit: str = ""


@dataclass(frozen=True)
class Judged:
    """What became of a goal."""

    goal: Goal
    value: float

    @property
    def met(self) -> bool:
        return self.value <= self.goal.bound if self.goal.most else self.value >= self.goal.bound


def judged(figures: Figures) -> list[Judged]:
    """Return all goals that were measured, each with the median of its rounds."""
    found = [(goal, goal.measure(figures)) for goal in GOALS]
    return [Judged(goal, median(values)) for goal, values in found if values]


def _of(key: str) -> Callable[[Figures], list[float] | None]:
    return lambda figures: figures.samples.get(key)


def _ratio(over: str, under: str) -> Callable[[Figures], list[float] | None]:
    def measure(figures: Figures) -> list[float] | None:
        summary = figures.ratio(Ratio(over, under, ""))
        return None if summary is None else list(summary.samples)

    return measure


def _beyond(figures: Figures, over: str, under: str) -> list[float] | None:
    """The one less the other, round by round."""
    more, less = figures.samples.get(over), figures.samples.get(under)
    if not more or not less:
        return None
    return [max(0.0, one - other) for one, other in zip(more, less, strict=True)]


def _to_rivals(*words: str) -> Callable[[Figures], list[float] | None]:
    """Ours to the fastest of the rivals whose names have one of the words."""

    def measure(figures: Figures) -> list[float] | None:
        ours = figures.samples.get("peer.ours, async.whole")
        others = [
            samples
            for key, samples in figures.samples.items()
            if key.endswith(".whole") and any(word in key for word in words)
        ]
        if not ours or not others:
            return None
        fastest = max(median(samples) for samples in others)
        return [sample / fastest for sample in ours]

    return measure


def _p99_in_commits(figures: Figures) -> list[float] | None:
    """How many commits a durable task's slowest answers take beyond a plain task's."""
    names = ("http.durable.p99", "http.plain.p99", "raw.one")
    found = [figures.samples.get(name) for name in names]
    if not all(found):
        return None
    durable, plain, commits = (samples or [] for samples in found)
    return [
        (slow - fast) / (1000 / rate)
        for slow, fast, rate in zip(durable, plain, commits, strict=True)
    ]


GOALS: Final = [
    Goal(
        "enqueue, 100 callers, to SQLite alone with 100 rows of that size",
        _ratio("enqueue.hundred", "raw.hundred"), 0.3,
    ),
    Goal(
        "enqueue, one caller, to the same transaction through a bare crossing",
        _ratio("enqueue.one", "raw.insert_crossing"), 0.8,
    ),
    Goal(
        "enqueue, four processes with 25 callers each, to one with 100",
        _ratio("processes.four", "processes.one"), 1.0,
    ),
    Goal(
        "... 99th percentile of an enqueue to its median",
        _ratio("processes.p99", "processes.p50"), 4.0, most=True,
    ),
    Goal("whole life, async, then drained", _of("life.async.whole"), 12_000, unit="jobs/s"),
    Goal("... enqueued meanwhile", _of("life.async.meanwhile"), 12_000, unit="jobs/s"),
    Goal("whole life, sync", _of("life.sync.whole"), 4_000, unit="jobs/s"),
    # The same, as it was where SQLite alone writes 87,000 rows/s.
    Goal(
        "whole life, async, then drained, to SQLite alone with 100 rows",
        _ratio("life.async.whole", "raw.hundred"), 0.138,
    ),
    Goal("... enqueued meanwhile", _ratio("life.async.meanwhile", "raw.hundred"), 0.138),
    Goal(
        "whole life, sync, to SQLite alone with 100 rows",
        _ratio("life.sync.whole", "raw.hundred"), 0.046,
    ),
    Goal("whole life, to tinyjobs and huey", _to_rivals("tinyjobs", "huey"), 5.0),
    Goal("whole life, to plainjob", _to_rivals("plainjob"), 3.0),
    Goal("whole life, to the fastest on Redis", _to_rivals("Redis"), 8.0),
    Goal(
        "HTTP, requests/s with a durable task to a plain one",
        _ratio("http.durable.rate", "http.plain.rate"), 0.8,
    ),
    Goal(
        "HTTP, 99th percentile beyond the plain one's, in commits", _p99_in_commits, 2.0,
        most=True, unit="commits",
    ),
    Goal(
        "HTTP without tasks, runner installed to no runner",
        _ratio("http.installed.rate", "http.none.rate"), 0.97,
    ),
    Goal(
        "first line after enqueue's return, median", _of("latency.own.p50"), 0.3, most=True,
        unit="ms",
    ),
    Goal("... 99th percentile", _of("latency.own.p99"), 5.0, most=True, unit="ms"),
    Goal(
        "... enqueued by another process, median", _of("latency.other.p50"), 20.0, most=True,
        unit="ms",
    ),
    Goal(
        "enqueue, 1,000,000 waiting and finished, to empty",
        _ratio("depth.full.enqueued", "depth.empty.enqueued"), 0.9,
    ),
    Goal(
        "claims, 1,000,000 waiting and finished, to empty",
        _ratio("depth.full.claimed", "depth.empty.claimed"), 0.9,
    ),
    Goal(
        "start with them and 1,000 to put back, beyond an empty one", _of("depth.later"), 1.0,
        most=True, unit="s",
    ),
    Goal("memory with them, beyond an empty file", _of("depth.more"), 10.0, most=True, unit="MiB"),
    Goal(
        "dashboard, 1,000,000 jobs: slowest first call of a page", _of("admin.first"), 100,
        most=True, unit="ms",
    ),
    Goal("... slowest of the others", _of("admin.warm"), 100, most=True, unit="ms"),
    Goal(
        "claims beside two looks at it a second, to claims alone",
        _ratio("admin.watched", "admin.alone"), 0.9,
    ),
    Goal("idle, one: calls of our threads", _of("idle.one.threads"), 0, most=True, unit="per min"),
    Goal("... four processes: each", _of("idle.four.threads"), 0, most=True, unit="per min"),
    Goal(
        "... calls beyond the server's own, give or take four of its ticks",
        _of("idle.four.calls"), 12, most=True, unit="per min",
    ),
    Goal("... reads and writes of files", _of("idle.four.files"), 0, most=True, unit="per min"),
    Goal(
        "a job due in an hour: calls of our threads", _of("idle.due.threads"), 12, most=True,
        unit="per min",
    ),
    Goal(
        "99th percentile of /ping beside async jobs, to none",
        _ratio("ping.async.p99", "ping.none.p99"), 2.0, most=True,
    ),
    Goal(
        '99th percentile of /ping beside CPU work with run_in="process"',
        _ratio("ping.process.p99", "ping.none.p99"), 2.0, most=True,
    ),
    Goal(
        "requests/s with a durable task beside 50 open dashboards, to none",
        _ratio("watched.pages.rate", "watched.none.rate"), 0.95,
    ),
    Goal(
        "... jobs/s, drained",
        _ratio("watched.pages.jobs", "watched.none.jobs"), 0.95,
    ),
    Goal(
        "from SIGTERM to the end beside them, beyond none",
        lambda figures: _beyond(figures, "watched.pages.exit", "watched.none.exit"), 0.5,
        most=True, unit="s",
    ),
    Goal("removed by the pruner, beside claims", _of("prune.removed"), 5_000, unit="jobs/s"),
    Goal(
        "claims beside the pruner, to claims alone", _ratio("prune.with", "prune.without"), 0.9
    ),
]  # fmt: skip  # a goal is a line or two
