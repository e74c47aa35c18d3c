"""The soak, short: nothing is left behind, and what is not level is found.

What lives here: a run of `benchmarks/soak.py` with few jobs, and its judgement. What does not: two
million jobs, which are for --soak. Called by pytest.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import soak
from benchmarks.soak import Sample, problems_of

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

LEVEL = [
    Sample(at=float(at), jobs=at * 100, memory=50.0, descriptors=18, threads=9, file=20.0, wal=30.0)
    for at in range(100)
]


def run(folder: Path, *arguments: str) -> tuple[int, dict[str, object]]:
    path = folder / "soak.json"
    code = soak.main(["--folder", str(folder), "--json", str(path), *arguments])
    return code, json.loads(path.read_text())


def test_a_short_soak_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "soak.svg"
    code, facts = run(
        tmp_path, "--jobs", "20000", "--keep", "1", "--life", "1.5", "--every", "0.1", "--svg",
        str(plot), "--leaks-only",
    )  # fmt: skip  # one line of values
    assert code == 0, capsys.readouterr().out
    assert facts["problems"] == []
    assert isinstance(facts["jobs"], int)
    assert facts["jobs"] >= 20_000
    assert plot.read_text().startswith("<svg")


@pytest.mark.slow
def test_two_million_jobs_leave_everything_level(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = run(tmp_path)
    assert code == 0, capsys.readouterr().out


def test_what_is_level_is_no_problem() -> None:
    assert problems_of(LEVEL) == []


@pytest.mark.parametrize("name", ["memory", "descriptors", "threads", "file", "wal"])
def test_what_grows_in_the_second_half_is_found(name: str) -> None:
    growing = [replace(one, **{name: getattr(one, name) * 2 ** (one.at / 25)}) for one in LEVEL]
    (problem,) = problems_of(growing)
    assert problem.startswith(f"{name} grows")


def test_what_grows_only_in_the_beginning_is_no_problem() -> None:
    assert problems_of([replace(one, memory=min(50.0, one.at)) for one in LEVEL]) == []
