"""Charts as numbers that a template draws as SVG.

What lives here: where bars stand and how high they are. What does not: the figures (`reports`) and
the SVG. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from embedded_tasks.admin.dashboard.words import amount, span
from embedded_tasks.reported import Bucket, Series

__all__ = ["RANGES", "Bar", "Chart", "Range", "counted", "timed"]

_WIDTH: Final = 600.0
_HEIGHT: Final = 100.0


@dataclass(frozen=True, slots=True)
class Range:
    """How far back a chart goes, and in which steps, in seconds."""

    name: str
    words: str
    since: int
    bucket: int


RANGES: Final = {
    each.name: each
    for each in (
        Range("1h", "last hour", 3_600, 60),
        Range("6h", "last 6 hours", 21_600, 600),
        Range("24h", "last 24 hours", 86_400, 3_600),
        Range("7d", "last 7 days", 604_800, 21_600),
    )
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One bucket: where it stands, and what it says. A second value stands inside the first."""

    x: float
    width: float
    y: float
    height: float
    start: float
    first: str
    second: str = ""
    inner_y: float = _HEIGHT
    inner_height: float = 0.0


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and its words.

    Args:
        title: What it shows.
        figure: The one number that it comes to.
        note: What that number is.
        tone: Which colour its bars have.
        top: What the highest bar stands for.
        columns: The heads of its table.
        bars: Oldest first; only those that are not empty.
        since: When it begins, in seconds since 1970.
        words: What it says, for who cannot see it.
    """

    title: str
    figure: str
    note: str
    tone: str
    top: str
    columns: tuple[str, ...]
    bars: list[Bar]
    since: float
    words: str


def counted(title: str, series: Series, tone: str, noun: str) -> Chart:
    """Return a chart of how many.

    Args:
        title: What it shows.
        series: The figures.
        tone: Which colour its bars have.
        noun: What is counted, in the plural.
    """
    total = sum(each.count for each in series.buckets)
    highest = max((each.count for each in series.buckets), default=0)
    step = span(series.seconds)
    bars = _bars(series, lambda each: float(each.count), lambda _: 0.0, float(highest))
    words = f"{title}: {amount(total)} {noun}"
    words += f", at most {amount(highest)} in {step}." if total else "."
    top = f"{amount(highest)} in {step}"
    return Chart(title, amount(total), noun, tone, top, ("From", noun), bars, _since(series), words)


def timed(title: str, series: Series, tone: str, noun: str) -> Chart:
    """Return a chart of how long: the 95th percentile, with the median inside."""
    slowest = max((each.p95 or 0.0 for each in series.buckets), default=0.0)
    measured = [each for each in series.buckets if each.count]
    latest = measured[-1] if measured else Bucket(0.0)
    bars = _bars(series, lambda each: each.p95 or 0.0, lambda each: each.p50 or 0.0, slowest)
    words = f"{title}: no {noun} yet."
    if measured:
        words = (
            f"{title}: the 95th percentile was {span(latest.p95)} last, {span(slowest)} at most."
        )
    columns = ("From", "Median", "95th percentile")
    note = "95th percentile, latest" if measured else "nothing measured yet"
    return Chart(
        title, span(latest.p95), note, tone, span(slowest), columns, bars, _since(series), words
    )


def _since(series: Series) -> float:
    return series.buckets[0].start if series.buckets else 0.0


def _bars(
    series: Series,
    value: Callable[[Bucket], float],
    inner: Callable[[Bucket], float],
    highest: float,
) -> list[Bar]:
    slot = _WIDTH / max(len(series.buckets), 1)
    bars: list[Bar] = []
    for index, each in enumerate(series.buckets):
        if not each.count:
            continue
        # What is there is seen, however small.
        height = max(value(each) / highest * _HEIGHT, 2.0) if highest else 2.0
        inside = inner(each) / highest * _HEIGHT if highest else 0.0
        times = each.p50 is not None
        bars.append(
            Bar(
                round(index * slot + slot * 0.12, 1),
                round(slot * 0.76, 1),
                round(_HEIGHT - height, 1),
                round(height, 1),
                each.start,
                span(each.p50) if times else amount(each.count),
                span(each.p95) if times else "",
                round(_HEIGHT - inside, 1),
                round(inside, 1),
            )
        )
    return bars
