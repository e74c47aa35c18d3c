"""What "type for type" means in the tests of payloads.

What lives here: one comparison. What does not: what is compared. Called by the payload tests.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Mapping, Set as AbstractSet
from datetime import datetime, time
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from types import FunctionType
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel


def assert_same(left: Any, right: Any, path: str = "value") -> None:
    """Assert that two values are equal and of the same types at every level."""
    assert type(left) is type(right), f"{path}: {type(left)} is not {type(right)}"
    if isinstance(left, Mapping | AbstractSet | list | tuple | deque):
        _assert_same_container(left, right, path)
    elif isinstance(left, datetime | time):
        assert left.replace(tzinfo=None) == right.replace(tzinfo=None), path
        assert left.fold == right.fold, path
        assert_same(left.tzinfo, right.tzinfo, f"{path}.tzinfo")
    elif isinstance(left, BaseModel | type) or dataclasses.is_dataclass(left):
        _assert_same_object(left, right, path)
    else:
        assert _same_scalar(left, right), path


def _assert_same_container(left: Any, right: Any, path: str) -> None:
    assert len(left) == len(right), path
    if isinstance(left, Mapping):
        assert_same(list(left.items()), list(right.items()), f"{path}.items()")
    elif isinstance(left, AbstractSet):
        _assert_same_set(left, right, path)
    else:
        for index, pair in enumerate(zip(left, right, strict=True)):
            assert_same(*pair, f"{path}[{index}]")
    for name in ("default_factory", "maxlen"):
        assert getattr(left, name, None) == getattr(right, name, None), path


def _assert_same_set(left: AbstractSet[Any], right: AbstractSet[Any], path: str) -> None:
    """Pair the elements off: a set has no order that is the same on both sides."""
    remaining = list(right)
    for item in left:
        for index, other in enumerate(remaining):
            if _is_same(item, other):
                del remaining[index]
                break
        else:
            raise AssertionError(f"{path}: {item!r} is not among {remaining!r}")


def _is_same(left: Any, right: Any) -> bool:
    try:
        assert_same(left, right)
    except AssertionError:
        return False
    return True


def _assert_same_object(left: Any, right: Any, path: str) -> None:
    if isinstance(left, type):
        assert left is right, path
        return
    if isinstance(left, BaseModel):
        names = list(type(left).model_fields)
        assert_same(left.model_fields_set, right.model_fields_set, f"{path}.set")
        assert_same(left.__pydantic_extra__, right.__pydantic_extra__, f"{path}.extra")
        assert_same(left.__pydantic_private__, right.__pydantic_private__, f"{path}.private")
    else:
        names = [field.name for field in dataclasses.fields(left)]
    for name in names:
        assert_same(getattr(left, name), getattr(right, name), f"{path}.{name}")


def _same_scalar(left: Any, right: Any) -> bool:
    if isinstance(left, Enum | FunctionType | ZoneInfo):
        return left is right
    if isinstance(left, float):
        return same_float(left, right)
    if isinstance(left, complex):
        return same_float(left.real, right.real) and same_float(left.imag, right.imag)
    if isinstance(left, Decimal):
        return str(left) == str(right)  # == says nothing of NaN, -0 and trailing zeros
    if isinstance(left, int | str | bytes | bytearray | Fraction):
        return bool(left == right)
    return bool(left == right) and repr(left) == repr(right)


def same_float(left: float, right: float) -> bool:
    """Tell whether two floats are one: NaN is NaN, and -0.0 is not 0.0."""
    if math.isnan(left) or math.isnan(right):
        same = math.isnan(left) and math.isnan(right)
    else:
        same = left == right
    return same and math.copysign(1, left) == math.copysign(1, right)
