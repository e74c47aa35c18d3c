"""The functions that child processes run as jobs.

What lives here: functions that note what they do in a file opened with O_APPEND, which survives
SIGKILL; tests judge by that file and not by our tables. What does not: processes. Imported by the
children.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from embedded_tasks import JobContext, Snooze

__all__ = [
    "ALL",
    "eat",
    "eat_memory",
    "fail",
    "fail_twice",
    "note",
    "refuse",
    "snooze",
    "snooze_once",
    "stubborn",
    "watchful",
    "work",
    "work_sync",
]


def note(word: str, key: str) -> None:
    """Write one line in one system call: what happened, to what, here, and when."""
    line = f"{word} {key} {os.getpid()} {time.monotonic_ns()}\n"
    number = os.open(os.environ["CRASH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(number, line.encode())
    finally:
        os.close(number)


def eat() -> None:
    """Use memory until there is none left."""
    eaten: list[bytes] = []
    while True:
        eaten.append(os.urandom(1) * 2**22)


def eat_memory(key: str) -> None:
    note("started", key)
    eat()


async def work(key: str, seconds: float) -> str:
    note("started", key)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note("cancelled", key)
        raise
    note("ended", key)
    return key


def work_sync(key: str, seconds: float) -> str:
    note("started", key)
    time.sleep(seconds)
    note("ended", key)
    return key


async def stubborn(key: str, seconds: float) -> None:
    """Swallow every cancellation until the time is over."""
    note("started", key)
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            note("cancelled", key)
    note("ended", key)


def watchful(ctx: JobContext, key: str, seconds: float) -> None:
    note("started", key)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if ctx.stopping:
            note("told", key)
            ctx.check()
        time.sleep(0.001)
    note("ended", key)


async def refuse(key: str) -> None:
    note("started", key)
    raise ValueError(key)


async def snooze(key: str, seconds: float) -> None:
    """Say "not now" most of the time."""
    note("started", key)
    if time.monotonic_ns() % 3:
        raise Snooze(seconds)
    note("ended", key)


async def snooze_once(key: str, seconds: float, ctx: JobContext) -> None:
    note("started", key)
    if ctx.attempt == 1:
        note("snoozed", key)
        raise Snooze(seconds)
    note("ended", key)


async def fail_twice(key: str, seconds: float, ctx: JobContext) -> None:
    note("started", key)
    await asyncio.sleep(seconds)
    if ctx.failures < 2:
        note("failed", key)
        raise ValueError(key)
    note("ended", key)


def fail(key: str, seconds: float) -> None:
    note("started", key)
    time.sleep(seconds)
    note("failed", key)
    raise ValueError(key)


ALL: tuple[tuple[Callable[..., Any], tuple[float, ...]], ...] = (
    (work, (0.0,)),
    (work, (0.02,)),
    (work, (0.3,)),
    (work_sync, (0.0,)),
    (work_sync, (0.02,)),
    (work_sync, (0.3,)),
    (watchful, (0.2,)),
    (stubborn, (0.5,)),
    (snooze, (0.05,)),
    (refuse, ()),
)
"""What a storm is made of."""
