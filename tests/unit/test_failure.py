"""Errors as text that can be stored, and which errors a policy names.

What lives here: `embedded_tasks/failure.py`. What does not: what follows from an error
(`test_attempt_errors.py`). Called by pytest.
"""

from __future__ import annotations

from typing import Any

import pytest

from embedded_tasks.failure import class_name, describe, matches
from tests.support.tasks import ChildError, OwnError


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001  # any
        return caught


def test_an_error_is_told_by_class_message_and_traceback() -> None:
    told = describe(raised(ValueError("bad value")))
    assert (told.type, told.message) == ("ValueError", "bad value")
    assert told.traceback is not None
    assert told.traceback.startswith("Traceback (most recent call last)")
    assert "raise error" in told.traceback
    assert told.traceback.endswith("ValueError: bad value\n")


def test_a_class_of_a_module_is_told_with_it() -> None:
    assert describe(OwnError("x")).type == "tests.support.tasks.OwnError"
    assert class_name(KeyError) == "KeyError"


def test_causes_are_told_too() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise OwnError("second") from error
    except OwnError as error:
        told = describe(error).traceback
    assert told is not None
    assert "KeyError: 'first'" in told
    assert "direct cause" in told


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


def test_an_error_whose_message_fails_is_told_all_the_same() -> None:
    told = describe(raised(Unspeakable()))
    assert told.message == "<its message cannot be shown: RuntimeError>"
    assert told.traceback


@pytest.mark.parametrize("text", ["lone \ud800 surrogate", "a NUL \0 inside", "\udcff"])
def test_a_message_can_always_be_stored(text: str) -> None:
    told = describe(raised(ValueError(text)))
    for kept in (told.message, told.traceback or ""):
        kept.encode("utf-8")
        assert "\0" not in kept


def test_a_long_message_and_a_long_traceback_are_cut() -> None:
    told = describe(raised(ValueError("x" * 1_000_000)))
    assert len(told.message) == 4_000
    assert told.traceback is not None
    assert len(told.traceback) < 65_000
    assert "... cut ..." in told.traceback
    assert told.traceback.startswith("Traceback")


@pytest.mark.parametrize(
    ("error", "classes", "wanted"),
    [
        (ValueError(), [ValueError], True),
        (ValueError(), [Exception], True),
        (ValueError(), [KeyError, OSError], False),
        (ValueError(), [], False),
        (ValueError(), ["ValueError"], True),
        (ValueError(), ["Exception"], True),
        (ChildError(), ["tests.support.tasks.OwnError"], True),
        (ChildError(), ["tests.support.tasks.ChildError", "KeyError"], True),
        (OwnError(), ["tests.support.tasks.ChildError"], False),
        (OwnError(), ["OwnError"], False),
        (KeyboardInterrupt(), [Exception], False),
        (KeyboardInterrupt(), [BaseException], True),
        (TimeoutError(), ["OSError"], True),
    ],
)
def test_an_error_matches_its_class_its_bases_and_their_stored_names(
    error: BaseException, classes: list[Any], wanted: bool
) -> None:
    assert matches(error, classes) is wanted
