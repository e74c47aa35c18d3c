"""What may be set for a task or a job, and how what can never work is refused.

What lives here: every option of `TaskOptions`, and `Retention`. What does not: what follows from
them (`test_attempt_*.py`). Called by pytest.
"""

from __future__ import annotations

import math
from datetime import timedelta
from smtplib import SMTPException
from typing import Any, cast

import pytest

from embedded_tasks import task
from embedded_tasks.config import JobOptions, Policy, Retention, TaskOptions, check_label
from embedded_tasks.errors import ConfigurationError
from embedded_tasks.retry import Backoff


def double(failures: int) -> float:
    return 2.0 * failures


GOOD: list[tuple[str, Any, Any]] = [
    ("max_attempts", 1, 1),
    ("max_attempts", 1_000_000, 1_000_000),
    ("backoff", Backoff(first=3), Backoff(first=3)),
    ("backoff", [1, timedelta(minutes=1)], (1.0, 60.0)),
    ("backoff", (0,), (0.0,)),
    ("backoff", double, double),
    ("retry_on", [ValueError, SMTPException], (ValueError, SMTPException)),
    ("retry_on", ValueError, (ValueError,)),
    ("retry_on", [], ()),
    ("give_up_on", (KeyboardInterrupt,), (KeyboardInterrupt,)),
    ("timeout", timedelta(seconds=30), 30.0),
    ("timeout", 0.5, 0.5),
    ("timeout", None, None),
    ("start_within", 60, 60.0),
    ("start_within", None, None),
    ("finish_within", timedelta(days=1), 86400.0),
    ("finish_within", None, None),
    ("priority", -1_000_000, -1_000_000),
    ("priority", 1_000_000, 1_000_000),
    ("queue", "mail", "mail"),
    ("queue", "ü" * 200, "ü" * 200),
    ("tags", ["a", "b", "a"], ("a", "b")),
    ("tags", (), ()),
    ("on_crash", "hold", "hold"),
    ("on_crash", "fail", "fail"),
    ("on_crash", "retry", "retry"),
    ("run_in", "auto", "auto"),
    ("run_in", "process", "process"),
]

BAD: list[tuple[str, Any]] = [
    ("max_attempts", 0),
    ("max_attempts", -1),
    ("max_attempts", 1_000_001),
    ("max_attempts", 2.0),
    ("max_attempts", True),
    ("max_attempts", None),
    ("backoff", []),
    ("backoff", [-1]),
    ("backoff", ["soon"]),
    ("backoff", 5),
    ("backoff", "exponential"),
    ("backoff", None),
    ("retry_on", [ValueError()]),
    ("retry_on", ["ValueError"]),
    ("retry_on", [int]),
    ("retry_on", None),
    ("give_up_on", [lambda: None]),
    ("timeout", 0),
    ("timeout", -1),
    ("timeout", math.nan),
    ("timeout", "30"),
    ("timeout", True),
    ("start_within", 0),
    ("start_within", timedelta(0)),
    ("finish_within", 0.0),
    ("finish_within", math.inf),
    ("priority", 1_000_001),
    ("priority", 0.5),
    ("priority", False),
    ("queue", ""),
    ("queue", "x" * 201),
    ("queue", "a\nb"),
    ("queue", "\ud800"),
    ("queue", None),
    ("tags", "urgent"),
    ("tags", ["a", ""]),
    ("tags", [1]),
    ("tags", {"a"}),
    ("on_crash", "explode"),
    ("on_crash", None),
    ("run_in", "thread"),
    ("run_in", None),
]


def options(name: str, value: Any) -> TaskOptions:
    return cast(TaskOptions, {name: value})


@pytest.mark.parametrize(("name", "given", "kept"), GOOD)
def test_an_option_is_checked_and_kept(name: str, given: Any, kept: Any) -> None:
    policy = Policy().with_options(options(name, given))
    assert getattr(policy, name) == kept
    assert type(getattr(policy, name)) is type(kept)


@pytest.mark.parametrize(("name", "given"), BAD)
def test_an_option_that_can_never_work_is_refused_by_its_name(name: str, given: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name}=.*expected"):
        Policy().with_options(options(name, given))


@pytest.mark.parametrize(("name", "given"), BAD[:3])
def test_the_decorator_refuses_it_where_it_is_written(name: str, given: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        task(**options(name, given))


def test_every_option_is_tested_above_and_has_a_default() -> None:
    names = set(TaskOptions.__annotations__)
    assert {name for name, *_ in GOOD} == {name for name, _ in BAD} == names
    assert set(Policy.__dataclass_fields__) == names
    assert set(JobOptions.__annotations__) == names | {"delay", "owner", "run_at"}


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="unknown option retires; known are backoff, "):
        Policy().with_options(options("retires", 3))


def test_without_options_a_policy_is_itself() -> None:
    policy = Policy()
    assert policy.with_options({}) is policy
    assert policy.with_error_names({}) is policy


def test_nothing_is_retried_unless_it_is_asked_for() -> None:
    assert Policy().max_attempts == 1
    assert Policy().on_crash == "retry"
    assert Policy().timeout is None


def test_later_options_win_and_the_rest_stays() -> None:
    policy = Policy().with_options({"max_attempts": 5, "queue": "mail"})
    policy = policy.with_options({"queue": "sms"})
    assert (policy.max_attempts, policy.queue) == (5, "sms")


def test_error_classes_may_be_given_by_their_stored_names() -> None:
    policy = Policy().with_error_names({"retry_on": ("ValueError", "shop.Gone")})
    assert policy.retry_on == ("ValueError", "shop.Gone")


def test_a_label_is_shown_in_its_refusal() -> None:
    assert check_label("name", "shop.send") == "shop.send"
    with pytest.raises(ConfigurationError, match="name='\\\\x00'"):
        check_label("name", "\0")


@pytest.mark.parametrize("state", ["succeeded", "failed", "cancelled", "expired"])
def test_retention_is_per_state_and_takes_timedeltas(state: str) -> None:
    keep = Retention(**{state: timedelta(minutes=5)})
    assert keep.keep(state) == 300.0
    assert Retention().keep(state) >= 86400.0


@pytest.mark.parametrize("given", [-1, math.nan, "forever", None])
def test_a_retention_that_is_no_duration_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Retention\(failed=\)"):
        Retention(failed=given)
