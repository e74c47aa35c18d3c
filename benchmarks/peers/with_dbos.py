"""DBOS on SQLite, run inside the process.

What lives here: how it is driven. What does not: measuring. Started by `rivals.py`.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any

from benchmarks.peers.harness import FOLDER, TEXT, Peer, run
from benchmarks.peers.record import nothing

__all__: list[str] = []

_QUEUE = "bench"
_URL = f"sqlite:///{FOLDER}/dbos.sqlite"


class Dbos(Peer):
    """Enqueued by its client, as an app does that runs no workflows; run after `launch`."""

    package = "dbos"

    async def open(self) -> None:
        self._module: Any = import_module("dbos")
        self._workflow = self._module.DBOS.workflow(name="nothing")(nothing)
        # Launched once, it makes the tables and the queue.
        await self.start()
        await self.stop()

    def enqueue(self, number: int) -> None:
        options = {"queue_name": _QUEUE, "workflow_name": "nothing"}
        self._client.enqueue(options, number, TEXT)

    async def start(self) -> None:
        await asyncio.to_thread(self._launch)
        self._client: Any = self._module.DBOSClient(system_database_url=_URL)

    async def stop(self) -> None:
        await asyncio.to_thread(self._module.DBOS.destroy)

    def _launch(self) -> None:
        config = {"name": "bench", "system_database_url": _URL, "log_level": "ERROR"}
        self._module.DBOS(config={**config, "run_admin_server": False})
        self._module.DBOS.launch()
        self._module.DBOS.register_queue(_QUEUE)


if __name__ == "__main__":
    run(Dbos())
