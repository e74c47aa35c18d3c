"""The end of the work: begun once, waited for by all, never cancelled with who waits.

What lives here: `embedded_tasks/ending.py`. What does not: what ends (`test_runner_life.py`).
"""

from __future__ import annotations

import asyncio

import pytest

from embedded_tasks.ending import Ending

pytestmark = pytest.mark.anyio


class Work:
    def __init__(self) -> None:
        self.begun = 0
        self.may_end = asyncio.Event()
        self.ending = Ending(self._end)

    async def _end(self) -> None:
        self.begun += 1
        await self.may_end.wait()


async def test_a_signal_begins_the_end_and_the_lifespan_waits_for_it() -> None:
    work = Work()
    work.ending.begin()
    work.ending.begin()
    waiting = [asyncio.create_task(work.ending.over()) for _ in range(2)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert work.begun == 1
    assert not any(task.done() for task in waiting)
    work.may_end.set()
    await asyncio.gather(*waiting)
    await work.ending.over()
    assert work.begun == 1


async def test_without_a_signal_the_lifespan_begins_the_end() -> None:
    work = Work()
    work.may_end.set()
    await work.ending.over()
    assert work.begun == 1


async def test_the_end_goes_on_when_whoever_waits_is_cancelled() -> None:
    work = Work()
    waiting = asyncio.create_task(work.ending.over())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    work.may_end.set()
    await work.ending.over()
    assert work.begun == 1
