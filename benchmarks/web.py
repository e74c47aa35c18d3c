"""The same endpoints with durable tasks, with plain ones, with none; with a runner and without.

What lives here: the servers, and the load on one after the other. What does not: the app and the
client, which run in processes of their own. Called by `__main__`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from urllib.request import urlopen

from benchmarks.figures import Figure
from benchmarks.files import Place

__all__ = ["CONNECTIONS", "FIGURES", "Web"]

CONNECTIONS = 50

_CASES = {
    "none": (False, "/none", "no task, no runner"),
    "installed": (True, "/none", "no task, runner installed"),
    "plain": (False, "/task", "one plain background task"),
    "durable": (True, "/task", "one durable background task"),
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

_ROOT = Path(__file__).resolve().parents[1]
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
        self._pure = ["--pure"] if pure else []
        self._stack = ExitStack()
        self._servers: dict[bool, int] = {}

    def __enter__(self) -> Self:
        self._servers = {
            False: self._serve([]),
            True: self._serve(["--database", str(self._place.fresh())]),
        }
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        values: dict[str, float] = {}
        for case, (durable, path, _) in _CASES.items():
            port = self._servers[durable]
            for key, value in self._load(port, path).items():
                values[f"http.{case}.{key}"] = value
            _wait_for_jobs(port)
        return values

    def _serve(self, arguments: list[str]) -> int:
        """Start a server and return its port."""
        process = self._stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.server", *self._pure, *arguments],
                cwd=_ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        self._stack.callback(process.terminate)
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the server did not start; what it wrote is above")
        return int(line)

    def _load(self, port: int, path: str) -> dict[str, float]:
        command = [sys.executable, "-m", "benchmarks.load", "--port", str(port), "--path", path]
        command += ["--seconds", str(self._seconds), "--connections", str(CONNECTIONS)]
        done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True, text=True)
        values: dict[str, float] = json.loads(done.stdout)
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
