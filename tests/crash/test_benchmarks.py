"""The benchmarks run, and say what they measured: with tiny numbers, and without other packages.

What lives here: one run of each kind, and what becomes of figures. What does not: how fast anything
is. Called by pytest.
"""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks import page, report, rivals
from benchmarks.figures import Figures
from benchmarks.files import Place
from benchmarks.goals import GOALS, judged
from benchmarks.idle import _counted, _of_threads, can_trace
from benchmarks.rivals import RIVALS, Rivals

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="they read /proc")

ROOT = Path(__file__).resolve().parents[2]
TINY = ["--pure", "--cold", "--rounds", "1", "--scale", "0.005", "--depth", "300", "--dead", "3"]
FACTS = {"machine": "a machine"}
TRACE = """\
7 epoll_wait(3, [], 1, 100) = 0
7 futex(0x1, FUTEX_WAIT <unfinished ...>
9 pwrite64(5, "..."..., 4096, 0) = 4096
7 <... futex resumed>) = 0
9 fdatasync(5) = 0
8 <detached ...>
"""


def bench(folder: Path, *arguments: str) -> dict[str, Any]:
    path = folder / "bench.json"
    command = [sys.executable, "-m", "benchmarks", *TINY, "--json", str(path)]
    command += ["--folder", str(folder), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(path.read_text())
    for one in (*found["figures"].values(), *found["ratios"].values()):
        assert one["title"] in done.stdout
    return found


def figures() -> Figures:
    """Every figure, one sample: the rivals' are half of ours."""
    made = Figures({figure.key: [100.0] for figure in report.FIGURES})
    for rival in RIVALS:
        value = 100.0 if rival.module == "ours" else 50.0
        for figure in rivals.FIGURES:
            made.add({f"peer.{rival.name}.{figure.key}": value})
    return made


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("groups", "figure"),
    [
        (["raw", "enqueue", "life"], "life.async.p99"),
        (["http"], "http.durable.p99"),
        (["between"], "latency.other.p99"),
        (["fairness"], "ping.process.p99"),
        pytest.param(["admin"], "admin.beside.p99", marks=SLOW),
        (["streams"], "watched.events.exit"),
        pytest.param(["prune"], "prune.removed", marks=SLOW),
        pytest.param(["depth"], "depth.later", marks=SLOW),
    ],
)
def test_each_group_measures(tmp_path: Path, groups: list[str], figure: str) -> None:
    found = bench(tmp_path, "--only", *groups)
    assert figure in found["figures"]
    assert all(one["median"] >= 0 for one in found["ratios"].values())


@pytest.mark.parametrize("group", ["disk", pytest.param("idle", marks=SLOW)])
def test_what_strace_counts_is_counted_or_skipped(tmp_path: Path, group: str) -> None:
    found = bench(tmp_path, "--only", group, "--seconds-idle", "0.5")
    wanted = {group} if can_trace() else set()
    assert {key.split(".")[0] for key in found["figures"]} == wanted


def test_calls_in_a_trace_are_counted_once_each() -> None:
    assert _counted(TRACE) == {"epoll_wait": 1, "futex": 1, "pwrite64": 1, "fdatasync": 1}
    assert _of_threads(TRACE, 7) == 2


def test_ours_is_driven_like_a_rival(tmp_path: Path) -> None:
    found = bench(tmp_path, "--only", "--peers", "ours")
    assert [rival["name"] for rival in found["rivals"]] == ["ours, async", "ours, sync"]
    for rival in found["rivals"]:
        assert not rival["missing"]
        assert set(rival["figures"]) == {figure.key for figure in rivals.FIGURES}
        assert rival["figures"]["whole"]["ours"] == 1.0


def test_a_rival_that_cannot_run_is_skipped_with_a_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rivals, "redis_version", lambda: None)
    peers = Rivals(Place(tmp_path), 1.0, ("RQ, Redis",))
    peers.prepare()
    missing = dict.fromkeys(("RQ, Redis", "RQ, Redis synced"), "redis-server is not installed")
    assert peers.missing == missing
    document = report.document(Figures(), FACTS, peers)
    assert "not run: redis-server is not installed" in report.text(document)
    assert "not run: redis-server is not installed" in page.tables(document)


def test_every_goal_is_measured_by_a_figure() -> None:
    assert [one.goal for one in judged(figures())] == GOALS


def test_a_goal_is_met_within_its_bound_and_not_beyond() -> None:
    samples = {"http.durable.rate": [70.0, 79.0, 90.0], "http.plain.rate": [100.0, 100.0, 100.0]}
    (one,) = judged(Figures(samples))
    assert (one.value, one.met) == (0.79, False)
    samples["http.durable.rate"][1] = 81.0
    (one,) = judged(Figures(samples))
    assert one.met
    (one,) = judged(Figures({"latency.own.p50": [0.31]}))
    assert not one.met


def test_the_page_gets_its_tables_and_its_plot(tmp_path: Path) -> None:
    place = tmp_path / "performance.md"
    place.write_text(f"before\n{page.BEGIN}\nold\n{page.END}\nafter\n")
    found = report.document(figures(), FACTS, Rivals(Place(tmp_path), 1.0))
    source = tmp_path / "bench.json"
    report.write_json(source, found)
    for _ in range(2):
        page.main(["--json", str(source), "--page", str(place)])
    text = place.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert text.count("(ours x 2.00)") == sum(rival.module != "ours" for rival in RIVALS)
    for figure in report.FIGURES:
        assert f"| {figure.title} | 100 | 100 | 100 |" in text
    plot = ET.parse(place.with_suffix(".svg")).getroot()
    lengths = [float(bar.attrib["width"]) for bar in plot.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(lengths) == len(RIVALS)
    assert {round(length / max(lengths), 2) for length in lengths} == {1.0, 0.5}
