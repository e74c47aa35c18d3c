"""What one attempt comes to: values, errors, retries, snoozes, and jobs that cannot be called.

What lives here: outcomes that the function brings about itself. What does not: being stopped
(`test_attempt_stops.py`). Called by pytest.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, cast

import pytest

from embedded_tasks.config import JobOptions, TaskOptions
from embedded_tasks.context import JobCancelled
from embedded_tasks.job import Expired, Failed, Held, Outcome, RetryLater, Snoozed, Succeeded
from embedded_tasks.retry import Backoff, Retry, Snooze
from tests.support.attempts import Bench, bench
from tests.support.jobs import NOW
from tests.support.tasks import ChildError, OwnError

pytestmark = pytest.mark.anyio


@pytest.fixture
async def on() -> AsyncIterator[Bench]:
    async with bench() as on:
        yield on


def raising(error: BaseException) -> Any:
    """Return an async function and a sync one that raise this error."""

    async def on_loop() -> None:
        raise error

    def in_thread() -> None:
        raise error

    return on_loop, in_thread


async def outcomes(on: Bench, error: BaseException, **more: Any) -> Outcome:
    """Return the outcome of an error, the same for both kinds of functions."""
    on_loop, in_thread = raising(error)
    first = await on.run(on_loop, **more)
    async with bench() as other:
        second = await other.run(in_thread, **more)
    assert type(first) is type(second)
    if isinstance(first, RetryLater) and isinstance(second, RetryLater):
        assert (first.delay, first.error.type) == (second.delay, second.error.type)
    return first


# Values.


@pytest.mark.parametrize("value", [None, 5, "text", [1, (2,)], {"a": timedelta(1)}])
async def test_a_value_is_a_success_on_the_loop_and_in_a_thread(on: Bench, value: Any) -> None:
    async def on_loop() -> Any:
        return value

    first = await on.run(on_loop)
    async with bench() as other:
        second = await other.run(lambda: value)
    assert first == second
    assert isinstance(first, Succeeded)
    assert first.result is not None
    assert on.codec.decoded_result(first.result) == value


async def test_a_value_that_cannot_be_stored_is_a_success_that_says_so(on: Bench) -> None:
    outcome = await on.run(threading.Lock)
    assert isinstance(outcome, Succeeded)
    assert outcome.result is None
    assert "cannot be stored" in (outcome.reason or "")


async def test_a_value_that_is_too_large_is_a_success_that_says_so(on: Bench) -> None:
    outcome = await on.run(lambda: "x" * 20_000)
    assert isinstance(outcome, Succeeded)
    assert "over the limit of 10,000 bytes" in (outcome.reason or "")


# Errors.


async def test_an_error_without_a_policy_fails_the_job(on: Bench) -> None:
    outcome = await outcomes(on, ValueError("bad"))
    assert isinstance(outcome, Failed)
    assert outcome.reason == "ValueError: bad"
    assert outcome.error is not None
    assert outcome.error.type == "ValueError"
    assert "raise error" in (outcome.error.traceback or "")


async def test_an_error_with_attempts_left_is_retried(on: Bench) -> None:
    options: TaskOptions = {"max_attempts": 2, "backoff": [7]}
    outcome = await outcomes(on, ValueError("bad"), options=options)
    assert isinstance(outcome, RetryLater)
    assert (outcome.delay, outcome.error.message) == (7.0, "bad")


@pytest.mark.parametrize(("failures", "kind"), [(0, RetryLater), (1, RetryLater), (2, Failed)])
async def test_attempts_are_counted_by_their_failures(on: Bench, failures: int, kind: type) -> None:
    # Snoozes and crashes have attempts of their own numbers, and are not failures.
    outcome = await outcomes(
        on, ValueError(), options={"max_attempts": 3}, failures=failures, attempt=9, snoozes=5
    )
    assert type(outcome) is kind


POLICIES: list[tuple[BaseException, TaskOptions, bool]] = [
    (OwnError(), {"retry_on": [OwnError]}, True),
    (ChildError(), {"retry_on": [OwnError]}, True),
    (ValueError(), {"retry_on": [OwnError]}, False),
    (ValueError(), {"retry_on": []}, False),
    (ChildError(), {"give_up_on": [ChildError]}, False),
    (OwnError(), {"give_up_on": [ChildError]}, True),
    (ChildError(), {"retry_on": [OwnError], "give_up_on": [ChildError]}, False),
    (OwnError(), {"retry_on": [OwnError], "give_up_on": [ChildError]}, True),
]


@pytest.mark.parametrize(("error", "options", "again"), POLICIES)
async def test_retry_on_and_give_up_on_decide(
    on: Bench, error: BaseException, options: TaskOptions, again: bool
) -> None:
    outcome = await outcomes(on, error, options={**options, "max_attempts": 9, "backoff": [0]})
    assert isinstance(outcome, RetryLater if again else Failed)


@pytest.mark.parametrize(("error", "options", "again"), POLICIES)
async def test_they_decide_by_stored_names_too(
    on: Bench, error: BaseException, options: TaskOptions, again: bool
) -> None:
    policy = cast(JobOptions, {**options, "max_attempts": 9, "backoff": [0]})
    text = on.codec.options_text(policy, on.tasks[on.add(print, policy)].policy)
    on_loop, _ = raising(error)
    attempt = on.attempt(on_loop)
    attempt.job = attempt.job._replace(options=text)
    attempt.start()
    assert isinstance(await on.outcome(), RetryLater if again else Failed)


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), GeneratorExit()])
async def test_what_is_no_exception_fails_the_job_and_never_the_loop(
    on: Bench, error: BaseException
) -> None:
    outcome = await outcomes(on, error, options={"max_attempts": 9})
    assert isinstance(outcome, Failed)
    assert type(error).__name__ in outcome.reason


async def test_an_interrupt_in_a_thread_fails_the_job(on: Bench) -> None:
    _, in_thread = raising(KeyboardInterrupt())
    assert isinstance(await on.run(in_thread), Failed)


async def test_a_group_of_errors_is_an_error(on: Bench) -> None:
    error = ExceptionGroup("both", [ValueError("a"), KeyError("b")])
    outcome = await outcomes(on, error, options={"max_attempts": 2})
    assert isinstance(outcome, RetryLater)
    assert "KeyError" in (outcome.error.traceback or "")


async def test_stopping_itself_without_being_told_to_is_an_error(on: Bench) -> None:
    assert isinstance(await outcomes(on, JobCancelled("why not")), Failed)


# Backoff.


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        ([5, 10], [5, 10, 10]),
        (lambda failures: timedelta(minutes=failures), [60, 120, 180]),
        (Backoff(first=3, factor=10, cap=100, jitter=0), [3, 30, 100]),
    ],
)
async def test_the_backoff_is_asked_with_the_failures_so_far(
    backoff: Any, waits: list[float]
) -> None:
    on_loop, _ = raising(ValueError())
    found = []
    for failures in range(3):
        async with bench() as on:
            options: TaskOptions = {"max_attempts": 9, "backoff": backoff}
            outcome = await on.run(on_loop, options=options, failures=failures)
            assert isinstance(outcome, RetryLater)
            found.append(outcome.delay)
    assert found == waits


def broken(failures: int) -> float:
    raise ZeroDivisionError("oh \ud800")


@pytest.mark.parametrize("backoff", [broken, lambda failures: None, lambda failures: -5, lambda: 5])
async def test_a_broken_backoff_fails_the_job_and_keeps_its_error(on: Bench, backoff: Any) -> None:
    outcome = await outcomes(on, ValueError("bad"), options={"max_attempts": 9, "backoff": backoff})
    assert isinstance(outcome, Failed)
    assert outcome.reason.startswith("the backoff of shop:0 failed: ")
    outcome.reason.encode("utf-8")
    assert outcome.error is not None
    assert outcome.error.message == "bad"


# Asking for it.


@pytest.mark.parametrize(
    ("after", "delay"), [(None, 20.0), (90, 90.0), (timedelta(hours=1), 3600.0)]
)
async def test_a_task_may_ask_for_a_retry_whatever_its_policy_says(
    on: Bench, after: Any, delay: float
) -> None:
    options: TaskOptions = {"max_attempts": 9, "backoff": [10, 20], "retry_on": []}
    outcome = await outcomes(on, Retry("closed", after=after), options=options, failures=1)
    assert isinstance(outcome, RetryLater)
    assert (outcome.delay, outcome.error.message) == (delay, "closed")


async def test_asking_for_a_retry_uses_attempts_up(on: Bench) -> None:
    outcome = await outcomes(on, Retry(after=5), options={"max_attempts": 2}, failures=1)
    assert isinstance(outcome, Failed)


async def test_a_snooze_is_no_failure_however_often_it_comes(on: Bench) -> None:
    outcome = await outcomes(on, Snooze(60, reason="not ready"), snoozes=1000, attempt=1001)
    assert outcome == Snoozed(60.0, "not ready")


async def test_the_reason_of_a_snooze_can_always_be_stored(on: Bench) -> None:
    outcome = await outcomes(on, Snooze(60, reason="lone \ud800"))
    assert isinstance(outcome, Snoozed)
    outcome.reason.encode("utf-8")


# Time that passes.


async def test_a_retry_that_would_come_too_late_expires_the_job(on: Bench) -> None:
    options: TaskOptions = {"max_attempts": 9, "backoff": [10]}
    outcome = await outcomes(on, ValueError("bad"), options=options, finish_by=NOW + 10)
    assert isinstance(outcome, Expired)
    assert "next attempt" in outcome.reason
    assert outcome.error is not None


async def test_a_retry_that_comes_in_time_is_made(on: Bench) -> None:
    options: TaskOptions = {"max_attempts": 9, "backoff": [10]}
    outcome = await outcomes(on, ValueError(), options=options, finish_by=NOW + 10.001)
    assert isinstance(outcome, RetryLater)


@pytest.mark.parametrize("limit", ["start_by", "finish_by"])
async def test_a_job_whose_time_has_passed_is_not_called(on: Bench, limit: str) -> None:
    outcome = await on.run(lambda: pytest.fail("called"), **{limit: NOW})
    assert isinstance(outcome, Expired)
    assert limit.replace("by", "within") in outcome.reason


async def test_a_job_that_had_started_in_time_may_be_tried_again_later(on: Bench) -> None:
    assert isinstance(await on.run(lambda: None, start_by=NOW, attempt=2), Succeeded)


# Jobs that cannot be called.


async def test_a_task_that_this_code_does_not_have_is_held(on: Bench) -> None:
    outcome = await on.run(lambda: None, task="shop:lost")
    assert outcome == Held("shop:lost: it is not there", "unknown_task")


@pytest.mark.parametrize("text", ["{", "[]", '[1,[{"$":"x"}],{}]', "[99,[],{}]", "null"])
async def test_arguments_that_cannot_be_read_are_held(on: Bench, text: str) -> None:
    outcome = await on.run(lambda: pytest.fail("called"), args=text)
    assert isinstance(outcome, Held)
    assert outcome.held_for == "arguments"


async def test_arguments_that_do_not_fit_the_function_any_more_are_held(on: Bench) -> None:
    def changed(a: int, b: int) -> None: ...

    outcome = await on.run(changed, 4711)
    assert isinstance(outcome, Held)
    assert outcome.held_for == "arguments"
    assert "missing a required argument: 'b'" in outcome.reason
    assert "4711" not in outcome.reason


async def test_options_that_cannot_be_read_are_held(on: Bench) -> None:
    attempt = on.attempt(lambda: pytest.fail("called"))
    attempt.job = attempt.job._replace(options="[]")
    attempt.start()
    outcome = await on.outcome()
    assert isinstance(outcome, Held)
    assert outcome.held_for == "arguments"


async def test_a_thread_that_cannot_be_had_is_an_error_like_any_other(
    on: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_more_threads(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_more_threads)
    outcome = await on.run(lambda: None, options={"max_attempts": 2, "backoff": [1]})
    assert isinstance(outcome, RetryLater)
    assert on.threads.busy == 0
    monkeypatch.undo()
    async with bench() as other:
        other.threads = on.threads
        assert isinstance(await other.run(lambda: None), Succeeded)


async def test_an_attempt_ends_once(on: Bench) -> None:
    await on.run(lambda: 5)
    assert len(on.ends) == 1
    assert on.clock.waits == []
