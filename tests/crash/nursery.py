"""A process that has imported everything and forks servers: a tenth of a second each.

What lives here: both ends of it. It has no threads, so that a fork is safe at any time. What does
not: the app that is served. Used by `storm.py`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from typing import NoReturn, cast

import uvicorn
import uvicorn._subprocess as subprocesses
from uvicorn.supervisors import Multiprocess

from tests.crash.harness import Place, Server
from tests.crash.worker import make_runner

__all__ = ["Nursery"]

# Imported here for those that are forked.
_IMPORTED = (Multiprocess, make_runner)


class Nursery:
    """Starts servers that are forked, and not imported anew.

    Args:
        place: Where they work.
        workers: How many processes a server has; with more than one, uvicorn supervises them.
        environment: More of their environment.
    """

    def __init__(self, place: Place, workers: int = 1, **environment: str) -> None:
        code = f"from tests.crash.nursery import main; main({workers})"
        self._child = place.script(code, **environment)
        self._last: Server | None = None
        place.finally_do(self._end)

    def server(self, port: int) -> Server:
        """Start a server without waiting until it is ready."""
        nursed = _Nursed(self, self.ask("start", port))
        self._last = Server(cast("subprocess.Popen[bytes]", nursed), port)
        return self._last

    def _end(self) -> None:
        if self._last is not None and self._last.popen.poll() is None:
            self._last.end()

    def ask(self, what: str, number: int) -> int:
        popen = self._child.popen
        assert popen.stdin is not None
        assert popen.stdout is not None
        popen.stdin.write(f"{what} {number}\n".encode())
        popen.stdin.flush()
        return int(popen.stdout.readline())


class _Nursed:
    """A server, with the part of `subprocess.Popen` that the harness needs."""

    stdin = stdout = None

    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery = nursery
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            answer = self._nursery.ask("poll", self.pid)
            self.returncode = None if answer == _RUNS else answer
        return self.returncode

    def wait(self, timeout: float) -> int:
        until = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired("a nursed server", timeout)
            time.sleep(0.002)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


_RUNS = 1_000


def main(workers: int) -> None:
    """Fork servers as standard input says, and tell of their ends."""
    # uvicorn starts a program for each worker, which takes as long as everything that it imports.
    subprocesses.spawn = multiprocessing.get_context("fork")  # type: ignore[assignment]
    for line in iter(sys.stdin.readline, ""):
        what, number = line.split()
        if what == "start":
            answer = os.fork()
            if not answer:
                _serve(int(number), workers)
        else:
            pid, status = os.waitpid(int(number), os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else _RUNS
        os.write(1, f"{answer}\n".encode())


def _serve(port: int, workers: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        for number in (0, 1):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        uvicorn.run("tests.crash.app:app", port=port, workers=workers, log_level="error")
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001  # as the interpreter does at its end
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
