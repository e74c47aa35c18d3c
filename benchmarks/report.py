"""What was measured, as a table and as JSON, with what it was measured on.

What lives here: titles, versions, lines. What does not: measuring. Called by `__main__`.
"""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks import admin, between, depth, fairness, idle, life, raw, rivals, streams, web
from benchmarks.figures import Figures
from benchmarks.files import JOURNAL_MODE, SYNCHRONOUS
from benchmarks.goals import judged
from benchmarks.redis_server import redis_version

__all__ = ["FIGURES", "RATIOS", "about", "document", "number", "text", "write_json"]

FIGURES = [
    *raw.FIGURES, *life.FIGURES, *web.FIGURES, *between.FIGURES, *fairness.FIGURES,
    *streams.FIGURES, *depth.FIGURES, *admin.FIGURES, *idle.FIGURES,
]  # fmt: skip  # as they are printed

RATIOS = [
    *life.RATIOS, *web.RATIOS, *between.RATIOS, *fairness.RATIOS, *streams.RATIOS,
    *depth.RATIOS, *admin.RATIOS,
]  # fmt: skip  # as they are printed

_PACKAGES = (
    "embedded-tasks", "aiosqlite", "anyio", "fastapi", "starlette", "pydantic", "structlog",
    "uvicorn", "uvloop", "httptools",
)  # fmt: skip  # ours first, then what it stands on


def about(row_size: int, rounds: int, *, pure: bool) -> dict[str, str]:
    """Return what was measured on, and how."""
    load = os.getloadavg()[0]
    return {
        "machine": f"{platform.system()} on {platform.machine()}, {os.cpu_count()} CPUs",
        "load before": f"{load:.1f} (anything above 0.5 is somebody else's)",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "sqlite": sqlite3.sqlite_version,
        "redis": redis_version() or "not installed",
        **{name: _version(name) for name in _PACKAGES},
        "durability": f"journal_mode={JOURNAL_MODE}, synchronous={SYNCHRONOUS}",
        "row": f"{row_size} characters",
        "rounds": f"{rounds}, interleaved, after one to warm up",
        "http": f"one uvicorn process on {'asyncio and h11' if pure else 'uvloop and httptools'}, "
        f"{web.CONNECTIONS} connections from another process",
    }


def document(
    figures: Figures, facts: Mapping[str, str], peers: rivals.Rivals | None = None
) -> dict[str, Any]:
    """Return everything as it goes to JSON."""
    found = {figure: figures.summary(figure.key) for figure in FIGURES}
    ratios = {ratio: figures.ratio(ratio) for ratio in RATIOS}
    return {
        "about": dict(facts),
        "goals": [
            {
                "title": one.goal.title,
                "unit": one.goal.unit,
                "bound": one.goal.bound,
                "most": one.goal.most,
                "value": one.value,
                "met": one.met,
            }
            for one in judged(figures)
        ],
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
        "rivals": [_rival(rival, figures, peers) for rival in peers.chosen()] if peers else [],
    }


def text(found: Mapping[str, Any]) -> str:
    """Return everything as text: facts, figures, ratios, rivals, goals."""
    lines = [f"{name:15} {fact}" for name, fact in found["about"].items()]
    lines += ["", f"{'':70} {'median':>10} {'min':>10} {'max':>10}"]
    lines += [_line(one["title"], one["unit"], one) for one in found["figures"].values()]
    lines += ["", "Ratios, of samples of the same round:"]
    lines += [_line(one["title"], "", one) for one in found["ratios"].values()]
    for rival in found["rivals"]:
        lines += ["", f"{rival['name']} {rival['version']}: {rival['durability']}"]
        if rival["missing"]:
            lines.append(f"  not run: {rival['missing']}")
        lines += [
            _line(f"  {one['title']}", one["unit"], one) + f"  ours x {number(one['ours'])}"
            for one in rival["figures"].values()
        ]
    if found["goals"]:
        lines += ["", "Goals, each with the median of this run:"]
    for goal in found["goals"]:
        word = "at most" if goal["most"] else "at least"
        bound = f"{word} {number(goal['bound'])} {goal['unit']}".rstrip()
        mark = "yes" if goal["met"] else "NO"
        lines.append(f"{mark:>4} {goal['title']:66} {number(goal['value']):>10} ({bound})")
    return "\n".join(lines)


def write_json(path: Path, found: Mapping[str, Any]) -> None:
    """Write it for programs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n")


def number(value: float) -> str:
    """Return a number with as many digits as mean something."""
    if value >= 100 or value == 0:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.2 else f"{value:.3f}"


def _rival(rival: rivals.Rival, figures: Figures, peers: rivals.Rivals) -> dict[str, Any]:
    ours = rivals.RIVALS[0] if rival.kind == "async" else rivals.RIVALS[1]
    values: dict[str, Any] = {}
    for figure in rivals.FIGURES:
        summary = figures.summary(f"peer.{rival.name}.{figure.key}")
        own = figures.summary(f"peer.{ours.name}.{figure.key}")
        if summary and own:
            # How many times theirs ours is: more is better for a rate, less for a time.
            factor = own.median / max(summary.median, 1e-9)
            facts = {"title": figure.title, "unit": figure.unit, "ours": factor}
            values[figure.key] = facts | summary.as_json()
    return {
        "name": rival.name,
        "version": peers.versions.get(rival.name, ""),
        "kind": rival.kind,
        "durability": rival.durability,
        "missing": peers.missing.get(rival.name, ""),
        "figures": values,
    }


def _line(title: str, unit: str, one: Mapping[str, Any]) -> str:
    numbers = "".join(f" {number(one[key]):>10}" for key in ("median", "min", "max"))
    return f"{title:58} {unit:>11}{numbers}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
