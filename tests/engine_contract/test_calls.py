"""What every engine promises about a call: its end is told once, and it can be told to stop.

What lives here: all engines through one suite, and what the loop and our threads have of their own.
What does not: what children have (`test_children.py`), timers and outcomes
(`tests/unit/test_attempt_*.py`). Called by pytest.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from typing import Any

import pytest

from embedded_tasks.engine import Threads, start_on_loop
from tests.engine_contract import functions
from tests.engine_contract.functions import Engine, children_of_this_loop

pytestmark = pytest.mark.anyio

word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="none")


@pytest.fixture(params=["loop", "threads"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """An engine of this process."""
    threads = Threads(asyncio.get_running_loop())
    yield Engine(request.param, threads)
    threads.close()


@pytest.fixture(params=["loop", "threads", "children"])
async def any_engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    threads, children = Threads(asyncio.get_running_loop()), children_of_this_loop()
    yield Engine(request.param, threads, children if request.param == "children" else None)
    threads.close()
    await children.close()


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    threads = Threads(asyncio.get_running_loop())
    yield threads
    threads.close()


async def test_a_value_is_told_once_and_on_the_loop(any_engine: Engine) -> None:
    any_engine.start(functions.five)
    assert any_engine.told == []
    assert await any_engine.end() == (5, None)
    assert any_engine.told_in == [threading.get_ident()]


@pytest.mark.parametrize(
    ("work", "error"),
    [
        (functions.bad, "ValueError"),
        (functions.leave, "SystemExit"),
        (functions.cancel, "asyncio.exceptions.CancelledError"),
        (functions.close, "GeneratorExit"),
    ],
)
async def test_an_error_is_told_and_hurts_nobody_else(
    engine: Engine, work: Callable[[], Any], error: str
) -> None:
    assert (await engine.error(work)).type == error


async def test_an_error_keeps_its_message_and_traceback(any_engine: Engine) -> None:
    error = await any_engine.error(functions.bad)
    assert (error.type, error.message) == ("ValueError", "bad")
    assert error.traceback is not None
    assert 'raise ValueError("bad")' in error.traceback


async def test_a_call_sees_the_context_that_it_is_given_and_changes_no_other(
    engine: Engine,
) -> None:
    context = Context()
    context.run(word.set, "given")

    def work() -> str:
        before = word.get()
        word.set("changed")
        return before

    assert await engine.run(work, context) == ("given", None)
    assert word.get() == "none"
    assert context[word] == "changed"


class Thing:
    pass


async def test_nothing_of_a_call_lives_on_when_it_has_ended(engine: Engine) -> None:
    thing = Thing()
    kept = weakref.ref(thing)

    def work(thing: Thing = thing) -> None: ...

    del thing
    await engine.run(work)
    del work
    # The engine's own thread lets go of it as it begins to wait again.
    engine.forget()
    await engine.run(lambda: None)
    gc.collect()
    assert kept() is None


async def test_where_a_call_on_the_loop_is_can_be_told() -> None:
    engine = Engine("loop", Threads(asyncio.get_running_loop()))
    started, go_on = asyncio.Event(), asyncio.Event()

    async def innermost() -> None:
        started.set()
        await go_on.wait()

    async def outer() -> None:
        await innermost()

    call = start_on_loop(outer, (), {}, Context(), engine._done)
    await started.wait()
    stack = call.stack()
    assert stack.index("in outer") < stack.index("in innermost") < stack.index("go_on.wait()")
    go_on.set()
    await engine.end()
    assert call.stack() == ""


async def test_where_a_thread_is_can_be_told(threads: Threads) -> None:
    engine = Engine("threads", threads)
    started, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def blocking() -> None:
        loop.call_soon_threadsafe(started.set)
        go_on.wait()

    call = engine.start(blocking)
    await started.wait()
    assert "in blocking" in call.stack()
    go_on.set()
    await engine.end()
    assert call.stack() == ""


# The loop's own.


async def test_a_call_on_the_loop_is_cancelled_when_it_is_told_to_stop() -> None:
    engine = Engine("loop", Threads(asyncio.get_running_loop()))
    started = asyncio.Event()

    async def wait() -> None:
        started.set()
        await asyncio.Event().wait()

    call = start_on_loop(wait, (), {}, Context(), engine._done)
    assert call.interruptible
    await started.wait()
    call.interrupt()
    _, error = await engine.end()
    assert isinstance(error, asyncio.CancelledError)


async def test_the_arguments_are_those_of_the_call() -> None:
    engine = Engine("loop", Threads(asyncio.get_running_loop()))

    async def both(a: int, *, b: int) -> tuple[int, int]:
        return a, b

    start_on_loop(both, (1,), {"b": 2}, Context(), engine._done)
    assert await engine.end() == ((1, 2), None)


# The threads' own.


async def test_a_call_in_a_thread_is_only_told_to_stop(threads: Threads) -> None:
    engine = Engine("threads", threads)
    go_on = threading.Event()
    call = engine.start(go_on.wait)
    assert not call.interruptible
    call.interrupt()
    assert engine.stops == 1
    assert engine.told == []
    go_on.set()
    assert await engine.end() == (True, None)


async def test_there_is_a_thread_for_every_call_however_many_block(threads: Threads) -> None:
    go_on = threading.Event()
    blocked = [Engine("threads", threads) for _ in range(50)]
    for engine in blocked:
        engine.start(go_on.wait)
    assert threads.busy == 50
    free = Engine("threads", threads)
    assert await free.run(lambda: 5) == (5, None)
    go_on.set()
    for engine in blocked:
        await engine.end()
    assert threads.busy == 0


async def test_threads_are_used_again(threads: Threads) -> None:
    idents = set()
    for _ in range(20):
        engine = Engine("threads", threads)
        ident, _ = await engine.run(threading.get_ident)
        idents.add(ident)
    assert len(idents) <= 2
    assert threading.get_ident() not in idents


async def test_the_threads_do_not_keep_the_interpreter_from_ending(threads: Threads) -> None:
    engine = Engine("threads", threads)
    daemon, _ = await engine.run(lambda: threading.current_thread().daemon)
    assert daemon is True


async def test_idle_threads_end_when_the_engine_is_closed() -> None:
    threads = Threads(asyncio.get_running_loop())
    thread, _ = await Engine("threads", threads).run(threading.current_thread)
    threads.close()
    thread.join(timeout=60)
    assert not thread.is_alive()


async def test_a_thread_that_is_inside_a_function_ends_after_it() -> None:
    threads = Threads(asyncio.get_running_loop())
    go_on = threading.Event()
    found: list[threading.Thread] = []
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def work() -> None:
        found.append(threading.current_thread())
        loop.call_soon_threadsafe(started.set)
        go_on.wait()

    engine = Engine("threads", threads)
    engine.start(work)
    await started.wait()
    threads.close()
    assert found[0].is_alive()
    go_on.set()
    await engine.end()
    found[0].join(timeout=60)
    assert not found[0].is_alive()


def test_an_end_that_comes_when_the_loop_is_gone_hurts_nobody() -> None:
    loop = asyncio.new_event_loop()
    threads = Threads(loop)
    ended: list[object] = []
    found: list[threading.Thread] = []
    started, go_on = threading.Event(), threading.Event()

    def work() -> None:
        found.append(threading.current_thread())
        started.set()
        go_on.wait()

    threads.start(work, Context(), lambda value, error: ended.append(value), lambda: None)
    started.wait()
    loop.close()
    threads.close()
    go_on.set()
    found[0].join(timeout=60)
    assert not found[0].is_alive()
    assert ended == []
    assert threads.busy == 0
