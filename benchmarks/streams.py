"""What those who watch cost: fifty open dashboards, and fifty streams of all events.

What lives here: requests and jobs with and without them, and how long the end of the process takes.
What does not: the watchers, which run in a process of their own. Called by `__main__`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.request import Request, urlopen

from benchmarks.figures import Figure, Ratio
from benchmarks.files import Place
from benchmarks.filled import fill
from benchmarks.jobs import nothing
from benchmarks.serving import Serving, serve

__all__ = ["FIGURES", "RATIOS", "Streams"]

_WATCHERS: Final = 50
_CONNECTIONS: Final = 50
_ROOT: Final = Path(__file__).resolve().parents[1]
_PATIENCE: Final = 120.0
_LOOK_EVERY: Final = 0.05

_CASES: Final[Mapping[str, tuple[str, list[str]]]] = {
    "none": ("nobody watches", []),
    "pages": (f"{_WATCHERS} dashboards", ["--pages", str(_WATCHERS)]),
    "events": (f"{_WATCHERS} streams of all events", ["--streams", str(_WATCHERS)]),
}

FIGURES = [
    Figure(f"watched.{case}.{key}", f"{title}: {what}", unit)
    for case, (title, watchers) in _CASES.items()
    for key, what, unit, always in (
        ("rate", "durable endpoint", "requests/s", True),
        ("p50", "... median", "ms", True),
        ("p99", "... 99th percentile", "ms", True),
        ("cost", "... processor time of the server, a request", "ms", True),
        ("jobs", "jobs that do nothing, drained", "jobs/s", True),
        ("job_cost", "... processor time of the server, a job", "ms", True),
        ("exit", "from SIGTERM to the end of the process", "s", True),
        ("client", "processor time of the watchers, of a second", "s", False),
        ("sent", "sent to the watchers", "MB/s", False),
        ("reads", "pages that were read anew", "per s", case == "pages"),
    )
    if always or (watchers and key != "reads")
]

RATIOS = [
    Ratio(f"watched.{case}.{key}", f"watched.none.{key}", f"{what}, {title} / nobody")
    for case, (title, watchers) in _CASES.items()
    if watchers
    for key, what in (
        ("rate", "requests/s"),
        ("p99", "99th percentile"),
        ("cost", "processor time a request"),
        ("jobs", "jobs/s"),
        ("job_cost", "processor time a job"),
    )
]


class Streams:
    """Measures requests and jobs while nobody watches, dashboards are open, events are followed.

    Args:
        place: Where files are made.
        seconds: How long requests are sent, in each case.
        jobs: How many jobs are drained, in each case.
        pure: As in `Web`.
    """

    def __init__(self, place: Place, seconds: float, jobs: int, *, pure: bool) -> None:
        self._place = place
        self._seconds = seconds
        self._jobs = jobs
        self._pure = pure
        self._odd = False

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        # What is measured first finds a smaller file; each round begins at the other end.
        cases = list(_CASES)[:: -1 if self._odd else 1]
        self._odd = not self._odd
        found: dict[str, float] = {}
        with serve(self._place.fresh(), pure=self._pure, watched=True) as server:
            for case in cases:
                found |= self._requests(server, case)
        for case in cases:
            found |= self._backlog(case)
        return {f"watched.{key}": value for key, value in found.items()}

    def _requests(self, server: Serving, case: str) -> dict[str, float]:
        with _watching(server, case) as watched:
            used, begun = server.processor_time(), time.perf_counter()
            found = server.load("/task", self._seconds, connections=_CONNECTIONS)
            took = time.perf_counter() - begun
            used = server.processor_time() - used
            _wait(server.port, 0, begun)
        # The load's own warm-up is in both.
        requests = found["rate"] * self._seconds
        values = {**found, "cost": used * 1000 / requests}
        if watched:
            values |= {
                "client": watched["cpu"] / took,
                "sent": watched["bytes"] / took / 1e6,
            }
            if case == "pages":
                values["reads"] = watched["reads"] / took
        return {f"{case}.{key}": value for key, value in values.items()}

    def _backlog(self, case: str) -> dict[str, float]:
        path = fill(self._place, nothing, self._jobs)
        asyncio.run(self._pause(path))
        with serve(path, pure=self._pure, watched=True) as server, _watching(server, case):
            used, begun = server.processor_time(), time.perf_counter()
            address = f"http://127.0.0.1:{server.port}/admin/api/v1/queues/default/resume"
            with urlopen(Request(address, method="POST")) as answer:
                answer.read()
            took = _wait(server.port, 0, begun)
            used = server.processor_time() - used
            found = {
                "jobs": self._jobs / took,
                "job_cost": used * 1000 / self._jobs,
                "exit": server.end(),
            }
        return {f"{case}.{key}": value for key, value in found.items()}

    async def _pause(self, path: Path) -> None:
        async with self._place.runner(path) as runner:
            await runner.control.pause("default")


def _wait(port: int, left: int, begun: float) -> float:
    """Wait until no more jobs than so many are left; return for how long since a time."""
    while (now := time.perf_counter()) < begun + _PATIENCE:
        with urlopen(f"http://127.0.0.1:{port}/waiting") as answer:
            if json.load(answer) <= left:
                return now - begun
        time.sleep(_LOOK_EVERY)
    raise RuntimeError(f"jobs were still waiting after {_PATIENCE:g} s")


@contextmanager
def _watching(server: Serving, case: str) -> Iterator[dict[str, float]]:
    """Watch; what came of it is there at the end."""
    found: dict[str, float] = {}
    _, watchers = _CASES[case]
    if not watchers:
        yield found
        return
    command = [sys.executable, "-m", "benchmarks.watchers", "--port", str(server.port), *watchers]
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError("the watchers did not start; what they wrote is above")
        yield found
        process.stdin.write("\n")
        process.stdin.flush()
        found |= json.loads(process.stdout.readline())
