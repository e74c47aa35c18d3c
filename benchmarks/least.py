"""The least that a durable task costs a request: a row in a group commit, a mark in a later one.

What lives here: that, and nothing else: no checks, retries, slots, recovery, or other processes.
What does not: the runner. Called by `server.py`, so that it is seen what a machine allows.
"""

from __future__ import annotations

import asyncio
import threading
import uuid
from pathlib import Path
from queue import SimpleQueue

from fastapi import BackgroundTasks, FastAPI

from benchmarks.files import Place
from benchmarks.jobs import nothing

__all__ = ["add_least"]

_COLUMNS = "id TEXT PRIMARY KEY, body TEXT NOT NULL, state TEXT NOT NULL"
_BODY = "x" * 64

_Batch = tuple[list[str], list[str], list[asyncio.Future[None]]]


def add_least(app: FastAPI, path: Path) -> None:
    """Add `/least`: an answer that waits for a row on the disk, and a mark after its task."""
    store = _Store(path)

    async def run_and_mark(id: str) -> None:
        await nothing(1)
        store.done(id)

    @app.post("/least")
    async def least(background_tasks: BackgroundTasks) -> dict[str, bool]:
        background_tasks.add_task(run_and_mark, await store.add())
        return {"ok": True}


class _Store:
    """Stores jobs and marks them as done, all that wait in one transaction of another thread.

    Args:
        path: A file that is not there yet.
    """

    def __init__(self, path: Path) -> None:
        self._connection = Place.connect(path)
        self._connection.execute(f"CREATE TABLE jobs ({_COLUMNS}) WITHOUT ROWID")
        self._batches: SimpleQueue[_Batch] = SimpleQueue()
        self._new: list[str] = []
        self._done: list[str] = []
        self._futures: list[asyncio.Future[None]] = []
        self._busy = False
        threading.Thread(target=self._commit_all, daemon=True).start()

    async def add(self) -> str:
        """Store a job; return its id when it is on the disk."""
        id = uuid.uuid4().hex
        future = asyncio.get_running_loop().create_future()
        self._new.append(id)
        self._futures.append(future)
        self._soon()
        await future
        return id

    def done(self, id: str) -> None:
        """Mark a job as done with the next commit."""
        self._done.append(id)
        self._soon()

    def _soon(self) -> None:
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        batch = (self._new, self._done, self._futures)
        self._new, self._done, self._futures = [], [], []
        self._loop = asyncio.get_running_loop()
        self._batches.put(batch)

    def _commit_all(self) -> None:
        while True:
            new, done, futures = self._batches.get()
            self._connection.execute("BEGIN IMMEDIATE")
            if new:
                rows = ", ".join([f"(?, '{_BODY}', 'queued')"] * len(new))
                self._connection.execute(f"INSERT INTO jobs VALUES {rows}", new)
            if done:
                ids = ", ".join("?" * len(done))
                self._connection.execute(
                    f"UPDATE jobs SET state = 'done' WHERE id IN ({ids})", done
                )
            self._connection.execute("COMMIT")
            self._loop.call_soon_threadsafe(self._committed, futures)

    def _committed(self, futures: list[asyncio.Future[None]]) -> None:
        for future in futures:
            if not future.done():
                future.set_result(None)
        self._busy = False
        if self._new or self._done:
            self._soon()
