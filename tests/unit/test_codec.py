"""Between Python values and the stored text: arguments, results, and a job's own options.

What lives here: `embedded_tasks/codec.py`. What does not: the format (`test_payload*.py`). Called
by pytest.
"""

from __future__ import annotations

import json
from datetime import timedelta
from random import Random
from typing import Any, cast

import pytest

from embedded_tasks.codec import Codec
from embedded_tasks.config import JobOptions, Policy
from embedded_tasks.errors import NotDurableError, PayloadError, PayloadTooLargeError
from embedded_tasks.failure import matches
from embedded_tasks.references import References
from embedded_tasks.retry import Backoff, delay_before_retry
from tests.support.tasks import ChildError, OwnError, waits_twice_as_long


def codec(limit: int = 1000) -> Codec:
    return Codec(References(modules=["tests"]), limit)


def there_and_back(options: dict[str, Any], base: Policy | None = None) -> Policy:
    """Store options with one codec and read them with another, as two processes do."""
    given = cast(JobOptions, options)
    base = base or Policy()
    text = codec().options_text(given, base.with_options(cast(Any, given)))
    return codec().policy(base, text)


def test_arguments_come_back_as_they_were() -> None:
    text = codec().encode_arguments((1, "a", (2, 3)), {"when": timedelta(1)}, "shop:send")
    assert codec().arguments(text) == ((1, "a", (2, 3)), {"when": timedelta(1)})


@pytest.mark.parametrize("value", [None, 0, "", [1], (1,), {"a": None}, timedelta(5)])
def test_results_come_back_as_they_were(value: Any) -> None:
    found = codec().decoded_result(codec().result(value, "shop:send"))
    assert found == value
    assert type(found) is type(value)


def test_a_result_that_cannot_be_stored_is_told_by_its_task() -> None:
    with pytest.raises(NotDurableError, match="result of shop:send"):
        codec().result(object(), "shop:send")
    with pytest.raises(PayloadTooLargeError, match="over the limit of 100 bytes"):
        codec(100).result("x" * 200, "shop:send")


def test_without_options_nothing_is_stored_and_the_policy_is_the_task_s() -> None:
    base = Policy(max_attempts=7)
    assert codec().options_text({}, base) is None
    assert codec().options_text({"queue": "mail", "delay": 5}, base) is None
    assert codec().policy(base, None) is base


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"max_attempts": 4}, {"max_attempts": 4}),
        ({"timeout": timedelta(seconds=3)}, {"timeout": 3.0}),
        ({"timeout": None}, {"timeout": None}),
        ({"run_in": "process"}, {"run_in": "process"}),
        ({"backoff": [1, timedelta(seconds=2)]}, {"backoff": (1.0, 2.0)}),
        ({"backoff": (5,)}, {"backoff": (5.0,)}),
        ({"backoff": waits_twice_as_long}, {"backoff": waits_twice_as_long}),
        ({"retry_on": [OwnError]}, {"retry_on": ("tests.support.tasks.OwnError",)}),
        ({"retry_on": ValueError}, {"retry_on": ("ValueError",)}),
        ({"retry_on": []}, {"retry_on": ()}),
        ({"give_up_on": (KeyError, OSError)}, {"give_up_on": ("KeyError", "OSError")}),
    ],
)
def test_a_job_s_own_options_hold_in_another_process(
    options: dict[str, Any], kept: dict[str, Any]
) -> None:
    base = Policy(timeout=9.0, max_attempts=2, on_crash="hold")
    policy = there_and_back(options, base)
    assert {name: getattr(policy, name) for name in kept} == kept
    assert policy.on_crash == "hold"


def test_a_backoff_comes_back_with_all_its_parts() -> None:
    given = Backoff(first=timedelta(minutes=1), factor=3.0, cap=500, jitter=0.0)
    policy = there_and_back({"backoff": given})
    waits = [delay_before_retry(policy.backoff, n, Random()) for n in (1, 2, 3)]
    assert waits == [60, 180, 500]


def test_error_classes_that_were_stored_by_name_still_match_their_children() -> None:
    policy = there_and_back({"retry_on": [OwnError]})
    assert matches(ChildError(), policy.retry_on)
    assert not matches(ValueError(), policy.retry_on)


def test_a_backoff_function_without_a_name_cannot_be_stored() -> None:
    with pytest.raises(NotDurableError, match="lambda"):
        there_and_back({"backoff": lambda failures: 1.0})


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "5",
        "[]",
        '"x"',
        '{"max_attempts": 0}',
        '{"max_attempts": "x"}',
        '{"colour": 1}',
        '{"backoff": {"colour": 1}}',
        '{"backoff": {"first": -1}}',
        '{"backoff": "subprocess:run"}',
        '{"backoff": "tests.support.tasks:nothing"}',
        '{"backoff": []}',
        '{"retry_on": 5}',
        '{"timeout": -1}',
    ],
)
def test_options_that_this_code_cannot_read_are_a_payload_error(text: str) -> None:
    with pytest.raises(PayloadError, match="stored options cannot be read"):
        codec().policy(Policy(), text)


def test_a_policy_is_read_once_per_task_and_text() -> None:
    one, base, other = codec(), Policy(), Policy(queue="mail")
    text = json.dumps({"max_attempts": 4})
    assert one.policy(base, text) is one.policy(base, text)
    assert one.policy(other, text).queue == "mail"


def test_the_memory_of_policies_is_bounded() -> None:
    one, base = codec(), Policy()
    for attempts in range(1, 2_500):
        one.policy(base, json.dumps({"max_attempts": attempts}))
    assert len(one._policies) <= 1_001
