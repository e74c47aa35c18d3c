"""Functions that hang, each in its own way, and functions that kill what they run in.

What lives here: functions that note what they do, as those of `tasks.py`. What does not: processes.
Imported by the children of the tests of hangs and of child processes.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from embedded_tasks import JobContext, task
from tests.crash.tasks import note

__all__ = ["DEATHS", "HANGS_IN_C", "HANGS_IN_CHILDREN"]

_FOR_EVER = 1_000_000


def wait(key: str) -> None:
    note("started", key)
    threading.Event().wait()


def wait_in_c(key: str) -> None:
    """C code that has let go of the interpreter's lock."""
    note("started", key)
    ctypes.CDLL(None).sleep(_FOR_EVER)


def hold(key: str) -> None:
    """C code that keeps the interpreter's lock: nothing else of Python runs in this process."""
    note("started", key)
    ctypes.PyDLL(None).sleep(_FOR_EVER)


def spin(key: str) -> None:
    note("started", key)
    while True:
        pass


async def swallow(key: str) -> None:
    """Swallow every cancellation, for ever."""
    note("started", key)
    while True:
        try:
            await asyncio.sleep(_FOR_EVER)
        except asyncio.CancelledError:
            note("cancelled", key)


async def swallow_once(key: str) -> None:
    """Swallow the first cancellation, and then wait for another, which does not come."""
    note("started", key)
    for _ in range(2):
        try:
            await asyncio.sleep(_FOR_EVER)
        except asyncio.CancelledError:
            note("cancelled", key)


async def block_in_c(key: str) -> None:
    """An async function in a child that keeps its own event loop for ever."""
    note("started", key)
    ctypes.CDLL(None).sleep(_FOR_EVER)


HANGS_IN_C = ("wait", "wait_in_c")
HANGS_IN_CHILDREN = ("wait", "wait_in_c", "hold", "spin", "swallow", "swallow_once", "block_in_c")


def until_told(key: str) -> None:
    """Hang until the test makes a file."""
    note("started", key)
    while not Path(f"{os.environ['CRASH_LOG']}.go").exists():
        time.sleep(0.01)
    note("ended", key)


def listen(ctx: JobContext, key: str) -> None:
    note("started", key)
    while not ctx.stopping:
        time.sleep(0.005)
    note("told", key)
    ctx.check()


async def listen_async(key: str) -> None:
    note("started", key)
    try:
        await asyncio.sleep(_FOR_EVER)
    finally:
        note("cancelled", key)


def healthy(key: str) -> int:
    note("started", key)
    note("ended", key)
    return os.getpid()


async def healthy_async(key: str) -> int:
    note("started", key)
    await asyncio.sleep(0)
    note("ended", key)
    return os.getpid()


@task(run_in="process")
def in_child(key: str) -> int:
    note("started", key)
    note("ended", key)
    return os.getpid()


@task(run_in="process")
async def in_child_async(key: str) -> int:
    note("started", key)
    await asyncio.sleep(0)
    note("ended", key)
    return os.getpid()


@task(run_in="process")
def work_in_child(key: str, seconds: float) -> int:
    note("started", key)
    time.sleep(seconds)
    note("ended", key)
    return os.getpid()


def die(key: str, how: str) -> None:
    note("started", key)
    if how == "exit":
        os._exit(3)
    elif how == "abort":
        os.abort()
    else:
        os.kill(os.getpid(), signal.SIGKILL)


DEATHS = {"exit": "exit code 3", "abort": "SIGABRT", "kill": "SIGKILL"}


def start_others(key: str) -> None:
    """Start a program, and hang."""
    note("started", key)
    started = subprocess.Popen(["sleep", str(_FOR_EVER)])
    note(f"pid{started.pid}", key)
    threading.Event().wait()


def eat(key: str) -> None:
    """Take memory, little by little, without end."""
    note("started", key)
    eaten: list[bytes] = []
    while True:
        eaten.append(b"x" * 4_000_000)
        time.sleep(0.005)


def say(key: str) -> None:
    print(f"said {key}")
    note("ended", key)
