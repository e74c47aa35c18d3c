"""Requests on the bench: their jobs, reserved as the adapter does it, over a real worker.

What lives here: `Line`, and a store that fails. What does not: the requests themselves
(`tests/web`). Called by tests of the chains.
"""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from embedded_tasks.chain import Chains
from embedded_tasks.config import TaskOptions
from embedded_tasks.context import Original
from embedded_tasks.enqueue import Reserved
from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.job import JobRecord
from tests.support.jobs import ME, claimed_job, job_id, new_job, running_job
from tests.support.stores import record
from tests.support.turns import until
from tests.support.workers import Blocking, Shop, shop

__all__ = ["FailingStore", "Line", "failing", "lined_up"]


class Line:
    """Requests, and the worker that runs their jobs."""

    def __init__(self, at: Shop) -> None:
        self.at = at
        self.seen: list[Any] = []
        self.stored: list[float] = []
        self.ended: list[str] = []
        self.chains = Chains(
            at.worker, at.store, ME, at.clock, stored=self.stored.append, ended=self.ended.extend
        )

    async def reserve(
        self, *functions: Callable[..., Any], first: int = 1, options: TaskOptions | None = None
    ) -> list[Reserved]:
        """Store one job for each function, as a request does."""
        reserved, rows = [], []
        for place, function in enumerate(functions):
            name = self.at.add(function, options)
            number, leads = first + place, place < len(functions) - 1
            values: dict[str, Any] = {
                "task": name,
                "args": "[1,[],{}]",
                "leads": leads,
                "due_at": self.at.clock.now(),
            }
            if place == 0:
                rows.append(running_job(number, **values))
            else:
                rows.append(new_job(number, owner=ME, after=job_id(number - 1), **values))
            job = claimed_job(number, task=name, args="[1,[],{}]", leads=leads)
            original = Original((), {}, contextvars.copy_context())
            is_async = self.at.bench.tasks[name].is_async
            reserved.append(Reserved(job, is_async, original, begun=place == 0))
        await self.at.store.insert(rows)
        self.chains.expect(reserved)
        return reserved

    def note(self, word: str) -> Callable[[], Any]:
        async def note() -> None:
            self.seen.append(word)

        return note

    def fail(self, word: str) -> Callable[[], Any]:
        async def fail() -> None:
            self.seen.append(word)
            raise ValueError(word)

        return fail

    async def ready(self) -> None:
        """Let the worker find that nothing else is due."""
        self.at.open()
        await self.at.quiet()

    async def occupy(self) -> Blocking:
        """Start a request's job that keeps its slot until it is let go."""
        block = Blocking()
        self.chains.start(await self.reserve(block))
        await until(lambda: block.started)
        return block

    async def jobs(self, count: int) -> list[JobRecord]:
        await self.at.quiet()
        return [await record(self.at.store, n) for n in range(1, count + 1)]


@asynccontextmanager
async def lined_up(slots: tuple[int, int] = (1, 1)) -> AsyncIterator[Line]:
    """Requests at a worker with so many async and sync slots."""
    async with shop(slots=slots) as at:
        line = Line(at)
        yield line
        await line.chains.close()


class FailingStore:
    """A store whose releases or begins fail as often as it is told."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.failures: dict[str, int] = {}
        self.error: Exception = StoreUnavailableError("full")

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*args: Any) -> Any:
            if self.failures.get(name, 0) > 0:
                self.failures[name] -= 1
                raise self.error
            return await method(*args)

        return call if name in ("release", "begin") else method


def failing(line: Line) -> FailingStore:
    store: Any = FailingStore(line.at.store)
    line.chains._store = line.chains._releases._store = store
    return cast(FailingStore, store)
