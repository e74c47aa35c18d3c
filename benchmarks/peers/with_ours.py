"""This package, driven like a rival: enqueued and run in one process.

What lives here: how it is driven. What does not: measuring. Started by `rivals.py`.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack

import structlog

from benchmarks.peers.harness import FOLDER, KIND, TEXT, Peer, run
from benchmarks.peers.record import nothing, nothing_async
from embedded_tasks import TaskRunner

__all__: list[str] = []


class Ours(Peer):
    """Enqueued by a runner that runs no jobs, or by the one that runs them if there is one."""

    package = "embedded-tasks"

    def __init__(self) -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        self._function = nothing_async if KIND == "async" else nothing
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        await self._renew(run_jobs=False)

    async def enqueue(self, number: int) -> None:
        await self._runner.enqueue(self._function, number, TEXT)

    async def start(self) -> None:
        await self._renew(run_jobs=True)

    async def stop(self) -> None:
        await self._renew(run_jobs=False)

    async def close(self) -> None:
        await self._stack.aclose()

    async def _renew(self, *, run_jobs: bool) -> None:
        await self._stack.aclose()
        self._runner = TaskRunner(FOLDER / "tasks.db", modules=["benchmarks"])
        await self._stack.enter_async_context(self._runner.open(run_jobs=run_jobs))


if __name__ == "__main__":
    run(Ours())
