"""Starting the app that is measured, in a process of its own.

What lives here: a server and its port. What does not: the app (`server.py`) and load. Used by the
modules that measure.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

__all__ = ["Serving", "serve"]

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Serving:
    """A server.

    Args:
        port: Where it listens.
        process: Its process.
    """

    port: int
    process: subprocess.Popen[str]

    @property
    def pid(self) -> int:
        return self.process.pid

    def processor_time(self) -> float:
        """Return the seconds of processor time that it has had."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def end(self) -> float:
        """Tell it to end; return how many seconds that took."""
        begun = time.perf_counter()
        self.process.terminate()
        self.process.wait(timeout=60)
        return time.perf_counter() - begun

    def load(
        self, path: str, seconds: float, *, connections: int, pause: float = 0.0
    ) -> dict[str, float]:
        """Ask one path for a time; return requests/s and the milliseconds of answers."""
        command = [sys.executable, "-m", "benchmarks.load", "--port", str(self.port)]
        command += ["--path", path, "--seconds", str(seconds), "--pause", str(pause)]
        command += ["--connections", str(connections)]
        done = subprocess.run(command, cwd=_ROOT, stdout=subprocess.PIPE, check=True, text=True)
        values: dict[str, float] = json.loads(done.stdout)
        return values


@contextmanager
def serve(
    database: Path | None = None,
    *,
    least: Path | None = None,
    pure: bool = False,
    watched: bool = False,
    frozen: bool = False,
    first: str = "/waiting",
) -> Iterator[Serving]:
    """Yield a server, with a runner if there is a file for one; it is killed at the end.

    Args:
        database: The runner's file.
        least: The file of a bare group commit, to compare with.
        pure: Without uvicorn's fast parts.
        watched: With the status routes and the dashboard.
        frozen: The garbage collector is told to leave alone what the app has loaded.
        first: The path that is asked to see that it has started; this one looks at the file.
    """
    arguments = ["--database", str(database.resolve())] if database is not None else []
    arguments += ["--least", str(least.resolve())] if least is not None else []
    arguments += ["--pure"] if pure else []
    arguments += ["--watched"] if watched else []
    arguments += ["--frozen"] if frozen else []
    command = [sys.executable, "-m", "benchmarks.server", *arguments]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the server did not start; what it wrote is above")
            # Answered as soon as the app has started.
            with urlopen(f"http://127.0.0.1:{int(line)}{first}") as answer:
                answer.read()
            yield Serving(int(line), process)
        finally:
            # What still waits is of no interest; a shutdown would only take its time.
            process.kill()
