"""Who waits for a job's end: woken when it comes, here or in a sibling, and never polling.

What lives here: `embedded_tasks/waiting.py`. What does not: results (`test_handle.py`). Called by
pytest.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from embedded_tasks.processes import Kind
from embedded_tasks.waiting import Waiting
from tests.support.clock import FakeClock
from tests.support.turns import turns

pytestmark = pytest.mark.anyio


class FakeStore:
    """A store that knows which jobs have ended, and counts how often it is asked."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.asked: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.read = self

    async def ended(self, ids: list[str]) -> list[str]:
        self.asked.append(ids)
        found = [id for id in ids if id in self.done]
        await self.gate.wait()
        return found


class Room:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = FakeStore()
        self.sent: list[tuple[str, Kind]] = []
        self.waiting = Waiting(cast(Any, self.store), self, self.clock)

    def send(self, peer_id: str, kind: Kind) -> bool:
        self.sent.append((peer_id, kind))
        return True

    def broadcast(self, kind: Kind) -> None:
        self.sent.append(("all", kind))

    async def wait(self, job_id: str, timeout: float | None = None) -> asyncio.Task[bool]:
        task = asyncio.create_task(self.waiting.wait(job_id, timeout))
        await turns()
        return task


@pytest.fixture
async def room() -> Room:
    return Room()


async def test_a_job_that_has_ended_is_not_waited_for(room: Room) -> None:
    room.store.done = {"1"}
    assert await room.waiting.wait("1", None)


async def test_who_waits_is_woken_by_the_end_and_the_store_is_asked_once(room: Room) -> None:
    first, second, other = await room.wait("1"), await room.wait("1"), await room.wait("2")
    room.waiting.settled(["1", "9"])
    assert await first
    assert await second
    await turns()
    assert not other.done()
    assert len(room.store.asked) == 3
    other.cancel()


async def test_an_end_that_comes_while_the_store_is_asked_is_not_missed(room: Room) -> None:
    room.store.gate.clear()
    task = await room.wait("1")
    room.waiting.settled(["1"])
    room.store.gate.set()
    assert await task


async def test_waiting_has_a_limit_by_the_clock(room: Room) -> None:
    task = await room.wait("1", 5.0)
    room.clock.advance(4.999)
    await turns()
    assert not task.done()
    room.clock.advance(0.001)
    assert await task is False
    assert room.clock.waits == []


async def test_a_limit_that_has_passed_does_not_hide_an_end(room: Room) -> None:
    room.store.done = {"1"}
    room.store.gate.clear()
    task = await room.wait("1", 5.0)
    room.clock.advance(5)
    room.store.gate.set()
    assert await task


async def test_an_end_in_time_leaves_no_timer(room: Room) -> None:
    task = await room.wait("1", 5.0)
    room.waiting.settled(["1"])
    assert await task
    assert room.clock.waits == []


# Siblings.


async def test_siblings_are_asked_to_tell_while_somebody_waits(room: Room) -> None:
    first = await room.wait("1")
    assert room.sent == [("all", Kind.WAITING)]
    second = await room.wait("2")
    assert room.sent == [("all", Kind.WAITING)]
    room.waiting.settled(["1"])
    await first
    assert len(room.sent) == 1
    second.cancel()
    await turns()
    assert room.sent == [("all", Kind.WAITING), ("all", Kind.NOT_WAITING)]


async def test_what_a_sibling_tells_is_looked_up_in_one_question(room: Room) -> None:
    first, second = await room.wait("1"), await room.wait("2")
    room.store.asked.clear()
    room.store.done = {"1"}
    await room.waiting.look()
    assert await first
    assert sorted(room.store.asked[0]) == ["1", "2"]
    assert not second.done()
    second.cancel()


async def test_nobody_is_asked_when_nobody_waits(room: Room) -> None:
    await room.waiting.look()
    room.waiting.greet("b")
    room.waiting.settled([])
    assert room.store.asked == []
    assert room.sent == []


async def test_a_new_sibling_hears_that_somebody_waits(room: Room) -> None:
    task = await room.wait("1")
    room.waiting.greet("b")
    assert room.sent[-1] == ("b", Kind.WAITING)
    task.cancel()


async def test_who_asked_is_told_of_each_end_until_it_waits_no_more(room: Room) -> None:
    room.waiting.heard(Kind.WAITING, "b")
    assert room.sent == [("b", Kind.SETTLED)]
    room.waiting.settled(["1"])
    room.waiting.tell()
    assert room.sent == [("b", Kind.SETTLED)] * 3
    room.waiting.heard(Kind.NOT_WAITING, "b")
    room.waiting.settled(["2"])
    assert len(room.sent) == 3


async def test_a_sibling_that_is_gone_is_told_nothing(room: Room) -> None:
    room.waiting.heard(Kind.WAITING, "b")
    room.waiting.gone("b")
    room.waiting.settled(["1"])
    assert room.sent == [("b", Kind.SETTLED)]
