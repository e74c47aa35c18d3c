"""The functions that child processes run as jobs.

What lives here: functions that note what they do in a file opened with O_APPEND, which survives
SIGKILL; tests judge by that file and not by our tables. What does not: processes. Imported by the
children.
"""

from __future__ import annotations

import asyncio
import os
import time

from embedded_tasks import JobContext

__all__ = ["note", "refuse", "stubborn", "stubborn_sync", "watchful", "work", "work_sync"]


def note(word: str, key: str) -> None:
    """Write one line in one system call: what happened, to what, here, and when."""
    line = f"{word} {key} {os.getpid()} {time.monotonic_ns()}\n"
    number = os.open(os.environ["CRASH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(number, line.encode())
    finally:
        os.close(number)


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


def stubborn_sync(key: str, seconds: float) -> None:
    """A sync function that looks at nothing; another name, so that it can have another policy."""
    work_sync(key, seconds)


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
