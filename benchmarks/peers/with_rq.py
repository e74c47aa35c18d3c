"""RQ on Redis, one worker, which forks for each job.

What lives here: how it is driven. What does not: measuring. Started by `rivals.py`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from benchmarks.peers.harness import REDIS, TEXT, Command, Peer, run
from benchmarks.peers.record import nothing

__all__: list[str] = []


class RQ(Peer):
    """One worker, as its documentation starts it."""

    package = "rq"

    def __init__(self) -> None:
        command = Path(sys.executable).with_name("rq")
        self._worker = Command(str(command), "worker", "--url", REDIS, "-q", "bench")
        connection = import_module("redis").Redis.from_url(REDIS)
        self._queue = import_module("rq").Queue("bench", connection=connection)

    def enqueue(self, number: int) -> None:
        self._queue.enqueue(nothing, number, TEXT)

    async def start(self) -> None:
        self._worker.start()

    async def stop(self) -> None:
        self._worker.stop()


if __name__ == "__main__":
    run(RQ())
