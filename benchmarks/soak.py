"""A long run with failures, retries, cancels, expiries and restarts: is anything left behind?

What lives here: one process that lives for the whole run, one beside it that is restarted and
killed in turn, what is measured of them, and whether it is level. What does not: the jobs
(`soak_child.py`). Called by `./scripts/bench soak`; reads /proc, so it runs on Linux only.
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.plot import Panel, svg

__all__ = ["Sample", "main", "problems_of"]

_CHILD = "from benchmarks.soak_child import main; main()"
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Sample:
    """What one look has found; sizes in MiB, of the process that lives for the whole run."""

    at: float
    jobs: int
    memory: float
    descriptors: int
    threads: int
    file: float
    wal: float


@dataclass(frozen=True, slots=True)
class _Level:
    """What may be more in the last quarter than in the one before it.

    Args:
        of: What is compared of each quarter.
        share: A part of the value.
        slack: And this much.
    """

    of: Callable[[Sequence[float]], float]
    share: float
    slack: float


# Memory and file: their mean, which a leak moves. The WAL goes up and down within its bound.
_LEVELS = {
    "memory": _Level(fmean, 0.05, 2.0),
    "descriptors": _Level(max, 0.0, 4.0),
    "threads": _Level(max, 0.0, 2.0),
    "file": _Level(fmean, 0.10, 4.0),
    "wal": _Level(max, 0.25, 8.0),
}


def problems_of(samples: Sequence[Sample], names: Sequence[str] = tuple(_LEVELS)) -> list[str]:
    """Return what of these is not level in the second half of a run."""
    end = samples[-1].at
    third = [sample for sample in samples if end * 0.5 <= sample.at < end * 0.75]
    last = [sample for sample in samples if sample.at >= end * 0.75]
    if not third:
        return ["There are too few samples."]
    found = []
    for name in names:
        level = _LEVELS[name]
        before, after = (
            level.of([getattr(sample, name) for sample in quarter]) for quarter in (third, last)
        )
        if after > before * (1 + level.share) + level.slack:
            found.append(
                f"{name} grows: {before:.1f} in the third quarter, {after:.1f} in the last"
            )
    return found


@dataclass
class _Soak:
    """One run.

    Args:
        folder: Where the file is made.
        jobs: How many are to be enqueued.
        keep: Seconds that finished jobs are kept.
        life: Seconds from one restart of the second process to the next.
        every: Seconds between two looks.
        names: What has to be level.
    """

    folder: Path
    jobs: int
    keep: float
    life: float
    every: float
    names: Sequence[str]
    samples: list[Sample] = field(default_factory=list)
    restarts: int = 0
    kills: int = 0

    def __post_init__(self) -> None:
        self._stack = ExitStack()
        self._children = 0
        self._begun = 0.0
        self._errors = self.folder / "errors"

    def run(self) -> list[str]:
        """Run until so many jobs were enqueued and all have ended; return the problems."""
        with self._stack:
            steady = self._start(drains=True)
            self._begun = time.monotonic()
            other = self._start(drains=False)
            until = self._begun + self.life
            while self._enqueued() < self.jobs:
                time.sleep(self.every)
                self._look(steady.pid)
                if steady.poll() is not None:
                    return [f"The steady process ended: {steady.returncode}", *self._troubles()]
                if time.monotonic() >= until:
                    self._end_other(other)
                    other = self._start(drains=False)
                    until += self.life
            self._look(steady.pid)
            _stop(other)
            _stop(steady, limit=300)
        return [*problems_of(self.samples, self.names), *self._left(), *self._troubles()]

    def _end_other(self, other: subprocess.Popen[bytes]) -> None:
        self.restarts += 1
        if self.restarts % 2:
            self.kills += 1
            other.kill()
            other.wait()
        else:
            _stop(other)

    def _start(self, *, drains: bool) -> subprocess.Popen[bytes]:
        self._children += 1
        options = {
            "path": str(self.folder / "tasks.db"),
            "progress": str(self.folder / f"progress.{self._children}"),
            "keep": self.keep,
            "drains": drains,
        }
        with self._errors.open("ab") as errors:
            child = subprocess.Popen(
                [sys.executable, "-c", _CHILD, json.dumps(options)],
                stdin=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._stack.callback(_end, child)
        return child

    def _enqueued(self) -> int:
        texts = (path.read_text() for path in self.folder.glob("progress.*"))
        return sum(int(text) for text in texts if text)

    def _look(self, pid: int) -> None:
        status = Path(f"/proc/{pid}/status").read_text()
        facts = dict(line.split(":", 1) for line in status.splitlines())
        self.samples.append(
            Sample(
                at=round(time.monotonic() - self._begun, 2),
                jobs=self._enqueued(),
                memory=round(int(facts.get("VmRSS", "0 kB").split()[0]) / 1024, 2),
                descriptors=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
                threads=int(facts["Threads"]),
                file=_size(self.folder / "tasks.db"),
                wal=_size(self.folder / "tasks.db-wal"),
            )
        )

    def _left(self) -> list[str]:
        """Every job has ended: none waits, runs or is held when the last process has left."""
        with closing(sqlite3.connect(self.folder / "tasks.db")) as connection:
            sound = connection.execute("PRAGMA integrity_check").fetchall()
            rows = connection.execute(
                "SELECT state, count(*), min(reason) FROM jobs "
                "WHERE state IN ('queued', 'running', 'held') GROUP BY state"
            ).fetchall()
        return [f"left at the end: {row}" for row in rows] + [
            f"integrity: {row}" for row in sound if row != ("ok",)
        ]

    def _troubles(self) -> list[str]:
        return self._errors.read_text().splitlines()[:20]


def _size(path: Path) -> float:
    try:
        return round(path.stat().st_size / _MIB, 2)
    except FileNotFoundError:
        return 0.0


def _stop(child: subprocess.Popen[bytes], limit: float = 60) -> None:
    """End a child as a deploy does: it gives back what it has not started."""
    if child.stdin is not None:
        child.stdin.close()
    if child.wait(limit):
        raise RuntimeError(f"a child of the soak ended with {child.returncode}")


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        child.stdin.close()
    if child.poll() is None:
        child.kill()
        child.wait()


def _thinned(samples: Sequence[Sample], most: int = 400) -> list[Sample]:
    step = max(1, len(samples) // most)
    return list(samples[::step])


def _report(soak: _Soak, problems: list[str], options: argparse.Namespace) -> dict[str, Any]:
    samples = soak.samples
    names = [one.name for one in fields(Sample)]
    facts = {
        "jobs": samples[-1].jobs,
        "seconds": samples[-1].at,
        "restarts": soak.restarts,
        "of_these_kills": soak.kills,
        "kept_for": soak.keep,
        "problems": problems,
        "columns": names,
        "samples": [list(asdict(sample).values()) for sample in _thinned(samples)],
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(facts) + "\n")
    if options.svg is not None:
        options.svg.write_text(_plot(_thinned(samples)))
    return facts


def _plot(samples: Sequence[Sample]) -> str:
    titles = {
        "jobs": "jobs enqueued, thousands",
        "memory": "memory of the process, MiB",
        "descriptors": "open file descriptors",
        "threads": "threads",
        "file": "database file, MiB",
        "wal": "write-ahead log, MiB",
    }
    panels = [
        Panel(title, [getattr(one, key) / (1000 if key == "jobs" else 1) for one in samples])
        for key, title in titles.items()
    ]
    return svg("The soak, over its seconds", [sample.at for sample in samples], panels)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a soak, print what it came to, write JSON and a plot; return 1 if it is not level."""
    parser = argparse.ArgumentParser(prog="scripts/bench soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=2_000_000)
    parser.add_argument("--keep", type=float, default=20.0, help="seconds (default 20)")
    parser.add_argument("--life", type=float, default=7.0, help="seconds (default 7)")
    parser.add_argument("--every", type=float, default=1.0, help="seconds (default 1)")
    parser.add_argument(
        "--leaks-only", action="store_true", help="judge no sizes: the run is too short for that"
    )
    parser.add_argument("--json", type=Path, default=Path("data/soak.json"))
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("data"))
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        names = ["descriptors", "threads"] if options.leaks_only else list(_LEVELS)
        soak = _Soak(Path(folder), options.jobs, options.keep, options.life, options.every, names)
        problems = soak.run()
    facts = _report(soak, problems, options)
    print(f"{facts['jobs']:,} jobs in {facts['seconds']:,.0f} s, {soak.restarts} restarts")
    print("\n".join(problems) or "All is level in the second half.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
