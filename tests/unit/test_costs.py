"""What a job costs, in counts: statements, commits and thread crossings, never seconds.

What lives here: bounds that hold on any machine, so that a change that makes a job dearer fails.
What does not: how fast it is (benchmarks). Run by pytest.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI

from embedded_tasks import TaskRunner
from embedded_tasks.clock import Clock
from embedded_tasks.context import JobContext
from embedded_tasks.events import EventName
from embedded_tasks.signature import Signature
from embedded_tasks.store import Store
from embedded_tasks.store.connection import Connection
from tests.support.asgi import post
from tests.support.clock import FakeClock
from tests.support.events import Events

pytestmark = pytest.mark.anyio


async def nothing(number: int) -> None: ...


def nothing_in_a_thread(number: int) -> None: ...


class Runner(TaskRunner):
    """A runner in memory whose time stands still, and that counts what its store does."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.events = Events()
        self.crossings = 0
        self.statements: list[str] = []
        super().__init__(":memory:", modules=["tests"], observers=[self.events], **options)

    def _make_clock(self) -> Clock:
        return self.clock

    @property
    def store(self) -> Store:
        assert self._session is not None
        return self._session.store

    @property
    def commits(self) -> int:
        return sum(statement == "COMMIT" for statement in self.statements)

    @property
    def writes(self) -> list[str]:
        """The first words of every statement that changes rows."""
        kinds = ("INSERT", "UPDATE", "DELETE")
        return [text.split()[0] for text in self.statements if text.startswith(kinds)]

    def forget(self) -> None:
        self.crossings = 0
        self.statements.clear()

    async def ended(self, jobs: int) -> None:
        """Wait until so many jobs have succeeded, and what follows from it is done."""
        await self.events.wait(EventName.SUCCEEDED, jobs)
        await self.quiet()

    async def quiet(self) -> None:
        """Wait until the store has done all that was asked of it, and nobody asks for more."""
        before = -1
        while before != self.crossings or self.store.writer._pending:
            before = self.crossings
            await plain_run(self.store._connection, lambda connection: None)
            for _ in range(20):
                await asyncio.sleep(0)


plain_run = Connection.run


@pytest.fixture
async def runner(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Runner]:
    """A runner that has attempted one job of each kind: names and statements are known."""
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "0")
    runner = Runner()
    async with running(runner, monkeypatch):
        await runner.enqueue(nothing, 0)
        await runner.enqueue(nothing_in_a_thread, 0)
        await runner.ended(2)
        runner.forget()
        yield runner


@asynccontextmanager
async def running(
    runner: Runner, monkeypatch: pytest.MonkeyPatch, **how: bool
) -> AsyncIterator[None]:
    async def run(connection: Connection, work: Callable[[sqlite3.Connection], Any]) -> Any:
        runner.crossings += 1
        return await plain_run(connection, work)

    monkeypatch.setattr(Connection, "run", run)
    async with runner.open(**({"run_jobs": True} | how)):
        await plain_run(
            runner.store._connection,
            lambda connection: connection.set_trace_callback(runner.statements.append),
        )
        yield


@pytest.mark.parametrize("function", [nothing, nothing_in_a_thread])
async def test_a_job_that_starts_at_once_is_written_twice_in_its_life(
    runner: Runner, function: Callable[[int], Any]
) -> None:
    await runner.enqueue(function, 1)
    await runner.ended(3)
    assert runner.writes == ["INSERT", "UPDATE"]
    assert runner.commits == runner.crossings == 2
    # BEGIN and COMMIT around each, and a look whether any process lacks a task's code.
    assert len(runner.statements) <= 7


async def test_a_hundred_callers_share_their_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner()
    async with running(runner, monkeypatch, run_jobs=False):
        await runner.enqueue(nothing, 0)
        runner.forget()
        await asyncio.gather(*(runner.enqueue(nothing, number) for number in range(100)))
        assert runner.commits == runner.crossings <= 3
        # A hundred rows are two statements: what is left over beside whole steps is one of its own.
        assert len(runner.writes) <= runner.commits + 1
        assert set(runner.writes) == {"INSERT"}


async def test_jobs_of_a_hundred_callers_are_settled_in_few_commits(runner: Runner) -> None:
    await asyncio.gather(*(runner.enqueue(nothing, number) for number in range(100)))
    await runner.ended(102)
    assert runner.commits <= 20


async def test_waiting_jobs_are_claimed_and_settled_many_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner = Runner()
    async with running(runner, monkeypatch, start_work=False):
        await asyncio.gather(*(runner.enqueue(nothing, number) for number in range(1_000)))
        await runner.quiet()
        runner.forget()
        async with runner.working():
            await runner.ended(1_000)
            assert runner.commits <= 100
            assert runner.crossings == runner.commits
            # Of outcomes and a claim: expired ones, new names, the next expiry, the claim.
            assert len(runner.statements) <= runner.commits * 14


@pytest.mark.parametrize(
    ("slots", "commits", "writes"), [(1, 2_100, 2_100), (10, 250, 400), (100, 60, 100)]
)
async def test_attempts_share_their_commits_and_the_writes_of_their_marks(
    slots: int, commits: int, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, written = os.pwrite, 0

    def counted(descriptor: int, data: bytes, offset: int) -> int:
        nonlocal written
        written += 1
        return plain(descriptor, data, offset)

    runner = Runner(concurrency=slots)
    async with running(runner, monkeypatch, start_work=False):
        await asyncio.gather(*(runner.enqueue(nothing, number) for number in range(1_000)))
        await runner.quiet()
        runner.forget()
        monkeypatch.setattr(os, "pwrite", counted)
        async with runner.working():
            await runner.ended(1_000)
            assert runner.crossings == runner.commits <= commits
            assert written <= writes
            assert len(runner.statements) <= runner.commits * 14


async def test_an_attempt_is_one_task_of_the_loop_and_has_no_timer_and_no_context_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runner, loop = Runner(), asyncio.get_running_loop()
    plain_task, plain_timer = loop.create_task, runner.clock.call_later
    made = {"tasks": 0, "timers": 0, "contexts": 0}

    def create_task(*args: Any, **more: Any) -> asyncio.Task[Any]:
        made["tasks"] += 1
        return plain_task(*args, **more)

    def call_later(*args: Any) -> Any:
        made["timers"] += 1
        return plain_timer(*args)

    def context_of(*args: Any) -> None:
        made["contexts"] += 1

    async with running(runner, monkeypatch, start_work=False):
        await asyncio.gather(*(runner.enqueue(nothing, number) for number in range(1_000)))
        await runner.quiet()
        monkeypatch.setattr(loop, "create_task", create_task)
        monkeypatch.setattr(runner.clock, "call_later", call_later)
        monkeypatch.setattr(JobContext, "of", context_of)
        async with runner.working():
            await runner.ended(1_000)
        monkeypatch.undo()
    assert made["tasks"] <= 1_050
    assert made["timers"] <= 50
    assert made["contexts"] == 0


@pytest.mark.parametrize(
    ("options", "hears"),
    [({}, False), ({"log_successes": True}, True), ({"observers": [print]}, True)],
)
async def test_a_success_is_an_event_only_where_somebody_hears_of_it(
    options: dict[str, Any], hears: bool
) -> None:
    async with TaskRunner(":memory:", modules=["tests"], **options).open(run_jobs=True) as runner:
        assert runner._session is not None
        assert runner._session.settler._hooks.hear_of_success is hears


async def test_an_idle_runner_does_nothing(runner: Runner) -> None:
    for _ in range(10):
        runner.clock.advance(0.1)
        await runner.quiet()
    assert runner.crossings == 0
    assert runner.statements == []


async def test_until_a_job_is_due_only_the_clock_is_looked_at(runner: Runner) -> None:
    await runner.options(delay=3600).enqueue(nothing, 1)
    runner.clock.advance(30)
    await runner.quiet()
    runner.forget()
    for _ in range(60):
        runner.clock.advance(1)
        await runner.quiet()
    assert runner.crossings == 0
    assert runner.statements == []


async def test_a_function_is_looked_into_once_and_not_for_every_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[object] = []
    plain = Signature.__init__

    def counted(signature: Signature, function: Any, context_type: type) -> None:
        looked.append(function)
        plain(signature, function, context_type)

    monkeypatch.setattr(Signature, "__init__", counted)
    runner = Runner()
    async with running(runner, monkeypatch, start_work=False):
        await asyncio.gather(*(runner.enqueue(nothing, number) for number in range(50)))
        async with runner.working():
            await runner.ended(50)
    # Once where it is enqueued, and once where it is attempted.
    assert len(looked) <= 2


class Requests:
    """An app with a runner, called without a server.

    Args:
        runner: The runner, installed.
        tasks: How many tasks its endpoint adds.
    """

    def __init__(self, runner: Runner, tasks: int) -> None:
        self.app = FastAPI()
        self.commits_before_answer: list[int] = []
        self._runner = runner
        runner.install(self.app)

        @self.app.post("/")
        async def endpoint(background_tasks: BackgroundTasks) -> None:
            for number in range(tasks):
                background_tasks.add_task(nothing, number)

    @asynccontextmanager
    async def open(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
        # The runner is open already when the app starts, and counts from its first moment.
        async with (
            running(self._runner, monkeypatch, start_work=False),
            self.app.router.lifespan_context(self.app),
        ):
            yield

    async def ask(self) -> None:
        await post(self.app, "/", self._answered)

    def _answered(self) -> None:
        self.commits_before_answer.append(self._runner.commits)


async def test_all_tasks_of_a_request_are_stored_by_one_statement_in_one_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "0")
    runner = Runner()
    requests = Requests(runner, tasks=3)
    async with requests.open(monkeypatch):
        await requests.ask()
        await runner.ended(3)
        runner.forget()
        await requests.ask()
        assert requests.commits_before_answer[-1] == 1
        await runner.ended(6)
        assert runner.writes[0] == "INSERT"
        assert runner.writes.count("INSERT") == 1
        # Two jobs begin when the one before has ended; outcomes wait for nobody.
        assert runner.commits <= 6


async def test_a_request_without_tasks_costs_the_store_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "0")
    runner = Runner()
    requests = Requests(runner, tasks=0)
    async with requests.open(monkeypatch):
        await runner.quiet()
        runner.forget()
        await requests.ask()
        await runner.quiet()
        assert runner.crossings == 0


async def test_a_request_leaves_nothing_of_ours_to_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EMBEDDED_TASKS_TESTING", "0")
    runner = Runner()
    requests = Requests(runner, tasks=1)
    async with requests.open(monkeypatch):
        for _ in range(3):
            await requests.ask()
        await runner.ended(3)
        await runner.enqueue(nothing_in_a_thread, 1)
        await runner.ended(4)
        assert await left_behind(runner, requests) == []


async def left_behind(runner: Runner, requests: Requests) -> list[str]:
    """Return what only the collector finds of a request and of a sync job."""
    gc.collect()
    gc.disable()
    try:
        await requests.ask()
        await runner.ended(5)
        await runner.enqueue(nothing_in_a_thread, 1)
        await runner.ended(6)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        ours = [type(item) for item in gc.garbage]
        return [kind.__name__ for kind in ours if kind.__module__.startswith("embedded_tasks")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
