"""huey on SQLite, its consumer in a process of its own.

What lives here: how it is driven. What does not: measuring. Started by `rivals.py`; the consumer
imports `huey`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.peers.harness import FOLDER, SLOTS, TEXT, Command, Peer, run
from benchmarks.peers.record import nothing

__all__ = ["huey"]

huey: Any = import_module("huey").SqliteHuey("bench", filename=str(FOLDER / "huey.db"))
_task = huey.task()(nothing)


class Huey(Peer):
    """With as many threads as the others have slots."""

    package = "huey"

    def __init__(self) -> None:
        consumer = Path(sys.executable).with_name("huey_consumer")
        name = "benchmarks.peers.with_huey.huey"
        self._worker = Command(str(consumer), name, "-w", str(SLOTS), "-k", "thread", "-q")

    def enqueue(self, number: int) -> None:
        _task(number, TEXT)

    async def start(self) -> None:
        self._worker.start()

    async def stop(self) -> None:
        self._worker.stop()


if __name__ == "__main__":
    # Imported under its own name, as the consumer does: a task is found by its module.
    run(import_module("benchmarks.peers.with_huey").Huey())
