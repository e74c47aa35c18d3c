"""When to try again: waits that grow, lists, functions, and the two exceptions that ask for it.

What lives here: `embedded_tasks/retry.py`. What does not: whether an error is retried at all
(`test_attempt_errors.py`). Called by pytest.
"""

from __future__ import annotations

import math
from datetime import timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, strategies as st

from embedded_tasks.errors import ConfigurationError
from embedded_tasks.retry import Backoff, Retry, Snooze, delay_before_retry


class Middle(Random):
    """A source of chance that always draws the middle."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def waits(policy: Any, count: int = 5, rng: Random | None = None) -> list[float]:
    return [delay_before_retry(policy, n, rng or Middle()) for n in range(1, count + 1)]


def test_waits_grow_from_failure_to_failure_up_to_the_cap() -> None:
    assert waits(Backoff(first=10, factor=3, cap=200)) == [10, 30, 90, 200, 200]


def test_the_defaults_double_from_a_second_to_an_hour() -> None:
    assert waits(Backoff(), 14)[:4] == [1, 2, 4, 8]
    assert waits(Backoff(), 14)[-1] == 3600


def test_times_may_be_timedeltas() -> None:
    policy = Backoff(first=timedelta(minutes=1), cap=timedelta(minutes=3))
    assert waits(policy, 3) == [60, 120, 180]


@given(st.integers(1, 10_000), st.floats(0, 1), st.integers())
def test_jitter_stays_in_its_bounds_and_below_the_cap(
    failures: int, jitter: float, seed: int
) -> None:
    policy = Backoff(first=10, factor=2, cap=1000, jitter=jitter)
    plain = min(10 * 2.0 ** min(failures - 1, 100), 1000)
    wait = policy.delay(failures, Random(seed))
    assert plain * (1 - jitter) - 1e-9 <= wait <= min(plain * (1 + jitter), 1000) + 1e-9


def test_jitter_tells_jobs_apart_that_failed_together() -> None:
    rng = Random(1)
    assert len({Backoff(first=100).delay(1, rng) for _ in range(50)}) == 50
    assert {Backoff(first=100, jitter=0).delay(1, rng) for _ in range(50)} == {100}


def test_a_huge_failure_count_does_not_overflow() -> None:
    assert Backoff(jitter=0).delay(10**9, Random()) == 3600


def test_the_last_wait_of_a_list_repeats() -> None:
    assert waits([1, timedelta(seconds=5)], 4) == [1, 5, 5, 5]


def test_a_function_is_asked_with_the_failure_count() -> None:
    assert waits(lambda failures: timedelta(seconds=failures * 2), 3) == [2, 4, 6]


@pytest.mark.parametrize("answer", [None, -1, "soon", math.nan])
def test_a_function_that_answers_something_else_is_told_of(answer: Any) -> None:
    with pytest.raises(ConfigurationError, match="backoff function="):
        delay_before_retry(lambda failures: answer, 1, Random())


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"first": -1}, "first"),
        ({"first": "1"}, "first"),
        ({"cap": math.inf}, "cap"),
        ({"factor": 0.5}, "factor"),
        ({"factor": math.nan}, "factor"),
        ({"jitter": 1.5}, "jitter"),
        ({"jitter": -0.1}, "jitter"),
        ({"jitter": math.nan}, "jitter"),
    ],
)
def test_a_backoff_that_can_never_work_is_refused(values: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"Backoff\({word}"):
        Backoff(**values)


def test_retry_tells_its_reason_and_its_wait() -> None:
    asked = Retry("the bank is closed", after=timedelta(hours=1))
    assert (str(asked), asked.reason, asked.after) == ("the bank is closed",) * 2 + (3600.0,)
    assert (str(Retry()), Retry().after) == ("the task asked for a retry", None)


def test_snooze_tells_its_reason_and_its_wait() -> None:
    asked = Snooze(60, reason="not ready")
    assert (str(asked), asked.delay) == ("not ready", 60.0)
    assert str(Snooze(timedelta(minutes=1))) == "snoozed for 60 s"


@pytest.mark.parametrize("wait", [-1, "soon", math.nan])
def test_a_wait_that_is_no_duration_is_refused(wait: Any) -> None:
    with pytest.raises(ConfigurationError, match="after"):
        Retry(after=wait)
    with pytest.raises(ConfigurationError, match="delay"):
        Snooze(wait)
