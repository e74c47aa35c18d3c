"""What children promise beyond what every engine does.

What lives here: one child, or two, and one call after the other. What does not: deaths of parents
and signals (`tests/crash/test_child_processes.py`). Called by pytest.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from embedded_tasks.clock import SystemClock, pause
from embedded_tasks.context import JobCancelled, JobContext
from embedded_tasks.engine import ChildDied, Children, Encoded, NotRunnable, RemoteError, Threads
from embedded_tasks.job import AttemptError
from embedded_tasks.retry import Snooze
from tests.engine_contract import functions
from tests.engine_contract.functions import Engine, children_of_this_loop, order

pytestmark = pytest.mark.anyio


class Notes:
    """What a function said of its job."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []

    def progress(
        self, job_id: str, attempt: int, done: float, total: float | None, message: str | None
    ) -> None:
        self.notes.append((job_id, attempt, done, total, message))

    def log(
        self, job_id: str, attempt: int, level: str, text: str, fields: Mapping[str, object]
    ) -> None:
        self.notes.append((job_id, attempt, level, text, dict(fields)))


@pytest.fixture
async def children() -> AsyncIterator[Children]:
    children = children_of_this_loop()
    yield children
    await children.close()
    assert children.pids == []


def is_there(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not asked for yet does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().split()[2] != "Z"


def engine(children: Children) -> Engine:
    return Engine("children", Threads(asyncio.get_running_loop()), children)


async def answer(children: Children, *what: Any) -> tuple[Any, Any]:
    on = engine(children)
    on.send(order(*what))
    return await on.end()


async def test_what_ends_a_call_comes_out_as_it_went_in_and_the_child_lives_on(
    children: Children,
) -> None:
    pid, _ = await answer(children, functions.get_pid)
    assert pid != os.getpid()
    assert await answer(children, functions.double, '[1,[3],{"plus":1}]') == (7, None)
    for work, wanted in {
        functions.leave: "SystemExit",
        functions.cancel: "asyncio.exceptions.CancelledError",
        functions.close: "GeneratorExit",
    }.items():
        _, error = await answer(children, work)
        assert isinstance(error, RemoteError)
        assert (error.record.type, error.gives_up, error.again) == (wanted, True, False)
    _, error = await answer(children, functions.bad)
    assert (error.gives_up, error.again, error.after) == (False, False, None)
    _, error = await answer(children, functions.again)
    assert (error.record.message, error.again, error.after) == ("once more", True, 5.0)
    _, error = await answer(children, functions.sleepy)
    assert isinstance(error, Snooze)
    assert (error.delay, error.reason) == (30.0, "not \\ud800 now")
    value, error = await answer(children, functions.unstorable)
    assert error is None
    assert isinstance(value, Encoded)
    assert "cannot be stored" in (value.reason or "")
    assert children.pids == [pid]


async def test_a_child_leaves_the_processor_to_the_app(children: Children) -> None:
    assert await answer(children, functions.niceness) == (min(os.nice(0) + 10, 19), None)


async def test_what_a_child_cannot_call_is_held(children: Children) -> None:
    cases: list[tuple[tuple[Any, ...], str]] = [
        (("tests.engine_contract.functions:nothing",), "unknown_task"),
        (("os:getpid",), "unknown_task"),
        ((functions.five, "[1,[1],{}]"), "arguments"),
        ((functions.five, "{"), "arguments"),
        ((functions.five, "[1,[],{}]", 2), "unknown_task"),
    ]
    for what, held_for in cases:
        on = engine(children)
        on.send(order(*what))
        _, error = await on.end()
        assert isinstance(error, NotRunnable)
        assert error.held_for == held_for
        assert not on.begun.is_set()


async def test_the_function_has_its_context_and_what_it_says_comes_out(children: Children) -> None:
    on, notes = engine(children), Notes()
    on.context = JobContext(job_id="id", task="t", attempt=3, request_id="r", _notes=notes)
    on.send(order(functions.tell, '[1,["half"],{}]'))
    assert await on.end() == ("id 3 default r", None)
    assert notes.notes == [
        ("id", 3, 1, 2, "half"),
        ("id", 3, "warning", "half", {"place": "<class 'object'>"}),
    ]


async def said(children: Children, *what: Any) -> list[tuple[Any, ...]]:
    """Return what a call says of its job."""
    on, notes = engine(children), Notes()
    on.context = JobContext(job_id="id", task="t", attempt=1, _notes=notes)
    on.send(order(*what))
    assert await on.end() == (None, None)
    return notes.notes


async def test_of_progress_that_is_told_often_the_last_comes_out_and_not_all(
    children: Children,
) -> None:
    notes = await said(children, functions.tell_often, "[1,[20000],{}]")
    assert len(notes) < 2_000
    assert notes[-1] == ("id", 1, 20_000, 20_000, None)


async def test_the_last_progress_comes_out_while_the_function_runs(children: Children) -> None:
    on, notes = engine(children), Notes()
    on.context = JobContext(job_id="id", task="t", attempt=1, _notes=notes)
    call = on.send(order(functions.tell_twice_and_wait))
    while len(notes.notes) < 2:
        await pause(SystemClock(), 0.01)
    assert [note[2] for note in notes.notes] == [1, 2]
    call.interrupt()
    await on.end()


async def test_odd_things_that_are_told_harm_nobody(children: Children) -> None:
    assert await said(children, functions.tell_odd_things) == [
        (
            "id",
            1,
            "info",
            "nul \0 and \ud800",
            {"odd": "<it cannot be shown: RuntimeError>", "nested": "{(1, 2): {3}}"},
        )
    ]


async def test_what_is_told_after_the_end_is_not_told_of_the_next_job(children: Children) -> None:
    assert await said(children, functions.leave_context) == []
    assert await said(children, functions.tell_of_another) == []


async def test_a_function_that_is_told_to_stop_may_end_by_itself(children: Children) -> None:
    for work in (functions.say_and_wait, functions.say_and_wait_for_ever):
        on, notes = engine(children), Notes()
        on.context = JobContext(job_id="id", task="t", attempt=1, _notes=notes)
        call = on.send(order(work))
        assert call.interruptible
        while not notes.notes:
            await pause(SystemClock(), 0.01)
        call.interrupt()
        _, error = await on.end()
        assert isinstance(error, JobCancelled)
        assert work.__name__ in call.stack()
    assert len(children.pids) == 1


async def test_a_call_that_is_told_to_stop_before_it_begins_is_not_made(children: Children) -> None:
    on = engine(children)
    on.send(order(functions.hang)).interrupt()
    _, error = await on.end()
    assert isinstance(error, JobCancelled)


async def test_a_call_that_does_not_stop_is_killed_and_another_child_takes_the_place(
    children: Children,
) -> None:
    on = engine(children)
    call = on.send(order(functions.hang))
    await on.begun.wait()
    (first,) = children.pids
    assert call.kill()
    assert on.told == []
    _, error = await on.end()
    assert isinstance(error, ChildDied)
    assert not is_there(first)
    pid, _ = await answer(children, functions.get_pid)
    assert [pid] == children.pids != [first]


async def test_a_death_is_told_with_its_exit_code(children: Children) -> None:
    _, error = await answer(children, functions.die)
    assert isinstance(error, ChildDied)
    assert "exit code 7" in error.reason
    assert children.pids == []


async def test_each_call_has_a_child_of_its_own(children: Children) -> None:
    first, second = engine(children), engine(children)
    first.send(order(functions.get_pid))
    second.send(order(functions.get_pid))
    assert {(await first.end())[0], (await second.end())[0]} == set(children.pids)
    assert len(children.pids) == 2


async def test_a_child_that_dies_while_it_rests_harms_no_call(children: Children) -> None:
    pid, _ = await answer(children, functions.get_pid)
    os.kill(pid, 9)
    while is_there(pid):
        os.sched_yield()
    # Nobody has noticed yet: the loop has not gone round.
    other, error = await answer(children, functions.get_pid)
    assert error is None
    assert other != pid


async def test_a_large_order_and_a_large_answer_go_through(children: Children) -> None:
    word = "x" * 1_000_000
    _, error = await answer(children, functions.five, f'[1,["{word}"],{{}}]')
    assert isinstance(error, NotRunnable)
    on, notes = engine(children), Notes()
    on.context = JobContext(job_id="id", task="t", attempt=1, _notes=notes)
    on.send(order(functions.tell, f'[1,["{word}"],{{}}]'))
    await on.end()
    assert notes.notes[0][-1] == word


def test_an_error_of_a_child_reads_like_the_error() -> None:
    record = AttemptError("ValueError", "bad")
    error = RemoteError(record, gives_up=True, again=False, after=None)
    assert str(error) == "ValueError: bad"
