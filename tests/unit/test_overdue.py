"""What health says of due jobs that do not start.

What lives here: `embedded_tasks/overdue.py`, through health. What does not: other problems
(`test_health.py`). Called by pytest.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from embedded_tasks.enqueue import Origin
from embedded_tasks.overdue import OVERDUE, STANDSTILL
from embedded_tasks.session import Session
from tests.support import tasks
from tests.support.runners import Timed, running
from tests.support.tasks import world
from tests.support.turns import turns, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def at() -> AsyncIterator[Timed]:
    async with running(concurrency=1, sync_concurrency=2) as at:
        # The worker has heard of these tasks.
        for function in (tasks.note, tasks.note_sync):
            job = await at.runner.enqueue(function)
            await job.result()
            world.calls.clear()
        yield at


def session(at: Timed) -> Session:
    return at.runner._running("test")


async def store_unseen(at: Timed, function: Any, queue: str = "default") -> str:
    """Store a job of which the worker is not told, as if a wake-up was lost."""
    draft = at.runner._drafting.draft(function, (), {}, {"queue": queue})
    job = at.runner._drafting.new_job(draft, Origin(), at.clock.now())
    await session(at).store.insert([job])
    return job.id


async def problems(at: Timed) -> list[str]:
    health = await at.runner.health()
    assert health.ok == (not health.problems)
    assert health.ready
    return health.problems


async def test_a_due_job_that_waits_beside_a_free_slot_is_told(at: Timed) -> None:
    job_id = await store_unseen(at, tasks.note_sync, "mail")
    at.clock.advance(OVERDUE - 1)
    assert await problems(at) == []
    at.clock.advance(2)
    (problem,) = await problems(at)
    assert problem.startswith(f"2 of 2 sync slots are free, and job {job_id} (")
    assert "note_sync, queue mail), which was due 11 s ago, does not start: nothing" in problem
    session(at).worker.wake()
    await until(lambda: world.calls)
    assert await problems(at) == []


async def test_it_is_told_why_where_a_loop_fails(at: Timed) -> None:
    async def broken() -> None:
        raise ValueError("broken")

    await store_unseen(at, tasks.note)
    at.clock.advance(OVERDUE + 1)
    with capture_logs():
        session(at).supervisor.loop("worker of a test", broken)
        await turns()
    assert any(
        problem.endswith("does not start: The loop worker of a test failed: ValueError('broken').")
        for problem in await problems(at)
    )


async def test_a_job_of_a_paused_queue_is_meant_to_wait(at: Timed) -> None:
    await store_unseen(at, tasks.note, "mail")
    at.clock.advance(OVERDUE + 1)
    assert await problems(at) != []
    at.clock.advance(OVERDUE + 1)
    session(at).chains.is_paused = lambda queue: queue == "mail"
    assert await problems(at) == []


async def test_a_backlog_behind_full_slots_is_no_problem_until_nothing_moves(at: Timed) -> None:
    await at.runner.enqueue(tasks.wait)
    await world.started.wait()
    job = await at.runner.enqueue(tasks.note)
    at.clock.advance(STANDSTILL - 1)
    assert await problems(at) == []
    at.clock.advance(2)
    found: list[str] = []
    for _ in range(100):
        found = await problems(at)
        if found:
            break
        # It was claimed ahead of a slot, and goes back when the slots are seen to stay taken.
        at.clock.advance(0.1)
        await turns()
    (problem,) = found
    assert problem.startswith("All 1 async slots are taken, and no attempt has ended for ")
    assert f"the first is job {job.id}" in problem
    assert "timeout=" in problem
    world.go_on.set()
    await until(lambda: world.calls)
    assert await problems(at) == []


async def test_failures_that_are_over_are_shown_as_past(at: Timed) -> None:
    async def broken() -> None:
        raise ValueError("broken")

    with capture_logs():
        session(at).supervisor.spawn("tell", broken())
        await turns()
    assert (await at.runner.health()).past == []
    at.clock.advance(61)
    health = await at.runner.health()
    assert health.ok
    assert "ValueError('broken'). That is over." in health.past[0]


async def test_a_process_that_is_told_to_end_is_not_ready(at: Timed) -> None:
    assert (await at.runner.health()).ready
    session(at).signals.told.set()
    assert not (await at.runner.health()).ready
