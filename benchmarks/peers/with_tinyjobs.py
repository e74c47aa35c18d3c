"""tinyjobs on SQLite, its worker inside the process.

What lives here: how it is driven. What does not: measuring. Started by `rivals.py`.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from importlib import import_module
from typing import Any

from benchmarks.peers.harness import FOLDER, KIND, SLOTS, TEXT, Peer, run
from benchmarks.peers.record import nothing, nothing_async

__all__: list[str] = []


class TinyJobs(Peer):
    """As its documentation has it for FastAPI: `lifespan(worker=True)`."""

    package = "tinyjobs"

    async def open(self) -> None:
        self._app: Any = import_module("tinyjobs").TinyJobs(f"sqlite:///{FOLDER}/jobs.db")
        self._task = self._app.task(nothing_async if KIND == "async" else nothing)
        self._app_stack, self._worker = AsyncExitStack(), AsyncExitStack()
        await self._app_stack.enter_async_context(self._app)

    async def enqueue(self, number: int) -> None:
        await self._task.aenqueue(number, TEXT)

    async def start(self) -> None:
        served = self._app.serve(worker=True, concurrency=SLOTS)
        await self._worker.enter_async_context(served)

    async def stop(self) -> None:
        await self._worker.aclose()

    async def close(self) -> None:
        await self._app_stack.aclose()


if __name__ == "__main__":
    run(TinyJobs())
