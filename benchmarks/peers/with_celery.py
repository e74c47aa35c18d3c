"""Celery on Redis, outcomes in Redis too, its worker as it is by default.

What lives here: how it is driven. What does not: measuring. Started by `rivals.py`; the worker
imports `app`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from benchmarks.peers.harness import REDIS, TEXT, Command, Peer, run
from benchmarks.peers.record import nothing

__all__ = ["app"]

app: Any = import_module("celery").Celery("bench", broker=REDIS, backend=REDIS)
_task = app.task(nothing, name="nothing")


class Celery(Peer):
    """Forked processes, one per CPU."""

    package = "celery"

    def __init__(self) -> None:
        arguments = ["-m", "celery", "-A", "benchmarks.peers.with_celery", "worker", "-l", "ERROR"]
        self._worker = Command(sys.executable, *arguments)

    def enqueue(self, number: int) -> None:
        _task.delay(number, TEXT)

    async def start(self) -> None:
        self._worker.start()

    async def stop(self) -> None:
        self._worker.stop()


if __name__ == "__main__":
    run(Celery())
