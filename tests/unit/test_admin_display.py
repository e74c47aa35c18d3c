"""Stored values as people see them.

What lives here: every kind of value, secrets, damage, and size. What does not: which names are
secrets (`test_admin_masking.py`). Run by pytest.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag
from fractions import Fraction
from ipaddress import IPv4Address
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, strategies as st
from pydantic import BaseModel, ConfigDict

from embedded_tasks.admin.models import JobArgument
from embedded_tasks.display import Display, UnreadableError
from embedded_tasks.masking import Masking
from embedded_tasks.payload import encode, encode_arguments
from embedded_tasks.references import References

LIMIT = 10_000_000
NAMES = References(modules=["tests"])


class Colour(Enum):
    RED = 1


class Access(Flag):
    READ = 1
    WRITE = 2


class Point(NamedTuple):
    x: int
    token: str


@dataclass
class Order:
    number: int
    password: str | None = None
    lines: list[str] = field(default_factory=list)


class User(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    api_key: str


VALUES: list[tuple[Any, Any]] = [
    (None, None),
    (True, True),
    (2**63 - 1, 2**63 - 1),
    (-(2**63), -(2**63)),
    (2**70, str(2**70)),
    (1.5, 1.5),
    (float("inf"), "inf"),
    (float("nan"), "nan"),
    (1 + 2j, "1.0 + 2.0j"),
    (Fraction(1, 3), "1/3"),
    (range(1, 9, 2), "range(1, 9, 2)"),
    ("plain", "plain"),
    ("\ud800 alone", "\\ud800 alone"),
    (b"abc", "<3 bytes>"),
    (bytearray(2000), "<2,000 bytes>"),
    (Decimal("1.10"), "1.10"),
    (UUID(int=1), str(UUID(int=1))),
    (PurePosixPath("/a/b"), "/a/b"),
    (IPv4Address("10.0.0.1"), "10.0.0.1"),
    (date(2030, 1, 2), "2030-01-02"),
    (datetime(2030, 1, 2, 3, 4, 5), "2030-01-02T03:04:05"),  # noqa: DTZ001 - people pass these
    (datetime(2030, 1, 2, tzinfo=UTC), "2030-01-02T00:00:00+00:00"),
    (
        datetime(2030, 1, 2, tzinfo=timezone(-timedelta(hours=3, minutes=30))),
        "2030-01-02T00:00:00-03:30",
    ),
    (datetime(2030, 1, 2, tzinfo=ZoneInfo("Europe/Berlin")), "2030-01-02T00:00:00[Europe/Berlin]"),
    (time(1, 2), "01:02:00"),
    (timedelta(days=1, milliseconds=500), 86400.5),
    (timedelta(seconds=-1), -1.0),
    ([1, "a", None], [1, "a", None]),
    ((1, (2,)), [1, [2]]),
    ({1}, [1]),
    (deque([1, 2], maxlen=3), [1, 2]),
    ({"a": {"b": 1}}, {"a": {"b": 1}}),
    ({"$": "model", "c": "x"}, {"$": "model", "c": "x"}),
    ({1: "a", None: "b"}, {"1": "a", "null": "b"}),
    ({1: "a", "1": "b"}, [[1, "a"], ["1", "b"]]),
    ({(1, 2): "a"}, [[[1, 2], "a"]]),
    (OrderedDict(a=1), {"a": 1}),
    (Counter("aab"), {"a": 2, "b": 1}),
    (defaultdict(list, a=[1]), {"a": [1]}),
    (Colour.RED, "Colour.RED"),
    (Access.READ | Access.WRITE, "Access.READ|WRITE"),
    (Order, "tests.unit.test_admin_display:Order"),
    (Order(1, lines=["a"]), {"number": 1, "password": None, "lines": ["a"]}),
    (Order(1, "pw"), {"number": 1, "password": "***", "lines": []}),
    (Point(1, "t"), {"x": 1, "token": "***"}),
    (User(name="Ann", api_key="k", age=3), {"name": "Ann", "api_key": "***", "age": 3}),  # type: ignore[call-arg]  # an extra field
]

SECRETS: list[tuple[Any, Any]] = [
    ({"password": "pw"}, {"password": "***"}),
    ({"a": [{"Authorization": {"deep": ["x"]}}]}, {"a": [{"Authorization": "***"}]}),
    ({"token": None}, {"token": None}),
    ({"token": 5, "n": 5}, {"token": "***", "n": 5}),
    ({1: 2, "token": 5}, {"1": 2, "token": "***"}),
    ({(1, 2): 3, "token": 5}, [[[1, 2], 3], ["token", "***"]]),
    ({"token\ud800": "x"}, {"token\\ud800": "***"}),
    ([("Cookie", "a=b"), ("Accept", "*/*")], [["Cookie", "***"], ["Accept", "*/*"]]),
    ("postgres://ann:pw@db", "postgres://ann:***@db"),
]


@pytest.mark.parametrize(("value", "shown"), VALUES + SECRETS)
def test_every_kind_of_value_is_shown_as_plain_json(value: Any, shown: Any) -> None:
    text = encode(value, NAMES, limit=LIMIT)
    found = Display(Masking()).result(text)
    assert (found, type(found)) == (shown, type(shown))
    assert json.loads(JobArgument(name=None, value=found).model_dump_json())["value"] == shown


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        (("email", "token"), ["email", "token", "headers"]),
        (("email", "*rest"), ["email", "*rest", "headers"]),
        (("email",), ["email", None, "headers"]),
        (None, [None, None, "headers"]),
    ],
)
def test_arguments_have_the_names_that_are_known(
    parameters: tuple[str, ...] | None, names: list[str | None]
) -> None:
    text = encode_arguments(("a@b.c", "x"), {"headers": {"n": 1}}, NAMES, task="t", limit=LIMIT)
    assert [name for name, _ in Display(Masking()).arguments(text, parameters)] == names


def test_an_argument_without_a_known_name_might_be_a_secret() -> None:
    text = encode_arguments(
        ("a@b.c", "x"), {"password": "pw", "n": 1}, NAMES, task="t", limit=LIMIT
    )
    assert [value for _, value in Display(Masking()).arguments(text, None)] == [
        "***",
        "***",
        "***",
        1,
    ]
    assert [value for _, value in Display(Masking()).arguments(text, ("email", "token"))] == [
        *("a@b.c", "***"),
        *("***", 1),
    ]
    assert [value for _, value in Display(Masking()).arguments(text, ("email", "*rest"))] == [
        "a@b.c",
        "x",
        "***",
        1,
    ]


def test_nothing_in_a_text_is_looked_up() -> None:
    gone = '[1,{"$":"model","c":"gone:Class","v":{"a":1},"set":[]}]'
    assert Display(Masking()).result(gone) == {"a": 1}
    assert Display(Masking()).result('[1,{"$":"ref","c":"os:system"}]') == "os:system"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null and more",
        "{}",
        "[1]",
        "[2,5]",
        "[1,2,3,4]",
        '[1,{"$":"no such kind"}]',
        '[1,{"$":["a"]}]',
        '[1,{"$":"bytes"}]',
        '[1,{"$":"bytes","v":"no base 64"}]',
        '[1,{"$":"timedelta","v":[[0],[0],[0]]}]',
        '[1,{"$":"int","v":"xyz"}]',
        '[1,{"$":"dict","v":[1]}]',
        "[1," + "[" * 100_000,
        "[1," + "9" * 5_000,
    ],
)
def test_a_damaged_text_is_told_and_does_no_harm(text: str) -> None:
    with pytest.raises(UnreadableError, match="damaged"):
        Display(Masking()).result(text)


def test_numbers_that_are_too_long_and_constants_that_are_no_json_are_shown_as_text() -> None:
    assert Display(Masking()).result("[1,[1e999,NaN,-Infinity]]") == ["inf", "NaN", "-Infinity"]
    assert Display(Masking()).result(f"[1,{'9' * 5_000}]") == "9" * 400
    huge = '{"$":"int","v":"0x' + "f" * 5_000 + '"}'
    assert Display(Masking()).result(f"[1,{huge}]").startswith("0xfff")


def test_what_is_large_is_cut_or_left_out() -> None:
    assert (
        Display(Masking()).result(encode("x" * 20_000, NAMES, limit=LIMIT))
        == "x" * 10_000 + "… (20,000 characters)"
    )
    with pytest.raises(UnreadableError, match="too much to show"):
        Display(Masking()).result(encode("x" * 2_000_000, NAMES, limit=LIMIT))


@pytest.mark.parametrize("make", [lambda inner: [inner], lambda inner: {(1,): inner}])
def test_what_is_nested_as_deep_as_can_be_stored_can_be_shown(make: Any) -> None:
    value: Any = 1
    for _ in range(99):
        value = make(value)
    shown = Display(Masking()).result(encode(value, NAMES, limit=LIMIT))
    assert JobArgument(name=None, value=shown).model_dump_json()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        | st.fixed_dictionaries(
            {"$": st.sampled_from(["dict", "tuple", "model", "str", "datetime", "range", "enum"])},
            optional={"v": inner, "c": inner, "tz": inner, "extra": inner, "rest": inner},
        )
    ),
    max_leaves=12,
)


@given(value=JSON)
def test_any_text_is_shown_or_told_to_be_damaged(value: Any) -> None:
    try:
        shown = Display(Masking()).result(json.dumps([1, value]))
    except UnreadableError:
        return
    assert JobArgument(name=None, value=shown).model_dump_json()


@given(value=JSON, kwargs=JSON)
def test_any_arguments_are_shown_or_told_to_be_damaged(value: Any, kwargs: Any) -> None:
    try:
        shown = Display(Masking()).arguments(
            json.dumps([1, value, kwargs]), ("a", "token", "*rest")
        )
    except UnreadableError:
        return
    assert all(JobArgument(name=name, value=each).model_dump_json() for name, each in shown)


def test_the_values_above_are_all_that_the_format_has() -> None:
    shown: Mapping[str, object] = Display._TAGGED
    from_payload: Mapping[str, object] = encode.__globals__["_DECODERS"]
    assert {*shown, "dataclass", "model", "namedtuple"} == set(from_payload)
