"""The work that is measured: none at all, or nothing but work for a CPU.

What lives here: functions that do nothing, so that what is measured is the way there and back, and
functions that keep a CPU busy. What does not: measuring. Enqueued by the other modules.
"""

from __future__ import annotations

import asyncio
import threading
import time

from embedded_tasks import task

__all__ = [
    "burn",
    "burn_in_a_process",
    "burn_in_a_thread",
    "calls",
    "counted",
    "counted_in_a_thread",
    "linger",
    "mark",
    "marks",
    "nothing",
]


# When `mark` or `linger` was called, by the clock that all processes of a machine share.
class Marks:
    """A queue that belongs to whoever measures; another event loop needs another one."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[float] | None = None

    def renew(self) -> asyncio.Queue[float]:
        self.queue = asyncio.Queue()
        return self.queue

    def put(self, moment: float) -> None:
        if self.queue is not None:
            self.queue.put_nowait(moment)


marks = Marks()

_BURN = 0.02


async def nothing(number: int) -> None: ...


class Calls:
    """How many calls are still to come."""

    def __init__(self) -> None:
        self.left = 0
        self.all = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def renew(self, wanted: int) -> None:
        self.left, self.all, self._loop = wanted, asyncio.Event(), asyncio.get_running_loop()

    def one(self) -> None:
        self.left -= 1
        if not self.left and self._loop is not None:
            self._loop.call_soon_threadsafe(self.all.set)


calls = Calls()
_counting = threading.Lock()


async def counted(_number: int) -> None:
    calls.one()


def counted_in_a_thread(_number: int) -> None:
    with _counting:
        calls.one()


async def mark(_number: int) -> None:
    marks.put(time.monotonic())


async def linger(_number: int) -> None:
    marks.put(time.monotonic())
    await asyncio.sleep(3600)


def burn() -> None:
    """Keep a CPU busy."""
    end = time.thread_time() + _BURN
    while time.thread_time() < end:
        pass


def burn_in_a_thread(_number: int) -> None:
    burn()


@task(run_in="process")
def burn_in_a_process(_number: int) -> None:
    burn()
