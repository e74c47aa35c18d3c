"""What a process tells its siblings of the jobs that it stores for them.

What lives here: two runners on one file, which are two processes to each other. What does not: real
processes, which are in tests/crash. Run by pytest.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from embedded_tasks import TaskRunner
from embedded_tasks.processes import Kind
from embedded_tasks.processes.messages import MESSAGE_SIZE

pytestmark = pytest.mark.anyio


async def nothing(number: int) -> None: ...


class Written:
    """Messages about work, as they go into a sibling's pipe."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        plain = os.write

        def write(descriptor: int, data: bytes) -> int:
            self.count += len(data) == MESSAGE_SIZE and data[:1] == Kind.WORK.value
            return plain(descriptor, data)

        monkeypatch.setattr(os, "write", write)


@asynccontextmanager
async def two_runners(folder: Path) -> AsyncIterator[TaskRunner]:
    path = folder / "tasks.db"
    async with TaskRunner(path), TaskRunner(path, modules=["tests"]) as second:
        # Who comes later has met those who are there.
        assert second._session is not None
        assert len(second._session.peers.ids) == 1
        yield second


async def test_a_sibling_is_told_before_the_caller_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_runners(tmp_path) as runner:
        written = Written(monkeypatch)
        await runner.enqueue(nothing, 1)
        # Without another round of the loop: the caller may keep it busy from here on.
        assert written.count == 1


async def test_a_sibling_is_told_once_of_all_that_one_commit_has_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_runners(tmp_path) as runner:
        assert runner._session is not None
        writer = runner._session.store.writer
        before, written = writer.commits, Written(monkeypatch)
        await asyncio.gather(*(runner.enqueue(nothing, number) for number in range(100)))
        assert 1 <= written.count <= writer.commits - before <= 20
