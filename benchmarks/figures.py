"""Figures: samples of several rounds, and ratios of samples of the same round.

What lives here: collecting and summing up. What does not: measuring and printing. Used by all
modules beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["Figure", "Figures", "Ratio", "Summary", "percentile"]


@dataclass(frozen=True)
class Figure:
    """What one row of the table says."""

    key: str
    title: str
    unit: str


@dataclass(frozen=True)
class Ratio:
    """One figure over another, taken round by round, so that a slow round counts for both."""

    over: str
    under: str
    title: str


@dataclass(frozen=True)
class Summary:
    """The samples of one row."""

    samples: Sequence[float]

    @property
    def low(self) -> float:
        return min(self.samples)

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    @property
    def high(self) -> float:
        return max(self.samples)

    def as_json(self) -> dict[str, object]:
        return {
            "min": self.low,
            "median": self.median,
            "max": self.high,
            "samples": list(self.samples),
        }


@dataclass
class Figures:
    """The samples of a whole run."""

    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.samples.setdefault(key, []).append(value)

    def summary(self, key: str) -> Summary | None:
        """Return the row of a figure, or None if it was not measured."""
        samples = self.samples.get(key)
        return Summary(samples) if samples else None

    def ratio(self, ratio: Ratio) -> Summary | None:
        """Return the row of a ratio, or None if one of its figures was not measured."""
        over, under = self.samples.get(ratio.over), self.samples.get(ratio.under)
        if not over or not under:
            return None
        return Summary([a / b for a, b in zip(over, under, strict=True)])


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that so many percent of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
