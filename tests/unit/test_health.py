"""What health says: that all is well, or what is wrong and what to do.

What lives here: `embedded_tasks/health.py`. What does not: its route (`tests/web`). Called by
pytest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.processes.layout import lock_path
from embedded_tasks.session import Session
from tests.support import tasks
from tests.support.runners import Timed, running
from tests.support.stores import write
from tests.support.tasks import world
from tests.support.turns import turns, until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def at() -> AsyncIterator[Timed]:
    async with running(concurrency=3, sync_concurrency=2) as at:
        yield at


def session(at: Timed) -> Session:
    return at.runner._running("test")


async def problems(at: Timed) -> list[str]:
    health = await at.runner.health()
    assert health.ok == (not health.problems)
    return health.problems


async def test_a_runner_that_is_well_says_so(at: Timed) -> None:
    health = await at.runner.health()
    assert (health.ok, health.problems) == (True, [])
    assert (health.running, health.stuck, health.recovered) == (0, 0, 0)
    assert health.slots == {"async": 3, "sync": 2}
    assert (health.processes, health.unknown_tasks) == ([], [])
    assert health.process == session(at).process_id


async def test_running_attempts_are_counted(at: Timed) -> None:
    await at.runner.enqueue(tasks.wait)
    await world.started.wait()
    assert (await at.runner.health()).running == 1


async def test_a_function_that_ignores_that_it_was_stopped_is_a_problem_while_it_runs(
    at: Timed,
) -> None:
    await at.runner.options(timeout=10).enqueue(tasks.block)
    await until(lambda: world.contexts)
    at.clock.advance(10)
    (problem,) = await problems(at)
    assert "1 functions ignore" in problem
    assert "JobContext.stopping" in problem
    assert (await at.runner.health()).stuck == 1
    world.thread_go_on.set()
    await until(lambda: not session(at).running.lingering)
    assert await problems(at) == []


async def test_a_write_that_failed_is_a_problem_until_one_succeeds(at: Timed) -> None:
    connection: Any = session(at).store._connection
    real = connection._connection
    connection._connection = _Full(real)
    with pytest.raises(StoreUnavailableError):
        await at.runner.enqueue(tasks.note)
    # Health tries for itself: it must not stay bad because nobody asks an unhealthy app to write.
    assert ["The last write failed" in problem for problem in await problems(at)] == [True]
    connection._connection = real
    assert await problems(at) == []


class _Full:
    """A connection to a disk that is full when a transaction is to be committed."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def execute(self, sql: str, *parameters: Any) -> Any:
        if sql == "COMMIT":
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise error
        return self._real.execute(sql, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


async def test_a_process_file_that_was_removed_is_a_problem(tmp_path: Path) -> None:
    async with running(str(tmp_path / "tasks.db")) as at:
        lock_path(session(at).folder, session(at).process_id).unlink()
        (problem,) = await problems(at)
        assert "process file was removed" in problem


async def test_a_loop_that_failed_is_a_problem(at: Timed) -> None:
    async def loop() -> None:
        raise ValueError("broken")

    with capture_logs():
        session(at).supervisor.loop("extra", loop)
        await turns()
    assert await problems(at) == ["The loop extra failed: ValueError('broken')"]


async def test_a_process_of_which_nothing_can_be_known_is_a_problem(at: Timed) -> None:
    session(at).recovered.undecided["b" * 32] = "its file cannot be read"
    (problem,) = await problems(at)
    assert problem.endswith("its file cannot be read")


async def test_stored_names_that_this_code_does_not_have_are_told(at: Timed) -> None:
    await at.runner.options(delay=60).enqueue(tasks.note)
    await write(session(at).store, "INSERT INTO tasks (name) VALUES ('shop:lost')")
    with capture_logs():
        session(at).worker.wake()
        await until(lambda: session(at).tasks.unknown)
    health = await at.runner.health()
    assert [name.split(":")[0] for name in health.unknown_tasks] == ["shop"]
