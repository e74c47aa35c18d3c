"""The same endpoints with durable tasks, with plain ones, with none; with a runner and without.

What lives here: the servers, and the load on one after the other. What does not: the app and the
client, which run in processes of their own. Called by `__main__`.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Self
from urllib.request import urlopen

from benchmarks.figures import Figure, Ratio
from benchmarks.files import Place
from benchmarks.serving import Serving, serve

__all__ = ["CONNECTIONS", "FIGURES", "RATIOS", "Web"]

CONNECTIONS = 50

_CASES = {
    "none": ("bare", "/none", "no task, no runner"),
    "installed": ("runner", "/none", "no task, runner installed"),
    "plain": ("bare", "/task", "one plain background task"),
    "durable": ("runner", "/task", "one durable background task"),
    "least": ("least", "/least", "one row in a bare group commit, and nothing else"),
    "plain_frozen": ("bare, frozen", "/task", "one plain background task, gc.freeze()"),
    "durable_frozen": ("runner, frozen", "/task", "one durable background task, gc.freeze()"),
}

FIGURES = [
    Figure(f"http.{case}.{key}", f"HTTP, {title}{more}", unit)
    for case, (_, _, title) in _CASES.items()
    for key, more, unit in (
        ("rate", "", "requests/s"),
        ("p50", ": median", "ms"),
        ("p99", ": 99th percentile", "ms"),
    )
]

RATIOS = [
    Ratio("http.durable.rate", "http.plain.rate", "requests/s, durable task / plain task"),
    Ratio("http.durable_frozen.rate", "http.plain_frozen.rate", "... both after gc.freeze()"),
    Ratio("http.least.rate", "http.plain.rate", "requests/s, bare group commit / plain task"),
    Ratio("http.durable.rate", "http.least.rate", "requests/s, durable task / bare group commit"),
    Ratio("http.durable.p99", "http.plain.p99", "99th percentile, durable task / plain task"),
    Ratio("http.durable_frozen.p99", "http.plain_frozen.p99", "... both after gc.freeze()"),
    Ratio("http.installed.rate", "http.none.rate", "requests/s without tasks, runner / no runner"),
]

_PATIENCE = 60.0


class Web:
    """Measures one endpoint after the other, each in a server that does nothing else.

    Args:
        place: Where the runner's file is made.
        seconds: How long each endpoint is asked.
        pure: Run uvicorn as `pip install uvicorn` brings it (asyncio and h11), not with its fast
            parts (uvloop and httptools).
    """

    def __init__(self, place: Place, seconds: float, *, pure: bool) -> None:
        self._place = place
        self._seconds = seconds
        self._pure = pure
        self._stack = ExitStack()
        self._servers: dict[str, Serving] = {}

    def __enter__(self) -> Self:
        for kind, _, _ in _CASES.values():
            if kind not in self._servers:
                database = self._place.fresh() if "runner" in kind else None
                least = self._place.fresh() if kind == "least" else None
                server = serve(database, least=least, pure=self._pure, frozen="frozen" in kind)
                self._servers[kind] = self._stack.enter_context(server)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        values: dict[str, float] = {}
        for case, (kind, path, _) in _CASES.items():
            server = self._servers[kind]
            found = server.load(path, self._seconds, connections=CONNECTIONS)
            values |= {f"http.{case}.{key}": value for key, value in found.items()}
            _wait_for_jobs(server.port)
        return values


def _wait_for_jobs(port: int) -> None:
    """Wait until nothing of the last load is left to do, so that the next one is alone."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        with urlopen(f"http://127.0.0.1:{port}/waiting") as answer:
            if json.load(answer) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError(f"jobs were still waiting {_PATIENCE:g} s after the load")
