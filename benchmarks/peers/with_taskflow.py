"""fastapi-taskflow on SQLite, run inside the process.

What lives here: how it is driven. What does not: measuring. Started by `rivals.py`.
"""

from __future__ import annotations

import asyncio
import time
from importlib import import_module
from typing import Any

from benchmarks.peers.harness import FOLDER, KIND, TEXT, Peer, run
from benchmarks.peers.record import nothing, nothing_async

__all__: list[str] = []


class Taskflow(Peer):
    """Its tasks are in memory until they have run; "enqueued" is `add_task`, as in a request.

    What was added while it did not run is run in order, as at the end of requests.
    """

    package = "fastapi-taskflow"

    async def open(self) -> None:
        self._module: Any = import_module("fastapi_taskflow")
        self._manager = self._module.TaskManager(
            snapshot_db=str(FOLDER / "tasks.db"), requeue_pending=True
        )
        self._function = nothing_async if KIND == "async" else nothing
        self._manager.task(persist=True)(self._function)
        await self._manager.startup()
        self._running = False
        self._kept: list[Any] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def enqueue(self, number: int) -> None:
        tasks = self._module.ManagedBackgroundTasks(self._manager)
        tasks.add_task(self._function, number, TEXT)
        if self._running:
            self._run(tasks)
            # The caller is a request, and others have a turn after it.
            await asyncio.sleep(0)
        else:
            self._kept.append(tasks)

    async def start(self) -> None:
        self._running = True
        kept, self._kept = self._kept, []
        for tasks in kept:
            self._run(tasks)

    async def settled(self, last: float) -> float:
        await asyncio.gather(*self._tasks)
        return max(last, time.monotonic())

    async def stop(self) -> None:
        self._running = False

    async def close(self) -> None:
        await self._manager.shutdown()

    def _run(self, tasks: Any) -> None:
        task = asyncio.create_task(tasks())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


if __name__ == "__main__":
    run(Taskflow())
