"""What jobs do to requests that have nothing to do with them.

What lives here: the times of a `/ping` beside a pool that is full. What does not: the server.
Called by `__main__`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.figures import Figure, Ratio
from benchmarks.files import Place
from benchmarks.filled import fill
from benchmarks.jobs import burn_in_a_process, burn_in_a_thread, nothing
from benchmarks.serving import serve

__all__ = ["FIGURES", "RATIOS", "Fairness"]

_CASES: dict[str, tuple[str, Callable[[int], Any] | None, int]] = {
    "none": ("no jobs", None, 0),
    "async": ("async jobs that do nothing", nothing, 40_000),
    "process": ('CPU work with run_in="process"', burn_in_a_process, 400),
    "thread": ("CPU work in threads", burn_in_a_thread, 400),
}

FIGURES = [
    Figure(f"ping.{case}.{key}", f"/ping beside {title}{more}", "ms")
    for case, (title, _, _) in _CASES.items()
    for key, more in (("p50", ": median"), ("p99", ": 99th percentile"))
]

RATIOS = [
    Ratio(f"ping.{case}.p99", "ping.none.p99", f"99th percentile of /ping, {title} / no jobs")
    for case, (title, function, _) in _CASES.items()
    if function is not None
]

_CONNECTIONS = 4
_PAUSE = 0.005


class Fairness:
    """Measures the times of a request that comes 800 times a second at most.

    Args:
        place: Where files are made.
        seconds: How long, for each kind of job.
        pure: As in `Web`.
    """

    def __init__(self, place: Place, seconds: float, *, pure: bool) -> None:
        self._place = place
        self._seconds = seconds
        self._pure = pure

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        values: dict[str, float] = {}
        for case, (_, function, a_second) in _CASES.items():
            path = self._place.fresh()
            if function is not None:
                # More than can be done meanwhile.
                fill(self._place, function, int(a_second * (self._seconds + 1)), path=path)
            with serve(path, pure=self._pure) as server:
                found = server.load("/ping", self._seconds, connections=_CONNECTIONS, pause=_PAUSE)
            values |= {f"ping.{case}.{key}": found[key] for key in ("p50", "p99")}
        return values
