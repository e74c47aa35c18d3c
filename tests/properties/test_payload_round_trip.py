"""Any value made of what can be stored comes back type for type, and any text is read or refused.

What lives here: values and texts made at random. What does not: one example of each kind
(`tests/unit/test_payload.py`). Called by pytest.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from dataclasses import dataclass, field
from datetime import UTC, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum, auto
from functools import reduce
from operator import or_
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from zoneinfo import available_timezones

import pydantic_core
from hypothesis import example, given, settings, strategies as st
from pydantic import AnyUrl, BaseModel, ConfigDict, HttpUrl

from embedded_tasks.errors import NotDurableError, PayloadError
from embedded_tasks.payload import decode, decode_arguments, encode, encode_arguments
from embedded_tasks.payload.codec import _DECODERS
from embedded_tasks.references import References
from tests.properties.exactness import assert_same

REFERENCES = References([__name__])


class Color(Enum):
    RED = "red"
    GREEN = ("g", 1)


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Kind(StrEnum):
    A = "a"
    B = "b"


class Bits(Flag):
    ONE = auto()
    TWO = auto()
    THREE = auto()


class Pair(NamedTuple):
    left: Any
    right: Any = None


@dataclass
class Record:
    first: Any
    rest: Any = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Key:
    name: Any


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    item: Any = None
    other: Any = 1
    _private: Any = None


any_text = st.text(st.characters(exclude_categories=()))  # surrogates too
bits = st.lists(st.sampled_from(list(Bits))).map(lambda members: reduce(or_, members, Bits(0)))
offsets = st.timedeltas(timedelta(hours=-23), timedelta(hours=23))
zones: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.just(UTC),
    st.builds(timezone, offsets),
    st.builds(timezone, offsets, any_text),
    st.integers(-86_399, 86_399).map(pydantic_core.TzInfo),
    *([st.timezones()] if available_timezones() else []),
)
hashable_leaves: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    any_text,
    st.binary(),
    st.complex_numbers(),
    st.decimals().filter(lambda value: not value.is_snan()),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=zones, allow_imaginary=True),
    st.times(),
    st.timedeltas(),
    zones,
    st.ip_addresses(),
    st.builds(range, st.integers(), st.integers(), st.integers().filter(bool)),
    st.lists(st.text(), max_size=3).map(lambda parts: PurePosixPath(*parts)),
    st.sampled_from([AnyUrl("x:y"), HttpUrl("http://a/b?c"), AnyUrl("postgres://u:p@h/d")]),
    st.sampled_from([*Color, *Level, *Kind, Color, Record, int, print, Model]),
    bits,
)
hashables = st.recursive(
    hashable_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Pair, inner, inner),
        st.builds(Key, inner),
    ),
    max_leaves=4,
)
leaves = hashables | st.builds(bytearray, st.binary()) | st.just(Decimal("sNaN1"))


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(inner, max_size=4)
    dicts = st.dictionaries(any_text | st.just("$"), inner, max_size=4)
    any_dicts = st.dictionaries(hashables, inner, max_size=4)
    return st.one_of(
        lists,
        dicts,
        any_dicts,
        lists.map(tuple),
        lists.map(deque),
        lists.map(lambda items: deque(items, maxlen=len(items) + 1)),
        st.sets(hashables, max_size=4),
        any_dicts.map(OrderedDict),
        any_dicts.map(Counter),
        st.builds(defaultdict, st.sampled_from([None, list, int, Record]), any_dicts),
        st.builds(Pair, inner, inner),
        st.builds(Record, inner, inner),
        st.builds(lambda state: Model.model_construct(**state), dicts_of_names(inner)),
    )


def dicts_of_names(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(["item", "other", "more", "$", "extra"]), inner)


values = st.recursive(leaves, containers, max_leaves=12)


@settings(max_examples=300, deadline=None)
@given(values)
@example({"$": {"$": "$"}})
@example(["\ud83d\ude00", {"\ud83d\ude00": "\ud83d\ude00"}])
def test_a_value_comes_back_type_for_type(value: Any) -> None:
    text = encode(value, REFERENCES, limit=None)
    assert text.isascii()
    assert_same(decode(text, REFERENCES), value)


@settings(max_examples=100, deadline=None)
@given(st.lists(values, max_size=3).map(tuple), st.dictionaries(any_text, values, max_size=3))
def test_arguments_come_back_type_for_type(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    text = encode_arguments(args, kwargs, REFERENCES, task="f", limit=10**9)
    assert_same(decode_arguments(text, REFERENCES), (args, kwargs))


@given(st.lists(st.text("abc:./\\ é", max_size=5), max_size=4))
def test_a_windows_path_comes_back_or_is_refused(parts: list[str]) -> None:
    path = PureWindowsPath(*parts)
    try:
        text = encode(path, REFERENCES, limit=None)
    except NotDurableError:
        return
    assert_same(decode(text, REFERENCES), path)


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5) | st.just("$"), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_plain_json_comes_back_and_is_stored_as_it_is_without_tags(value: Any) -> None:
    text = encode(value, REFERENCES, limit=None)
    assert_same(decode(text, REFERENCES), value)
    if '"$"' not in text:
        assert_same(json.loads(text), [1, value])


def read(text: str) -> None:
    for function in (decode, decode_arguments):
        try:
            function(text, REFERENCES)
        except PayloadError:
            continue


@given(st.text() | json_values.map(json.dumps) | json_values.map(lambda each: f"[1,{each}]"))
def test_any_text_is_read_or_is_a_payload_error(text: str) -> None:
    read(text)


tags = st.sampled_from([*sorted(_DECODERS), "x"])
classes = ("Color", "Bits", "Pair", "Record", "Key", "Model", "json", "read", "missing")
other_names = (
    "builtins:list",
    "builtins:print",
    "PosixPath",
    "IPv4Address",
    "HttpUrl",
    "os:system",
)
names = st.sampled_from([*(f"{__name__}:{name}" for name in classes), *other_names])
tag_like = st.recursive(
    st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3) | names,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries(
            {"$": tags},
            optional={
                "c": names,
                "v": inner | st.dictionaries(st.sampled_from(["left", "item", "name", "$"]), inner),
                **dict.fromkeys(("tz", "fold", "name", "max", "rest", "set", "extra"), inner),
                "private": st.dictionaries(st.sampled_from(["_private", "x"]), inner) | inner,
            },
        )
    ),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(tag_like, tag_like)
def test_any_arrangement_of_tags_is_read_or_is_a_payload_error(one: Any, two: Any) -> None:
    read(json.dumps([1, one], separators=(",", ":")))
    read(json.dumps([1, [one], {"x": two}], separators=(",", ":")))


@settings(max_examples=200, deadline=None)
@given(values, st.data())
def test_a_text_with_a_hole_or_a_changed_character_is_read_or_is_a_payload_error(
    value: Any, data: st.DataObject
) -> None:
    text = encode([value], REFERENCES, limit=None)
    start = data.draw(st.integers(0, len(text) - 1))
    length = data.draw(st.integers(0, 5))
    middle = data.draw(st.sampled_from(["", "x", '"', "{", "}", "0", "$", "[", ":"]))
    read(text[:start] + middle + text[start + length :])
