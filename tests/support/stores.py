"""Stores, open for the length of a test.

What lives here: opening one, a lock that costs nothing, and a lock that a test holds. What does
not: jobs (`jobs.py`). Called by tests of the store and of what writes to it.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from embedded_tasks.job import ClaimedJob, JobRecord
from embedded_tasks.store import Claim, ClaimResult, Store, StoreSettings
from tests.support.jobs import ME, NOW, job_id

__all__ = ["Gate", "claim", "claim_all", "opened", "record", "rows", "write"]


class Gate:
    """The writers' lock, as a test holds it: a transaction stops there until it may go on."""

    def __init__(self) -> None:
        self._turn = threading.Semaphore(0)
        self._shut = False
        self._after = False
        self._loop = asyncio.get_running_loop()
        self.reached = asyncio.Event()
        self.is_held = False
        self.error: Exception | None = None

    def shut(self, *, after: bool = False) -> None:
        """Stop the next transaction before it begins, or after it is committed."""
        self._after = after
        self._shut = True
        self.reached.clear()

    def let_go(self) -> None:
        """Let the stopped transaction go on, and all that follow."""
        if self._shut:
            self._shut = False
            self._turn.release()

    def next(self) -> None:
        """Let the stopped transaction go on, and stop the one after it."""
        self.reached.clear()
        self._turn.release()

    def acquire(self) -> None:
        if self.error is not None:
            raise self.error
        self.is_held = True
        if not self._after:
            self._stop()

    def release(self) -> None:
        self.is_held = False
        if self._after:
            self._stop()

    def acquire_within(self, seconds: float) -> None:
        self.acquire()

    def holders(self) -> str:
        return ""

    def _stop(self) -> None:
        if self._shut:
            self._loop.call_soon_threadsafe(self.reached.set)
            self._turn.acquire()


@asynccontextmanager
async def opened(
    path: str = ":memory:", gate: Gate | None = None, **changes: Any
) -> AsyncIterator[Store]:
    """Open a store; without `synchronous="FULL"`, as tests need no power cuts survived."""
    given: dict[str, Any] = {"path": path, "synchronous": "OFF"} | changes
    settings = StoreSettings(**given)
    store = await Store.open(settings, gate or Gate())
    try:
        yield store
    finally:
        if gate is not None:
            gate.error = None
            gate.let_go()
        await store.close()


async def claim(
    store: Store,
    *,
    limit: int = 100,
    now: float = NOW,
    owner: str = ME,
    tasks: Sequence[str] | None = None,
    suspects: bool = True,
) -> ClaimResult:
    """Claim jobs of these tasks, by default of all that the store has heard of."""
    names = await store.read.task_names()
    numbers = [number for number, name in names.items() if tasks is None or name in tasks]
    seen = max(names, default=0)
    return await store.claim(Claim(owner, now, [(numbers, limit)], names, seen, suspects))


async def claim_all(store: Store, **options: Any) -> list[ClaimedJob]:
    return (await claim(store, **options)).jobs


async def record(store: Store, number: int, now: float = NOW) -> JobRecord:
    found = await store.read.get(job_id(number), now)
    assert found is not None
    return found


async def rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    """Read with a statement of the test's own."""

    def work(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in connection.execute(sql)]

    return await store._connection.run(work)


async def write(store: Store, sql: str) -> None:
    """Run a statement of the test's own on the store's write connection."""
    await store._connection.run(lambda connection: connection.execute(sql).fetchall())
