"""What was measured, as a table and as JSON, with what it was measured on.

What lives here: titles, ratios, versions. What does not: measuring. Called by `__main__`.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import life, raw, web
from benchmarks.figures import Figures, Ratio, Summary
from benchmarks.files import JOURNAL_MODE, SYNCHRONOUS

__all__ = ["RATIOS", "about", "table", "write_json"]

RATIOS = [
    Ratio("enqueue.one", "raw.one", "enqueue, one caller / SQLite alone, one row"),
    Ratio("enqueue.one", "raw.insert_crossing", "enqueue, one caller / our insert, bare crossing"),
    Ratio("enqueue.hundred", "raw.hundred", "enqueue, 100 callers / SQLite alone, 100 rows"),
    Ratio("enqueue.hundred", "raw.insert", "enqueue, 100 callers / our insert alone, 100 rows"),
    Ratio("life.async.whole", "raw.insert", "whole life, async / our insert alone, 100 rows"),
    Ratio("life.async.meanwhile", "raw.insert", "the same, enqueued while others are attempted"),
    Ratio("life.sync.whole", "raw.insert", "whole life, sync / our insert alone, 100 rows"),
    Ratio("life.sync.meanwhile", "raw.insert", "the same, enqueued while others are attempted"),
    Ratio("http.durable.rate", "http.plain.rate", "requests/s, durable task / plain task"),
    Ratio("http.durable.p99", "http.plain.p99", "99th percentile, durable task / plain task"),
    Ratio("http.installed.rate", "http.none.rate", "requests/s without tasks, runner / no runner"),
]

_PACKAGES = (
    "embedded-tasks", "aiosqlite", "anyio", "fastapi", "starlette", "pydantic", "structlog",
    "uvicorn", "uvloop", "httptools",
)  # fmt: skip  # ours first, then what it stands on


def about(row_size: int, rounds: int, *, pure: bool) -> dict[str, str]:
    """Return what was measured on, and how."""
    return {
        "machine": f"{platform.system()} on {platform.machine()}, {os.cpu_count()} CPUs",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        **{name: _version(name) for name in _PACKAGES},
        "durability": f"journal_mode={JOURNAL_MODE}, synchronous={SYNCHRONOUS}",
        "row": f"{row_size} characters",
        "rounds": f"{rounds}, interleaved, after one to warm up",
        "http": f"one uvicorn process on {'asyncio and h11' if pure else 'uvloop and httptools'}, "
        f"{web.CONNECTIONS} connections from another process",
    }


def table(figures: Figures, facts: dict[str, str]) -> str:
    """Return everything as text: facts, figures, ratios."""
    lines = [f"{name:15} {fact}" for name, fact in facts.items()]
    lines += ["", f"{'':70} {'median':>10} {'min':>10} {'max':>10}"]
    for figure in (*raw.FIGURES, *life.FIGURES, *web.FIGURES):
        lines += _line(figure.title, figure.unit, figures.summary(figure.key))
    lines += ["", "Ratios, of samples of the same round:"]
    for ratio in RATIOS:
        lines += _line(ratio.title, "", figures.ratio(ratio))
    return "\n".join(lines)


def write_json(path: Path, figures: Figures, facts: dict[str, str]) -> None:
    """Write the same for programs."""
    every = (*raw.FIGURES, *life.FIGURES, *web.FIGURES)
    found = {figure: figures.summary(figure.key) for figure in every}
    ratios = {ratio: figures.ratio(ratio) for ratio in RATIOS}
    document = {
        "about": facts,
        "figures": {
            figure.key: {"title": figure.title, "unit": figure.unit, **summary.as_json()}
            for figure, summary in found.items()
            if summary
        },
        "ratios": {
            f"{ratio.over} / {ratio.under}": {"title": ratio.title, **summary.as_json()}
            for ratio, summary in ratios.items()
            if summary
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")


def _line(title: str, unit: str, summary: Summary | None) -> list[str]:
    if summary is None:
        return []
    numbers = "".join(
        f" {_number(value):>10}" for value in (summary.median, summary.low, summary.high)
    )
    return [f"{title:58} {unit:>11}{numbers}"]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
