"""A job of a request waits for a slot where it was accepted, and not for long.

What lives here: what becomes of a request's only job when the slots are taken. What does not: the
order of several (`test_chain.py`). Called by pytest.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from embedded_tasks.store import Act
from tests.support.jobs import ME
from tests.support.reserving import FailingStore, Line, lined_up
from tests.support.stores import record
from tests.support.turns import until
from tests.support.workers import Blocking, named

pytestmark = pytest.mark.anyio


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with lined_up() as line:
        yield line


async def test_a_job_that_is_alone_waits_for_a_slot_here_and_is_not_claimed(line: Line) -> None:
    await line.ready()
    block = await line.occupy()
    claims = len(line.at.store.claims)
    seen = contextvars.ContextVar("seen", default="copied")
    seen.set("the request's own")

    async def look() -> None:
        line.seen.append(seen.get())

    line.chains.start(await line.reserve(look, first=2))
    assert (await line.jobs(2))[1].owner == ME
    block.go_on.set()
    await line.at.ended_attempts(2)
    assert line.seen == ["the request's own"]
    assert len(line.at.store.claims) == claims


async def test_a_job_for_which_there_is_no_slot_soon_goes_to_everybody(line: Line) -> None:
    await line.ready()
    block = await line.occupy()
    line.chains.start(await line.reserve(line.note("a"), first=2))
    await until(lambda: line.at.clock.waits)
    assert line.at.clock.waits == [pytest.approx(0.05)]
    line.at.clock.advance(0.05)
    await until(lambda: line.at.overflows)
    job = (await line.jobs(2))[1]
    assert (job.state, job.owner, job.attempt) == ("queued", None, 0)
    block.go_on.set()
    await line.at.ended_attempts(2)
    assert line.seen == ["a"]


async def test_a_job_that_comes_during_a_claim_starts_after_what_it_brings() -> None:
    async with lined_up(slots=(2, 1)) as line:
        at, block = line.at, Blocking()
        line.seen = block.started
        await at.insert(50, task=(task := at.add(block)), args=named("first"))
        at.open()
        await until(lambda: block.started)
        await at.quiet()
        await at.insert(51, task=task, args=named("claimed"))
        gate = at.store.gate = asyncio.Event()
        at.store.claimed.clear()
        at.worker.wake()
        await at.store.claimed.wait()
        line.chains.start(await line.reserve(line.note("a")))
        # There is a slot for it now, and what the claim brings has waited longer.
        block.go_on.set()
        await at.ended_attempts(1)
        await at.store.read.ping()
        seen, owner = list(line.seen), (await record(at.store, 1)).owner
        gate.set()
        assert (seen, owner) == (["first"], ME)
        await at.ended_attempts(3)
        assert line.seen == ["first", "claimed", "a"]


async def test_those_that_wait_here_start_with_one_mark_write() -> None:
    async with lined_up(slots=(3, 1)) as line:
        await line.ready()
        for number in (1, 2, 3):
            line.chains.start(await line.reserve(line.note("a"), first=number))
            if number == 1:
                await line.at.ended_attempts(1)
        writes = line.at.marks.writes
        await line.at.ended_attempts(3)
        assert line.at.marks.writes == writes + 1


async def test_what_waits_for_a_slot_at_the_end_of_the_work_goes_to_everybody(line: Line) -> None:
    await line.ready()
    block = await line.occupy()
    line.chains.start(await line.reserve(line.note("a"), first=2))
    line.at.worker.drain()
    job = (await line.jobs(2))[1]
    assert (job.state, job.owner, job.attempt) == ("queued", None, 0)
    block.go_on.set()
    await line.at.ended_attempts(1)
    assert line.seen == []


async def test_a_job_that_a_claim_has_overtaken_on_its_way_back_is_claimed_then(
    line: Line,
) -> None:
    await line.ready()
    block = await line.occupy()
    store: Any = FailingStore(line.at.store)
    line.at.worker._releases._store, store.failures["release"] = store, 1
    line.chains.start(await line.reserve(line.note("a"), first=2))
    with capture_logs():
        line.at.clock.advance(0.05)  # there is no slot soon
        await until(lambda: not store.failures["release"])
        block.go_on.set()
        await line.at.ended_attempts(1)
        line.at.worker.wake()
        await line.at.quiet()
    assert line.seen == []
    line.at.clock.advance(0.05)
    await line.at.ended_attempts(2)
    assert line.seen == ["a"]


async def test_a_job_that_waits_here_does_not_start_when_its_queue_is_paused(line: Line) -> None:
    await line.ready()
    block = await line.occupy()
    line.chains.start(await line.reserve(line.note("a"), first=2))
    await line.at.store.steering.pause(Act(line.at.clock.now(), "ada", "pause", "default"))
    line.at.worker.follow_pauses({"default"})
    block.go_on.set()
    job = (await line.jobs(2))[1]
    assert (job.state, job.owner, job.attempt) == ("queued", None, 0)
    assert line.seen == []
