"""Opening and closing a runner: once, and whole."""

from __future__ import annotations

import asyncio

import anyio
import anyio.lowlevel
import pytest

from embedded_tasks import TaskRunner

pytestmark = pytest.mark.anyio


async def test_openers_that_come_together_share_one_run() -> None:
    runner = TaskRunner(":memory:", modules=["tests"])
    seen: list[str] = []
    leave = asyncio.Event()

    async def user() -> None:
        async with runner.open(run_jobs=True):
            seen.append((await runner.health()).process)
            if len(seen) == 3:
                leave.set()
            await leave.wait()

    await asyncio.gather(user(), user(), user())
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert not runner.is_running


async def test_a_start_that_fails_lets_the_next_opener_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("EMBEDDED_TASKS_TESTING", raising=False)
    runner = TaskRunner("/proc/nowhere/tasks.db")
    results = await asyncio.gather(*(_opened(runner) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, Exception) for result in results)
    assert not runner.is_running


async def _opened(runner: TaskRunner) -> None:
    async with runner:
        pass


async def test_a_cancelled_block_closes_its_runner_whole() -> None:
    runner = TaskRunner(":memory:")
    with anyio.CancelScope() as scope:
        async with runner.open(run_jobs=True):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert not runner.is_running
    async with runner:
        assert runner.is_running
