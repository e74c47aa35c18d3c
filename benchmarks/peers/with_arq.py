"""arq on Redis, its worker in a process of its own.

What lives here: how it is driven. What does not: measuring. Started by `rivals.py`; the worker
imports `WorkerSettings`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, ClassVar

from benchmarks.peers.harness import REDIS, TEXT, Command, Peer, run
from benchmarks.peers.record import nothing

__all__ = ["WorkerSettings"]


def _settings() -> Any:
    return import_module("arq.connections").RedisSettings.from_dsn(REDIS)


async def job(_ctx: dict[str, Any], number: int, text: str) -> None:
    nothing(number, text)


class WorkerSettings:
    """Its defaults: 10 jobs at a time, a look at the queue every half second."""

    functions: ClassVar = [job]
    redis_settings: ClassVar[Any] = _settings() if REDIS else None


class Arq(Peer):
    """A pool of connections in the app, a worker beside it."""

    package = "arq"

    def __init__(self) -> None:
        arguments = ["-m", "arq", "benchmarks.peers.with_arq.WorkerSettings"]
        self._worker = Command(sys.executable, *arguments)

    async def open(self) -> None:
        self._pool: Any = await import_module("arq").create_pool(_settings())

    async def enqueue(self, number: int) -> None:
        await self._pool.enqueue_job("job", number, TEXT)

    async def start(self) -> None:
        self._worker.start()

    async def stop(self) -> None:
        self._worker.stop()

    async def close(self) -> None:
        await self._pool.aclose()


if __name__ == "__main__":
    run(Arq())
