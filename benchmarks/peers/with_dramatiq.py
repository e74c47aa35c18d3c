"""dramatiq on Redis, its workers as they are by default.

What lives here: how it is driven. What does not: measuring. Started by `rivals.py`; the workers
import `actor`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

from benchmarks.peers.harness import REDIS, TEXT, Command, Peer, run
from benchmarks.peers.record import nothing

__all__ = ["actor"]

_dramatiq: Any = import_module("dramatiq")
_dramatiq.set_broker(import_module("dramatiq.brokers.redis").RedisBroker(url=REDIS))
actor = _dramatiq.actor(nothing)


class Dramatiq(Peer):
    """A process per CPU, eight threads each; it keeps no outcome."""

    package = "dramatiq"

    def __init__(self) -> None:
        self._worker = Command(sys.executable, "-m", "dramatiq", "benchmarks.peers.with_dramatiq")

    def enqueue(self, number: int) -> None:
        actor.send(number, TEXT)

    async def start(self) -> None:
        self._worker.start()

    async def stop(self) -> None:
        self._worker.stop()


if __name__ == "__main__":
    run(Dramatiq())
