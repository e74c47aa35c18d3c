"""Functions that kill or block their process, and a supervisor that restarts it at once.

What lives here: what child processes run, and starting them again and again. What does not: what
must hold. Used by the tests of deaths.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
import warnings
from collections.abc import Callable
from typing import Any

from tests.crash.harness import LIMIT, Place, Worker, now
from tests.crash.tasks import note

__all__ = [
    "Supervisor",
    "abort",
    "block",
    "exit_at_once",
    "fork_and_abort",
    "kill_itself",
    "segfault",
    "wait_long",
]


async def exit_at_once(key: str) -> None:
    note("started", key)
    os._exit(3)


async def abort(key: str) -> None:
    note("started", key)
    os.abort()


async def segfault(key: str) -> None:
    note("started", key)
    os.kill(os.getpid(), signal.SIGSEGV)


def kill_itself(key: str) -> None:
    note("started", key)
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(LIMIT)


async def block(key: str, seconds: float) -> None:
    """Keep the event loop from going round."""
    note("started", key)
    time.sleep(seconds)  # noqa: ASYNC251  # the very thing
    note("ended", key)


def fork_and_abort(key: str) -> None:
    """Let a forked child crash, as a library may."""
    warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
    pid = os.fork()
    if pid == 0:
        os.abort()
    os.waitpid(pid, 0)
    note("ended", key)


async def wait_long(key: str, seconds: float) -> None:
    note("started", key)
    await asyncio.sleep(seconds)
    note("ended", key)


class Supervisor:
    """Restarts a worker the moment that it has died, until what is waited for is there.

    Args:
        place: Where.
        options: Of the runner.
    """

    def __init__(self, place: Place, **options: Any) -> None:
        self._place = place
        self._options = options
        self.deaths = 0
        self.worker: Worker = self._start()

    def _start(self) -> Worker:
        return self._place.begin_worker(**self._options)

    def until(self, holds: Callable[[], bool], limit: float = 60.0) -> float:
        """Keep it running until this is true; return the seconds that it took."""
        begun = now()
        while not holds():
            if now() - begun > limit:
                raise AssertionError(f"not within {limit} s, after {self.deaths} deaths")
            if self.worker.popen.poll() is not None:
                self.deaths += 1
                self.worker.end()
                self.worker = self._start()
            time.sleep(0.01)
        return now() - begun
