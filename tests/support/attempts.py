"""An attempt on the bench: any function, no store, a clock that is moved by hand.

What lives here: `Bench`. What does not: the worker around it. Called by tests of attempts and of
whatever takes one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from embedded_tasks.attempt import Attempt, Ports
from embedded_tasks.codec import Codec
from embedded_tasks.config import Policy, TaskOptions
from embedded_tasks.context import Original
from embedded_tasks.engine import ChildOptions, Children, Threads
from embedded_tasks.errors import UnknownTaskError
from embedded_tasks.job import Outcome
from embedded_tasks.references import References
from embedded_tasks.task import Task
from tests.support.clock import FakeClock
from tests.support.jobs import claimed_job

__all__ = ["Bench", "bench"]


class Bench:
    """Everything that an attempt needs, and what it told.

    Args:
        threads: Where sync functions are called.
    """

    def __init__(self, threads: Threads) -> None:
        self.clock = FakeClock()
        self.threads = threads
        self.codec = Codec(References(modules=["tests"]), 10_000)
        options = ChildOptions(lambda: ["tests"], 10_000)
        self.children = Children(asyncio.get_running_loop(), self.clock, options)
        self.tasks: dict[str, Task] = {}
        self.late: list[Attempt] = []
        self.ends: list[Outcome] = []
        self._outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._late = asyncio.Event()

    def ports(self) -> Ports:
        return Ports(
            find=self._find,
            codec=self.codec,
            clock=self.clock,
            rng=Random(0),
            threads=self.threads,
            children=self.children,
            patience=2.0,
        )

    def add(self, function: Callable[..., Any], options: TaskOptions | None = None) -> str:
        """Make a function known as a task; return its name."""
        name = f"shop:{len(self.tasks)}"
        self.tasks[name] = Task(name, function, Policy().with_options(options or {}), False)
        return name

    def attempt(
        self,
        function: Callable[..., Any],
        *args: Any,
        options: TaskOptions | None = None,
        original: Original | None = None,
        **job: Any,
    ) -> Attempt:
        """Return an attempt of a function that has not started."""
        name = self.add(function, options)
        text = self.codec.encode_arguments(args, {}, name)
        given: dict[str, Any] = {"task": name, "args": text} | job
        claimed = claimed_job(**given)
        return Attempt(claimed, self.ports(), original, self._ended, self._returned_late)

    def start(self, function: Callable[..., Any], *args: Any, **more: Any) -> Attempt:
        attempt = self.attempt(function, *args, **more)
        attempt.start()
        return attempt

    async def run(self, function: Callable[..., Any], *args: Any, **more: Any) -> Outcome:
        """Start an attempt and return what it came to."""
        self.start(function, *args, **more)
        return await self.outcome()

    async def outcome(self) -> Outcome:
        return await asyncio.shield(self._outcome)

    async def returned_late(self) -> None:
        await self._late.wait()

    def _find(self, name: str) -> Task:
        if name not in self.tasks:
            raise UnknownTaskError(name, "it is not there")
        return self.tasks[name]

    def _ended(self, attempt: Attempt, outcome: Outcome) -> None:
        self.ends.append(outcome)
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    def _returned_late(self, attempt: Attempt) -> None:
        self.late.append(attempt)
        self._late.set()


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    threads = Threads(asyncio.get_running_loop())
    try:
        yield Bench(threads)
    finally:
        threads.close()
