"""The sample app as a child process, which may be killed and started again.

What lives here: starting, killing and stopping it. What does not: what is done to the app
meanwhile. Used by the demo.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

__all__ = ["SampleApp", "free_port", "is_taken"]

_LONGEST_START = 30.0


class SampleApp:
    """A uvicorn that serves the sample app.

    Args:
        data: The folder of its files.
        port: Where it listens.
        smtp_port: Where its mail server listens.
        output: Where its output goes; None (default) shows it.
    """

    def __init__(
        self, data: Path, port: int, smtp_port: int, output: IO[bytes] | None = None
    ) -> None:
        self.port = port
        self._output = output
        self._environment = os.environ | {
            "SAMPLE_DATA": str(data),
            "SAMPLE_PORT": str(port),
            "SAMPLE_SMTP_PORT": str(smtp_port),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running().pid

    def start(self) -> None:
        """Start it, and return when it listens.

        Raises:
            RuntimeError: It ended instead, or it took too long.
        """
        command = [sys.executable, "-m", "uvicorn", "sample_app.main:app", "--log-level", "warning"]
        self._process = subprocess.Popen(
            [*command, "--port", str(self.port)],
            env=self._environment,
            stdout=self._output,
            stderr=self._output,
        )
        deadline = time.monotonic() + _LONGEST_START
        while not is_taken(self.port):
            if self._process.poll() is not None:
                raise RuntimeError(f"the app ended at its start, with {self._process.returncode}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the app does not listen after {_LONGEST_START:g} s")
            time.sleep(0.02)

    def wait(self) -> int:
        """Wait for its end; return how it ended, as subprocess tells it."""
        return self._running().wait()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._running().kill()
        self._running().wait()

    def stop(self) -> None:
        """End it in good order, if it runs; after ten seconds, end it anyway."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError("the app was not started")
        return self._process


def is_taken(port: int) -> bool:
    """Tell whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port of this machine that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number
