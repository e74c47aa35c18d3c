"""The figures as a page shows them: tables in Markdown between two marks, and a plot.

What lives here: what is shown of a run's JSON, and how. What does not: measuring. Called as
`./scripts/bench page`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar, bars
from benchmarks.report import number

__all__ = ["main", "tables"]

BEGIN = "<!-- figures: written by ./scripts/bench page -->"
END = "<!-- end of figures -->"

_COLUMNS = {
    "enqueue.one": "enqueue, 1 caller",
    "enqueue.hundred": "100 callers",
    "whole": "enqueued, then run",
    "meanwhile": "enqueued meanwhile",
    "idle.p50": "start of one job, p50",
    "idle.p99": "p99",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Put the tables of a run into the page, and the plot beside it."""
    parser = argparse.ArgumentParser(prog="scripts/bench page", description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("data/bench.json"))
    parser.add_argument("--page", type=Path, default=Path("docs/explanation/performance.md"))
    options = parser.parse_args(arguments)
    found = json.loads(options.json.read_text())
    text = options.page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{options.page} has no place for figures")
    options.page.write_text(f"{before}{BEGIN}\n\n{tables(found)}\n{END}{after}")
    if found["rivals"]:
        options.page.with_suffix(".svg").write_text(_plot(found))


def tables(found: Mapping[str, Any]) -> str:
    """Return all tables of a run, as Markdown."""
    lines = [_machine(found["about"]), ""]
    if found["rivals"]:
        lines += ["### Beside others", "", *_rivals(found["rivals"]), ""]
    lines += ["### Goals", "", *_goals(found["goals"]), "", "### All figures", ""]
    lines += _rows(found["figures"].values())
    lines += ["", *_rows(found["ratios"].values(), "Ratio, within a round")]
    return "\n".join(lines) + "\n"


def _machine(about: Mapping[str, str]) -> str:
    names = ("machine", "load before", "python", "sqlite", "redis", "aiosqlite", "fastapi")
    more = ("uvicorn", "durability", "row", "rounds", "scale", "http")
    return "; ".join(f"{name} {about[name]}" for name in (*names, *more) if name in about) + "."


def _rivals(rivals: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| | " + " | ".join(_COLUMNS.values()) + " |"
    yield "|---|" + "---:|" * len(_COLUMNS)
    for rival in rivals:
        if not rival["figures"]:
            continue
        cells = []
        for key in _COLUMNS:
            one = rival["figures"][key]
            cell = f"{number(one['median'])}{' ms' if one['unit'] == 'ms' else ''}"
            if key == "whole" and not rival["name"].startswith("ours"):
                cell += f" (ours x {number(one['ours'])})"
            cells.append(cell)
        yield f"| {rival['name']} {rival['version']} | " + " | ".join(cells) + " |"
    yield ""
    yield "| | What is on the disk, and when | |"
    yield "|---|---|---|"
    for rival in rivals:
        missing = f"not run: {rival['missing']}" if rival["missing"] else ""
        yield f"| {rival['name']} | {rival['durability']} | {missing} |"


def _goals(goals: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| | median | goal | met |"
    yield "|---|---:|---|---|"
    for goal in goals:
        bound = (
            f"{'at most' if goal['most'] else 'at least'} {number(goal['bound'])} {goal['unit']}"
        )
        met = "yes" if goal["met"] else "**no**"
        yield f"| {goal['title']} | {number(goal['value'])} | {bound.rstrip()} | {met} |"


def _rows(values: Any, head: str = "") -> Iterator[str]:
    yield f"| {head} | median | min | max | |"
    yield "|---|---:|---:|---:|---|"
    for one in values:
        numbers = " | ".join(number(one[key]) for key in ("median", "min", "max"))
        yield f"| {one['title']} | {numbers} | {one.get('unit', '')} |"


def _plot(found: Mapping[str, Any]) -> str:
    shown = [rival for rival in found["rivals"] if "whole" in rival["figures"]]
    return bars(
        "Whole lives of jobs that do nothing, per second",
        [
            Bar(
                rival["name"],
                rival["figures"]["whole"]["median"],
                own=rival["name"].startswith("ours"),
            )
            for rival in shown
        ],
    )
