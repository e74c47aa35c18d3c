"""The watch on the event loop: what it sees, whom it names, and that it sleeps when nothing runs.

What lives here: `embedded_tasks/watchdog.py` and what is kept of a block. What does not: real
processes (`tests/crash/test_watchdog.py`). Called by pytest.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from embedded_tasks import TaskRunner, task
from embedded_tasks.context import RUNNING_JOB
from embedded_tasks.events import EventName
from embedded_tasks.job import ClaimedJob, LoopBlock
from embedded_tasks.watchdog import Blocked, Watchdog
from tests.support.clock import FakeClock
from tests.support.events import Events
from tests.support.jobs import claimed_job
from tests.support.turns import until

pytestmark = pytest.mark.anyio

SOON = 0.02
NEVER = 3600.0
LIMIT = 20.0


class Eye:
    """Looks at the loop only where a test blocks it: a busy machine may hold it up as well.

    Args:
        dog: Whose look it is.
    """

    def __init__(self, dog: Watchdog) -> None:
        self.opened = threading.Event()
        self.seen = threading.Event()
        self._look = dog._look
        dog._look = self._looked  # type: ignore[method-assign]

    def block(self) -> None:
        """Keep the loop until the watchdog has seen it."""
        self.seen.clear()
        self.opened.set()
        assert self.seen.wait(LIMIT)

    def _looked(self, question: Any) -> None:
        # The loop answers before a test blocks it, and not while one does.
        while not (self.opened.wait(SOON / 4) or question.answered.is_set()):
            pass
        if not question.answered.is_set():
            self._look(question)
            self.opened.clear()
            self.seen.set()


class Kennel:
    """A watchdog, and what it told."""

    def __init__(self, threshold: float | None) -> None:
        self.runs = False
        self.tasks: dict[asyncio.Task[Any], ClaimedJob] = {}
        self.told: list[Blocked] = []
        self.dog = Watchdog(FakeClock(), threshold, running=lambda: self, told=self.told.append)
        self.eye = Eye(self.dog)

    def __len__(self) -> int:
        return int(self.runs)

    def job_of(self, task: asyncio.Task[Any]) -> ClaimedJob | None:
        return self.tasks.get(task)

    def begin(self) -> None:
        self.runs = True
        self.dog.started()

    def block(self) -> None:
        self.eye.block()


@asynccontextmanager
async def watched(threshold: float | None = SOON) -> AsyncIterator[Kennel]:
    kennel = Kennel(threshold)
    try:
        yield kennel
    finally:
        kennel.dog.close()
        assert kennel.dog._thread is None or not kennel.dog._thread.is_alive()


async def told_of(kennel: Kennel) -> Blocked:
    await until(lambda: bool(kennel.told))
    (blocked,) = kennel.told
    return blocked


async def run_as(job: ClaimedJob, function: Any) -> None:
    """Run a function as an attempt runs it: in a task whose context names the job."""
    RUNNING_JOB.set(job)
    await asyncio.create_task(function())


async def test_a_job_that_blocks_the_loop_is_named_with_its_place_and_stack() -> None:
    async with watched() as kennel:

        async def blocking() -> None:
            kennel.block()

        kennel.begin()
        with capture_logs() as logs:
            await run_as(claimed_job(7), blocking)
        blocked = await told_of(kennel)
    assert blocked.job == claimed_job(7)
    assert blocked.block.where.startswith("block (test_watchdog.py:")
    assert "kennel.block()" in blocked.block.stack
    (line,) = [line for line in logs if line["event"] == "loop.blocked"]
    assert (line["job_id"], line["log_level"]) == (claimed_job(7).id, "warning")
    assert line["stack"] == blocked.block.stack


async def test_what_a_job_has_started_is_its_own() -> None:
    async with watched() as kennel:

        async def blocking() -> None:
            kennel.block()

        async def group() -> None:
            await asyncio.gather(asyncio.sleep(0), blocking())

        kennel.begin()
        await run_as(claimed_job(7), group)
        assert (await told_of(kennel)).job == claimed_job(7)


async def test_a_callback_of_a_job_is_its_own() -> None:
    async with watched() as kennel:

        async def later() -> None:
            asyncio.get_running_loop().call_soon(kennel.block)

        kennel.begin()
        await run_as(claimed_job(7), later)
        assert (await told_of(kennel)).job == claimed_job(7)


async def test_where_the_loop_leaves_no_trace_of_a_job_its_own_task_tells() -> None:
    """As uvloop on Python 3.11: no context can be had."""
    async with watched() as kennel:
        task = asyncio.current_task()
        assert task is not None
        kennel.tasks[task] = claimed_job(7)
        kennel.begin()
        kennel.block()
        assert (await told_of(kennel)).job == claimed_job(7)


async def test_what_is_no_job_is_called_so() -> None:
    async with watched() as kennel:
        kennel.begin()
        with capture_logs() as logs:
            kennel.block()
        blocked = await told_of(kennel)
    assert blocked.job is None
    assert blocked.event() is None
    assert [line["by"] for line in logs if line["event"] == "loop.blocked"] == [
        "something that is no job"
    ]


async def test_nothing_is_asked_before_an_attempt_runs_nor_when_none_is_watched() -> None:
    async with watched() as idle, watched(None) as off:
        off.begin()
        assert idle.dog._thread is None
        assert off.dog._thread is None


async def test_the_thread_sleeps_without_a_limit_when_nothing_runs_and_wakes_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with watched() as kennel:
        waits: list[float | None] = []
        plain = kennel.dog._wake.wait

        def counted(timeout: float | None = None) -> bool:
            waits.append(timeout)
            return plain(timeout)

        monkeypatch.setattr(kennel.dog._wake, "wait", counted)
        kennel.begin()
        kennel.runs = False
        await until(lambda: waits == [None])
        assert kennel.dog._asleep
        kennel.begin()
        kennel.block()
        await told_of(kennel)
        assert waits == [None]


async def test_a_thousand_jobs_in_a_row_wake_the_thread_no_more_than_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with watched(NEVER) as kennel:
        kennel.begin()
        roused: list[bool] = []
        monkeypatch.setattr(kennel.dog, "_rouse", lambda: roused.append(True))
        for _ in range(1_000):
            kennel.dog.started()
        assert roused == []


async def test_a_loop_that_goes_round_is_not_told_of() -> None:
    async with watched(NEVER) as kennel:
        kennel.dog._is_at_rest = lambda: False  # type: ignore[method-assign]
        kennel.begin()
        await until(lambda: kennel.dog._question is not None)
        question = kennel.dog._question
        assert question is not None
        await until(question.answered.is_set)
        assert (kennel.told, question.found) == ([], None)


async def test_what_answers_while_it_is_looked_at_is_not_told_of() -> None:
    async with watched(NEVER) as kennel:
        kennel.dog._is_at_rest = lambda: False  # type: ignore[method-assign]
        kennel.begin()
        await until(lambda: kennel.dog._question is not None)
        question = kennel.dog._question
        assert question is not None
        await until(question.answered.is_set)
        with capture_logs() as logs:
            kennel.eye._look(question)
        assert (question.found, logs) == (None, [])


async def test_closing_ends_the_thread_while_the_loop_is_blocked() -> None:
    async with watched() as kennel:
        kennel.begin()
        kennel.block()  # and nobody lets the loop answer before the close


class Passing(FakeClock):
    """A clock that goes on by an hour each time it is asked, and says how often that was."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.often = threading.Event()

    def monotonic(self) -> float:
        self.asked += 1
        if self.asked > 7:  # three waits, at least
            self.often.set()
        return self.asked * 3600.0


@pytest.mark.parametrize("works", [False, True])
async def test_a_process_that_stood_still_blames_nobody_unless_it_worked_meanwhile(
    monkeypatch: pytest.MonkeyPatch, works: bool
) -> None:
    """C code that keeps all threads from running is busy; a stopped process is not."""
    clock = Passing()
    if works:
        monkeypatch.setattr(time, "process_time", clock.monotonic)
    async with watched() as kennel:
        kennel.dog._clock = clock
        kennel.eye.opened.set()
        kennel.begin()
        assert (kennel.eye.seen if works else clock.often).wait(LIMIT)
        assert kennel.eye.seen.is_set() == works
    assert kennel.told == []  # it was closed before the loop could answer


# What is kept.


class Scene:
    """A runner in memory, in whose jobs the loop is blocked until the watchdog has seen it."""

    def __init__(self) -> None:
        self.events = Events()
        self.runner = TaskRunner(
            ":memory:", modules=["tests"], observers=[self.events], loop_block_warning=SOON
        )

    def open(self) -> None:
        session = self.runner._session
        assert session is not None
        self._eye = Eye(session.watchdog)

    def block(self) -> None:
        self._eye.block()


SCENE: list[Scene] = []


async def blocking() -> int:
    SCENE[0].block()
    return 7


@task(max_attempts=2, backoff=[0])
async def failing() -> None:
    SCENE[0].block()
    raise ValueError("no")


async def blocked_thrice() -> float:
    job, session = RUNNING_JOB.get(), SCENE[0].runner._session
    assert job is not None
    assert session is not None
    for seconds in (1.0, 3.0, 2.0):
        session.running.blocked(job, LoopBlock(seconds, "here", "stack"))
    session.running.blocked(job._replace(attempt=9), LoopBlock(9.0, "here", "stack"))
    kept = session.running._running[job.id].attempt.block
    assert kept is not None
    return kept.seconds


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    scene = Scene()
    SCENE[:] = [scene]
    async with scene.runner.open(run_jobs=True):
        scene.open()
        yield scene
    SCENE.clear()


async def test_a_success_keeps_that_it_blocked_the_loop(scene: Scene) -> None:
    job = await scene.runner.enqueue(blocking)
    assert await job.result(LIMIT) == 7
    await job.refresh()
    assert (job.reason or "").startswith("It blocked the event loop for ")
    assert "in block (test_watchdog.py:" in (job.reason or "")
    (event,) = [item for item in scene.events.seen if item.name is EventName.BLOCKED_LOOP]
    assert (event.job_id, event.attempt, event.details["reason"]) == (job.id, 1, job.reason)


async def test_an_error_is_kept_beside_it(scene: Scene) -> None:
    job = await scene.runner.enqueue(failing)
    await scene.events.wait(EventName.FAILED, 1)
    await job.refresh()
    assert (job.reason or "").startswith("ValueError: no. It blocked the event loop for ")
    for attempt in job.attempts:
        assert attempt.error is not None
        assert attempt.error.message == "no"
        first, _, rest = (attempt.error.traceback or "").partition("It blocked the event loop")
        assert "ValueError: no" in first
        assert "SCENE[0].block()" in rest


async def test_of_several_blocks_of_an_attempt_the_longest_is_kept(scene: Scene) -> None:
    job = await scene.runner.enqueue(blocked_thrice)
    assert await job.result(LIMIT) == 3.0
