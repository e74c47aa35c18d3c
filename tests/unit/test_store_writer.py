"""Callers of the writer that give up.

What lives here: the moments at which a caller and its commit miss each other, and what a debug log
shows. What does not: real commits (tests/store_contract). Run by pytest.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, cast

import anyio
import pytest
from structlog.testing import capture_logs

from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.store.callers import Operation
from embedded_tasks.store.checkpoint import Checkpointer
from embedded_tasks.store.connection import Connection
from embedded_tasks.store.identity import FileIdentity
from embedded_tasks.store.writer import Writer

pytestmark = pytest.mark.anyio


class Thread:
    """A connection whose commits end one turn of the loop later, without a thread."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.begun = asyncio.Event()

    async def run(self, work: Callable[[sqlite3.Connection], Any]) -> Any:
        self.begun.set()
        connection = sqlite3.connect(":memory:", isolation_level=None)
        result = work(connection)
        connection.close()
        await asyncio.sleep(0)
        return result

    def write(self, connection: sqlite3.Connection, rows: list[Any]) -> None:
        self.written += rows

    def undo(self, connection: sqlite3.Connection, rows: list[Any]) -> None:
        for row in rows:
            self.written.remove(row)


class NoLock:
    def acquire(self) -> None: ...

    def release(self) -> None: ...


def writer_on(thread: Thread) -> Writer:
    connection = cast(Connection, thread)
    return Writer(connection, NoLock(), Checkpointer("x"), FileIdentity("x"), lambda: None)


def operation(thread: Thread) -> Operation:
    return Operation(thread.write, ["row"], undo=thread.undo)


async def test_what_is_cancelled_in_the_moment_of_its_commit_is_taken_back() -> None:
    thread = Thread()
    writer = writer_on(thread)
    running = asyncio.create_task(writer.run())
    submitting = asyncio.create_task(writer.submit(operation(thread)))
    await thread.begun.wait()
    assert thread.written == ["row"]
    # The commit has ended and the writer is about to say so.
    submitting.cancel()
    writer.close()
    await running
    assert submitting.cancelled()
    assert thread.written == []


async def test_what_times_out_in_the_moment_of_its_commit_is_taken_back() -> None:
    thread = Thread()
    writer = writer_on(thread)
    running = asyncio.create_task(writer.run())
    with pytest.raises(StoreUnavailableError, match="did not commit within 0 s"):
        await writer.submit(operation(thread), wait=0)
    writer.close()
    await running
    assert thread.written == []


async def test_what_is_in_time_stays() -> None:
    thread = Thread()
    writer = writer_on(thread)
    running = asyncio.create_task(writer.run())
    await writer.submit(operation(thread), wait=5)
    writer.close()
    await running
    assert thread.written == ["row"]


@pytest.mark.parametrize("scope", [True, False], ids=["anyio", "asyncio"])
async def test_who_insists_comes_back_after_the_commit_and_is_cancelled_then(scope: bool) -> None:
    thread = Thread()
    writer = writer_on(thread)
    running = asyncio.create_task(writer.run())
    seen: list[str] = []

    async def insist() -> None:
        await writer.submit(operation(thread), insist=True)
        seen.append("stored")
        await asyncio.sleep(0)
        seen.append("went on")

    async def cancelled_by_a_scope() -> None:
        with anyio.CancelScope() as cancelling:
            asyncio.get_running_loop().call_soon(cancelling.cancel)
            await insist()
        assert cancelling.cancelled_caught

    async def cancelled_by_a_timeout() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await insist()

    await (cancelled_by_a_scope() if scope else cancelled_by_a_timeout())
    assert seen == ["stored"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    writer.close()
    await running
    assert thread.written == ["row"]


def test_what_a_debug_log_shows_of_an_operation_has_no_arguments_in_it() -> None:
    assert "secret" not in repr(Operation(print, [["id", "secret"]]))


async def test_a_fault_in_the_writer_itself_is_told_and_the_next_batch_is_written() -> None:
    thread = Thread()
    writer = writer_on(thread)
    loop = asyncio.create_task(writer.run())
    real, broken = writer._answer, iter([True])

    def answer(operation: Operation, outcome: Any) -> None:
        if next(broken, False):
            raise ValueError("a fault")
        real(operation, outcome)

    writer._answer = answer  # type: ignore[method-assign]  # breaks once
    with capture_logs() as lines, pytest.raises(StoreUnavailableError, match="a fault"):
        await writer.submit(operation(thread))
    assert [line["event"] for line in lines] == ["loop.failed"]
    assert writer.last_error is not None
    await writer.submit(operation(thread))
    # The first was taken back: its caller was told that it is not stored.
    assert thread.written == ["row"]
    writer.close()
    await loop
