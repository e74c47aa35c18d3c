"""What a function is called with: arguments, its context, and what its log lines carry.

What lives here: originals and copies, the job's context, context variables. What does not: what
comes of the call (`test_attempt_outcomes.py`). Called by pytest.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import structlog

from embedded_tasks.attempt import Stop
from embedded_tasks.context import JobCancelled, JobContext, Original
from embedded_tasks.job import Cancelled, Succeeded
from tests.support.attempts import Bench, bench
from tests.support.jobs import job_id

pytestmark = pytest.mark.anyio

word: contextvars.ContextVar[str] = contextvars.ContextVar("word", default="none")


@pytest.fixture
async def on() -> AsyncIterator[Bench]:
    async with bench() as on:
        yield on


@pytest.fixture
def seen() -> list[Any]:
    return []


def both(see: Callable[[], Any], seen: list[Any]) -> list[Callable[..., Any]]:
    """Return an async function and a sync one that remember what they see."""

    async def on_loop() -> None:
        seen.append(see())

    def in_thread() -> None:
        seen.append(see())

    return [on_loop, in_thread]


async def run_both(see: Callable[[], Any], seen: list[Any], **more: Any) -> None:
    for function in both(see, seen):
        async with bench() as on:
            assert isinstance(await on.run(function, **more), Succeeded)


# Arguments.


async def test_a_job_without_originals_gets_equal_copies(on: Bench, seen: list[Any]) -> None:
    given = {"a": [1, 2]}
    await on.run(seen.append, given)
    assert seen == [given]
    assert seen[0] is not given


async def test_a_job_with_originals_gets_the_very_objects(on: Bench, seen: list[Any]) -> None:
    given = object()
    original = Original((given,), {}, contextvars.copy_context())
    await on.run(seen.append, original=original, args="not even text")
    assert seen == [given]


# The job's context.


async def test_the_context_tells_of_the_job(on: Bench, seen: list[Any]) -> None:
    def function(number: int, ctx: JobContext) -> None:
        seen.extend([number, ctx])

    job = {"attempt": 3, "failures": 1, "crashes": 1, "queue": "mail", "request_id": "r1"}
    await on.run(function, 5, **job)
    number, ctx = seen
    assert number == 5
    assert (ctx.job_id, ctx.task) == (job_id(1), "shop:0")
    assert {name: getattr(ctx, name) for name in job} == job
    assert not ctx.stopping
    ctx.check()


async def test_the_context_is_put_in_beside_originals_too(on: Bench, seen: list[Any]) -> None:
    def function(ctx: JobContext, number: int) -> None:
        seen.extend([ctx.attempt, number])

    await on.run(function, original=Original((5,), {}, contextvars.copy_context()))
    assert seen == [1, 5]


async def test_the_context_says_when_to_stop(on: Bench) -> None:
    started = asyncio.Event()
    contexts: list[JobContext] = []

    async def function(ctx: JobContext) -> None:
        contexts.append(ctx)
        started.set()
        await asyncio.Event().wait()

    attempt = on.start(function)
    await started.wait()
    attempt.stop(Stop.CANCELLED)
    assert contexts[0].stopping
    with pytest.raises(JobCancelled, match=job_id(1)):
        contexts[0].check()
    assert isinstance(await on.outcome(), Cancelled)


def test_the_context_does_not_show_its_inside() -> None:
    assert "_stopped" not in repr(JobContext(job_id="1", task="t", attempt=1))


# Context variables and logging.


def logged() -> dict[str, Any]:
    """Return what structlog's own processor would put into a line, logged from here."""
    merged = structlog.contextvars.merge_contextvars(None, "info", {"event": "own"})
    return dict(merged)


BOUND = {"event": "own", "job_id": job_id(1), "task": "shop:0", "attempt": 2, "request_id": "r1"}


async def test_the_task_s_own_log_lines_tell_the_job(seen: list[Any]) -> None:
    await run_both(logged, seen, attempt=2, request_id="r1")
    assert seen == [BOUND, BOUND]


async def test_without_a_request_no_request_is_told(seen: list[Any]) -> None:
    await run_both(logged, seen)
    assert all("request_id" not in line for line in seen)


async def test_what_is_bound_for_the_task_does_not_leak_out_of_it(seen: list[Any]) -> None:
    before = logged()
    await run_both(logged, seen)
    assert logged() == before
    async with bench() as on:
        await on.run(lambda: seen.append(logged()), id=job_id(2))
    assert seen[-1]["job_id"] == job_id(2)


async def test_what_a_task_binds_does_not_leak_either(seen: list[Any]) -> None:
    def bind() -> None:
        structlog.contextvars.bind_contextvars(colour="red")
        word.set("inside")

    await run_both(bind, seen)
    assert "colour" not in logged()
    assert word.get() == "none"


async def test_a_job_without_originals_sees_no_context_of_its_caller(seen: list[Any]) -> None:
    token = word.set("request")
    try:
        await run_both(word.get, seen)
    finally:
        word.reset(token)
    assert seen == ["none", "none"]


async def test_a_first_attempt_sees_the_context_of_its_request(seen: list[Any]) -> None:
    for function in both(lambda: (word.get(), logged().get("colour")), seen):
        context = contextvars.copy_context()
        context.run(word.set, "request")
        context.run(structlog.contextvars.bind_contextvars, colour="blue")
        async with bench() as on:
            await on.run(function, original=Original((), {}, context))
    assert seen == [("request", "blue")] * 2
    assert word.get() == "none"
