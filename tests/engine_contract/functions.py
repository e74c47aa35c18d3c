"""Functions that engines call: at the top of a module, so that a child process finds them.

What lives here: functions with an end of every kind, and `Engine`, which calls them in one way.
What does not: tests. Imported by the tests beside it, and by children.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from contextvars import Context
from typing import Any

from embedded_tasks import JobContext, Retry, Snooze
from embedded_tasks.clock import SystemClock
from embedded_tasks.engine import (
    ChildOptions,
    Children,
    Encoded,
    Order,
    RemoteError,
    Threads,
    start_on_loop,
)
from embedded_tasks.failure import describe
from embedded_tasks.job import AttemptError
from embedded_tasks.payload import decode
from embedded_tasks.references import References

__all__ = ["KNOWN", "Engine", "children_of_this_loop", "order"]

KNOWN = ["tests"]


def five() -> int:
    return 5


def bad() -> None:
    raise ValueError("bad")


def leave() -> None:
    sys.exit(3)


def cancel() -> None:
    raise asyncio.CancelledError


def close() -> None:
    raise GeneratorExit


def get_pid() -> int:
    return os.getpid()


async def double(number: int, *, plus: int = 0) -> int:
    await asyncio.sleep(0)
    return 2 * number + plus


def tell(ctx: JobContext, word: str) -> str:
    ctx.progress(1, 2, word)
    ctx.log(word, level="warning", place=object)
    return f"{ctx.job_id} {ctx.attempt} {ctx.queue} {ctx.request_id}"


class Odd:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def tell_odd_things(ctx: JobContext) -> None:
    ctx.log("nul \0 and \ud800", odd=Odd(), nested={(1, 2): {3}})


def tell_often(ctx: JobContext, times: int) -> None:
    for time in range(times):
        ctx.progress(time + 1, times)


def tell_twice_and_wait(ctx: JobContext) -> None:
    ctx.progress(1, 2)
    ctx.progress(2, 2)
    wait_until_told(ctx)


_left_behind: list[JobContext] = []


def leave_context(ctx: JobContext) -> None:
    _left_behind.append(ctx)


def tell_of_another() -> None:
    _left_behind[-1].progress(1)
    _left_behind[-1].log("too late")


def wait_until_told(ctx: JobContext) -> None:
    while not ctx.stopping:
        threading.Event().wait(0.001)
    ctx.check()


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


def say_and_wait(ctx: JobContext) -> None:
    ctx.progress(1)
    wait_until_told(ctx)


async def say_and_wait_for_ever(ctx: JobContext) -> None:
    # Said when it waits.
    asyncio.get_running_loop().call_soon(ctx.progress, 1)
    await asyncio.Event().wait()


def hang() -> None:
    threading.Event().wait()


def die() -> None:
    os._exit(7)


def sleepy() -> None:
    raise Snooze(30, reason="not \ud800 now")


def again() -> None:
    raise Retry("once more", after=5)


def unstorable() -> object:
    return object()


def order(work: Callable[..., Any] | str, args: str = "[1,[],{}]", version: int = 1) -> Order:
    """Return what a child is told to call."""
    name = work if isinstance(work, str) else f"{work.__module__}:{work.__qualname__}"
    return Order(name, version, args, None, {"job_id": "id"})


def niceness() -> int:
    return os.nice(0)


def children_of_this_loop(**options: Any) -> Children:
    known = ChildOptions(lambda: KNOWN, 10_000, **options)
    return Children(asyncio.get_running_loop(), SystemClock(), known)


class Engine:
    """One kind of engine, called in one way."""

    def __init__(self, kind: str, threads: Threads, children: Children | None = None) -> None:
        self.kind = kind
        self.threads = threads
        self.children = children
        self.told: list[tuple[Any, BaseException | None]] = []
        self.told_in: list[int] = []
        self.stops = 0
        self.begun = asyncio.Event()
        self.context = JobContext(job_id="id", task="task", attempt=3, request_id="r")
        self._ended = asyncio.Event()

    def start(self, work: Callable[[], Any], context: Context | None = None) -> Any:
        """Call `work`, which is sync in every engine."""
        context = context or Context()
        if self.children is not None:
            return self.send(order(work))
        if self.kind == "threads":
            return self.threads.start(work, context, self._done, self._stop)

        async def on_loop() -> Any:
            return work()

        return start_on_loop(on_loop, (), {}, context, self._done)

    def send(self, order: Order) -> Any:
        """Let a child call what is ordered."""
        assert self.children is not None
        return self.children.start(order, self.context, self.begun.set, self._done)

    async def end(self) -> tuple[Any, BaseException | None]:
        await self._ended.wait()
        value, error = self.told[-1]
        if isinstance(value, Encoded) and value.text is not None:
            value = None if value.text == "null" else decode(value.text, References(modules=KNOWN))
        return value, error

    async def run(self, work: Callable[[], Any], context: Context | None = None) -> Any:
        self.start(work, context)
        return await self.end()

    async def error(self, work: Callable[[], Any]) -> AttemptError:
        """Call what fails; return the error as it is kept."""
        value, error = await self.run(work)
        assert value is None
        assert error is not None
        return error.record if isinstance(error, RemoteError) else describe(error)

    def forget(self) -> None:
        self._ended.clear()

    def _done(self, value: Any, error: BaseException | None) -> None:
        self.told.append((value, error))
        self.told_in.append(threading.get_ident())
        self._ended.set()

    def _stop(self) -> None:
        self.stops += 1
