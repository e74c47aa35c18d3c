"""Figures over time and by task, out of what was counted.

What lives here: buckets, quantiles and what is known of tasks. What does not: counting
(`collector`). Called by `reports`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from embedded_tasks.clock import Duration, seconds
from embedded_tasks.collector import CRASHED, OUTCOMES, RUN_TIME, WAIT
from embedded_tasks.errors import ConfigurationError, UnknownTaskError
from embedded_tasks.reported import Bucket, Histogram, Metric, Series, TaskReport
from embedded_tasks.session import Session
from embedded_tasks.store import Views

__all__ = ["SeriesAsked", "series_of", "task_reports"]

_DAY: Final = 86_400.0
_MINUTES_FOR: Final = 6 * 3600.0
_MOST_BUCKETS: Final = 1_500
_SUCCEEDED: Final = 0
_FAILED: Final = (1, 2, CRASHED)
_CLASSES: Final[Mapping[Metric, tuple[int, ...] | None]] = {
    Metric.THROUGHPUT: None,
    Metric.SUCCESSES: (_SUCCEEDED,),
    Metric.FAILURES: _FAILED,
    Metric.QUEUE_WAIT: None,
    Metric.RUN_TIME: None,
}
_KINDS: Final[Mapping[Metric, int]] = {Metric.QUEUE_WAIT: WAIT, Metric.RUN_TIME: RUN_TIME}


@dataclass(frozen=True, slots=True)
class SeriesAsked:
    """A series that was asked for, checked. Times are in seconds."""

    metric: Metric
    bucket: int
    since: float
    task: str | None
    span: int

    @classmethod
    def of(
        cls, metric: Metric | str, bucket: Duration, since: Duration, task: str | None
    ) -> SeriesAsked:
        """Return it checked.

        Raises:
            ConfigurationError: There is no such metric, or there would be too many buckets.
        """
        try:
            known = Metric(metric)
        except ValueError:
            names = ", ".join(item.value for item in Metric)
            raise ConfigurationError(f"metric={metric!r}: expected one of {names}.") from None
        length, back = seconds(bucket, "bucket"), seconds(since, "since")
        span = 3600 if back > _MINUTES_FOR or length >= 3600 else 60
        whole = max(1, math.ceil(length / span)) * span
        if back / whole > _MOST_BUCKETS:
            raise ConfigurationError(
                f"bucket={bucket!r}, since={since!r}: more than {_MOST_BUCKETS:,} buckets; ask for "
                "longer ones, or for less time."
            )
        return cls(known, whole, back, task, span)


async def series_of(views: Views, asked: SeriesAsked, now: float) -> Series:
    """Return a series out of what was counted."""
    first = int(now - asked.since) // asked.bucket * asked.bucket
    kind = _KINDS.get(asked.metric, OUTCOMES)
    rows = await views.series(asked.span, kind, first, asked.bucket, asked.task)
    classes = _CLASSES[asked.metric]
    counts: dict[int, dict[int, int]] = {}
    for at, number, total in rows:
        if classes is None or number in classes:
            counts.setdefault(at, {})[number] = total
    starts = range(first, int(now) + 1, asked.bucket)
    timed = asked.metric in _KINDS
    return Series(
        asked.metric,
        float(asked.bucket),
        [_bucket(float(start), counts.get(start, {}), timed=timed) for start in starts],
    )


def _bucket(start: float, counts: Mapping[int, int], *, timed: bool) -> Bucket:
    histogram = Histogram(counts)
    if not timed:
        return Bucket(start, histogram.total)
    return Bucket(start, histogram.total, histogram.quantile(0.5), histogram.quantile(0.95))


async def task_reports(session: Session, now: float) -> list[TaskReport]:
    """Return what is known of every task that was ever enqueued."""
    views = session.store.views
    figures = await views.figures((OUTCOMES, RUN_TIME, WAIT), now - _DAY)
    find = session.parts.catalogue.find
    return [_report(name, find, figures) for name in await views.titles()]


def _report(
    name: str, find: Callable[[str], Any], figures: Mapping[int, Mapping[str, Mapping[int, int]]]
) -> TaskReport:
    outcomes = figures[OUTCOMES].get(name, {})
    run, wait = (Histogram(figures[kind].get(name, {})) for kind in (RUN_TIME, WAIT))
    known: dict[str, Any] = {"known": True}
    try:
        task = find(name)
    except (UnknownTaskError, ConfigurationError) as error:
        known = {"known": False, "why_unknown": str(error)}
    else:
        known["is_async"] = task.is_async
        known["summary"] = _first_line(task.function)
        known["parameters"] = task.signature.schema()
    return TaskReport(
        name=name,
        succeeded=outcomes.get(_SUCCEEDED, 0),
        failed=sum(outcomes.get(number, 0) for number in _FAILED),
        run_p50=run.quantile(0.5),
        run_p95=run.quantile(0.95),
        wait_p50=wait.quantile(0.5),
        wait_p95=wait.quantile(0.95),
        **known,
    )


def _first_line(function: object) -> str | None:
    text = inspect.getdoc(function)
    return text.strip().splitlines()[0] if text and text.strip() else None
