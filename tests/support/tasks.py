"""Tasks that tests enqueue: at the top of a module of a known package, as a user's are.

What lives here: functions. What does not: tests. Called by the runner under test, which is told of
this package by `modules=["tests"]`.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from dataclasses import dataclass, field
from typing import Any, NoReturn

from embedded_tasks import JobContext, Retry, Snooze, task

__all__ = ["World", "world"]


@dataclass
class World:
    """What the tasks below do and saw; each test begins with a fresh one."""

    calls: list[tuple[Any, ...]] = field(default_factory=list)
    raises: list[BaseException | None] = field(default_factory=list)
    contexts: list[JobContext] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    thread_go_on: threading.Event = field(default_factory=threading.Event)
    runner: Any = None

    def reset(self) -> None:
        self.__init__()  # type: ignore[misc]  # a fresh world in the same place


world = World()
request_word: contextvars.ContextVar[str] = contextvars.ContextVar("request_word", default="none")


def _act() -> None:
    error = world.raises.pop(0) if world.raises else None
    if error is not None:
        raise error


async def note(*args: Any) -> int:
    """Remember the call, and do what the test wants next."""
    world.calls.append(args)
    _act()
    return len(world.calls)


def note_sync(*args: Any) -> int:
    world.calls.append(args)
    _act()
    return len(world.calls)


async def wait(name: str = "") -> str:
    """Run until the test says so."""
    world.calls.append((name,))
    world.started.set()
    await world.go_on.wait()
    _act()
    return name


async def wait_stubbornly() -> str:
    """Swallow every cancellation until the test says so."""
    world.started.set()
    while not world.go_on.is_set():
        try:
            await world.go_on.wait()
        except asyncio.CancelledError:
            continue
    return "stubborn"


async def clean_up_slowly() -> None:
    """When cancelled, need a moment to clean up."""
    world.started.set()
    try:
        await asyncio.Event().wait()
    finally:
        world.calls.append(("cleaning",))
        await world.go_on.wait()
        world.calls.append(("clean",))


def block(ctx: JobContext) -> str:
    """Block its thread until the test says so, whatever the context says."""
    world.contexts.append(ctx)
    world.thread_go_on.wait()
    return "unblocked"


def block_listening(ctx: JobContext) -> None:
    """Block its thread, and stop when told."""
    world.contexts.append(ctx)
    look_until_told(ctx)


def look_until_told(ctx: JobContext) -> NoReturn:
    """Look again and again, as sync functions do, until the context says to stop."""
    pause = threading.Event()
    while True:
        ctx.check()
        pause.wait(0.001)


async def wait_then_enqueue() -> None:
    """When it may go on, enqueue another job with the runner that the test has put here."""
    world.started.set()
    await world.go_on.wait()
    await world.runner.enqueue(note, "follow-up")


async def want_context(number: int, ctx: JobContext) -> dict[str, Any]:
    world.contexts.append(ctx)
    return {"number": number, "attempt": ctx.attempt, "request_id": ctx.request_id}


async def ask_for_retry(after: float | None = None) -> None:
    raise Retry("asked", after=after)


async def ask_for_snooze(delay: float) -> None:
    raise Snooze(delay, reason="not ready")


async def return_odd() -> object:
    """Return what cannot be stored."""
    return threading.Lock()


@task(max_attempts=3, backoff=[10, 20])
async def flaky(*args: Any) -> int:
    world.calls.append(args)
    _act()
    return len(world.calls)


@task(name="shop.receipt", aliases=("shop.old_receipt",), queue="mail", tags=["a", "b"])
async def send_receipt(order: int, to: str = "ann@example.org") -> str:
    world.calls.append((order, to))
    return to


@task
def typed(number: int, names: list[str]) -> None:
    world.calls.append((number, names))


def waits_twice_as_long(failures: int) -> float:
    return 2.0**failures


def waits_seven_seconds(failures: int) -> float:
    return 7.0


class OwnError(Exception):
    pass


class ChildError(OwnError):
    pass
