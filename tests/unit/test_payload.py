"""What comes back from a payload: the same, type for type, one example of each kind at least.

What lives here: round trips and the text itself. What does not: what is refused, and what a
changed or damaged text does (`test_payload_refusals.py`, `test_payload_reading.py`); values made
at random (`tests/properties`). Called by pytest.
"""

from __future__ import annotations

import ipaddress
import json
import math
import sys
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum, auto
from fractions import Fraction
from functools import cached_property
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import pydantic
import pydantic_core
import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, RootModel

from embedded_tasks.payload import decode, decode_arguments, encode, encode_arguments
from embedded_tasks.references import References
from tests.properties.exactness import assert_same

REFERENCES = References([__name__])


class Color(Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796 - an alias is one of the cases
    GREEN = object()


class Level(IntEnum):
    HIGH = 3


class Kind(StrEnum):
    A = "a"


class Permission(Flag):
    READ = auto()
    WRITE = auto()
    EXECUTE = auto()


class Bits(IntFlag):
    ONE = 1
    FOUR = 4


Point = namedtuple("Point", ["x", "y"])  # noqa: PYI024 - both styles must work


class Pair(NamedTuple):
    left: Any
    right: Any = None


class Line(Pair):
    __slots__ = ()

    def length(self) -> int:
        return 2


class Movie(TypedDict):
    title: str


@dataclass
class Order:
    number: int
    lines: list[Any] = field(default_factory=list)
    total: int = field(init=False, default=7)

    @cached_property
    def slow(self) -> int:
        return self.number * 2


@dataclass(frozen=True, slots=True)
class Money:
    amount: Decimal
    currency: str = "EUR"

    def __post_init__(self) -> None:
        if self.amount < 0:
            raise ValueError("never called when a payload is read")


@dataclass
class Special(Order):
    note: str = ""


class User(BaseModel):
    name: str
    born: date | None = None
    tags: set[str] = Field(default_factory=set, alias="Tags")
    _seen: int = PrivateAttr(default=0)
    _unset: int = PrivateAttr()

    @cached_property
    def upper(self) -> str:
        return self.name.upper()

    @pydantic.field_validator("name")
    @classmethod
    def _shout(cls, value: str) -> str:
        return f"{value}!"


class Open(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)
    user: User | None = None


class Numbers(RootModel[list[int]]):
    pass


@pydantic.dataclasses.dataclass
class Checked:
    number: int


def function() -> None: ...


def round_trip(value: Any) -> Any:
    text = encode(value, REFERENCES, limit=None)
    assert text.isascii()
    assert encode(value, REFERENCES, limit=None) == text
    return decode(text, REFERENCES)


PLAIN: list[Any] = [
    None,
    True,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    1.5,
    -0.0,
    5e-324,
    "",
    'ascii " \\ \x00 \x7f',
    "é € 😀",
    [],
    {},
    [[], {}, [None, {"a": [1.0, "x"]}]],
    {"b": 1, "a": 2},
    Movie(title="Alien"),
]
TAGGED: list[Any] = [
    2**63,
    -(2**63) - 1,
    10**5000,
    math.nan,
    -math.nan,
    math.inf,
    -math.inf,
    "\ud800",
    "\ud83d\ude00",
    {"\ud83d\ude00": 1},
    complex(-0.0, math.nan),
    Decimal("-0"),
    Decimal("1.10"),
    Decimal("1E+400000"),
    Decimal("-Infinity"),
    Decimal("NaN123"),
    Decimal("sNaN"),
    Fraction(-1, 10**30),
    range(10, 0, -(10**30)),
    b"\x00\xff",
    bytearray(b"abc"),
    (),
    (1, [2, (3,)]),
    {1, "1", (1,)},
    frozenset({frozenset(), 1.5}),
    {1: "a", "1": "b", None: "c", (1, 2): {}, 2.5: 0},
    OrderedDict([("b", 1), (1, 2)]),
    Counter({"a": 2, "b": -1}),
    defaultdict(list, {"a": [1]}),
    defaultdict(None, {"a": 1}),
    deque([1, (2,)]),
    deque([1, 2], maxlen=2),
    UUID(int=1),
    date.min,
    datetime.max,  # noqa: DTZ901
    datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    datetime(2026, 1, 2, fold=1),  # noqa: DTZ001
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-5, microseconds=1))),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(), "UTC")),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1), "naïve \ud83d\ude00"), fold=1),
    datetime(2026, 1, 2, tzinfo=pydantic_core.TzInfo(3600)),
    time(1, 2, 3, 4, fold=1),
    time(1, 2, tzinfo=UTC),
    timedelta.max,
    timedelta.min,
    timedelta(microseconds=-1),
    UTC,
    PurePath("a/b"),
    PurePosixPath("//a/\ud83d"),
    PureWindowsPath("c:\\a b"),
    ipaddress.ip_address("10.0.0.1"),
    ipaddress.ip_address("fe80::1%eth0"),
    ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_interface("fe80::1/64"),
    pydantic.HttpUrl("http://EXAMPLE.com/ü?q=1#f"),
    pydantic.AnyUrl("custom:x"),
    pydantic.PostgresDsn("postgres://u:p@a:1,b:2/db"),
    pydantic_core.Url("https://example.com/"),
    Color.RED,
    Color.CRIMSON,
    Color.GREEN,
    Level.HIGH,
    Kind.A,
    Permission.READ,
    Permission.READ | Permission.EXECUTE,
    Permission(0),
    Bits.ONE | Bits.FOUR,
    Bits(2 | 4),
    Point(1, (2,)),
    Pair("a"),
    Line(1, 2),
    Order(1, [Order(2)]),
    Money(Decimal("1.0")),
    Special(1, note="n"),
    Checked(1),
    User(name="a"),
    User(name="a", born=date(2000, 1, 1), Tags={"x"}),
    Open(),
    Open.model_validate({"user": {"name": "a"}, "$": "ref", "n": {1, 2}}),
    Numbers([1, 2]),
    Color,
    User,
    int,
    function,
    print,
    {Kind.A: 1},
    {Money(Decimal(1)): {Point(1, 2)}},
]


@pytest.mark.parametrize(
    "value",
    PLAIN + TAGGED,
    ids=[f"{index}-{type(v).__name__}" for index, v in enumerate(PLAIN + TAGGED)],
)
def test_a_value_comes_back_type_for_type(value: Any) -> None:
    assert_same(round_trip(value), value)
    assert_same(round_trip([value, {"k": (value,)}]), [value, {"k": (value,)}])


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1])
def test_a_number_beyond_64_bit_is_no_json_number_which_others_would_round(number: int) -> None:
    for value in (number, [number], [1, "x", number], {"k": [{"n": number}]}):
        assert hex(number) in encode(value, REFERENCES, limit=None)
        assert str(number) not in encode(value, REFERENCES, limit=None)


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_what_json_has_is_stored_as_json(value: Any) -> None:
    assert_same(json.loads(encode(value, REFERENCES, limit=None)), [1, value])


@pytest.mark.parametrize(
    "value",
    [
        {"$": "ref", "c": "os:system"},
        {"$": "tuple", "v": [1]},
        {"$": 1},
        {"$": None, "a": {"$": {"$": "$"}}},
        {"$": (1, 2)},
        {"a": '"$":', '"$": ': "$", "$$": 1, "\\$": 1},
        [[{"$": "model", "c": "x:Y", "v": {}}]],
        {"$": "dict", "v": [["a", 1]]},
    ],
    ids=repr,
)
def test_a_dict_shaped_like_a_tag_stays_a_dict(value: Any) -> None:
    assert_same(round_trip(value), value)
    text = encode_arguments((value,), {"$": value}, REFERENCES, task="f", limit=10_000)
    assert_same(decode_arguments(text, REFERENCES), ((value,), {"$": value}))


@pytest.fixture
def few_digits() -> Iterator[None]:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    yield
    sys.set_int_max_str_digits(before)


def test_the_limit_of_digits_does_not_touch_large_numbers(few_digits: None) -> None:
    assert round_trip([10**700, Fraction(1, 10**700)]) == [10**700, Fraction(1, 10**700)]


@pytest.mark.skipif(not available_timezones(), reason="this machine has no time zone data")
def test_time_zones_come_back_by_key_with_the_fold() -> None:
    paris = ZoneInfo("Europe/Paris")
    for fold in (0, 1):
        value = datetime(2026, 10, 25, 2, 30, tzinfo=paris, fold=fold)
        assert_same(round_trip(value), value)
    assert round_trip(paris) is paris


def test_a_datetime_parsed_by_pydantic_keeps_pydantic_s_time_zone() -> None:
    value = pydantic.TypeAdapter(datetime).validate_python("2026-01-02T03:04:05+01:00")
    assert_same(round_trip(value), value)


def test_equal_members_of_a_path_or_address_do_not_change_class() -> None:
    concrete = type(PurePath())  # what a task gets most often is made from pathlib.Path
    assert type(round_trip(concrete("x"))) is concrete


def test_a_model_keeps_its_state_and_no_validator_runs() -> None:
    user = User(name="a")
    assert user.name == "a!"
    user._seen = 5
    assert user.upper == "A!"  # computed again, so not stored
    back = round_trip(user)
    assert_same(back, user)
    assert back.name == "a!"
    assert back.model_fields_set == {"name"}
    assert back.__pydantic_private__ == {"_seen": 5}
    assert "upper" not in back.__dict__

    made = User.model_construct(name=3, born="not a date", tags=["x"])
    assert_same(round_trip(made), made)


def test_a_dataclass_keeps_its_state_and_no_init_runs() -> None:
    order = Order(1)
    order.total = 9
    assert order.slow == 2
    back = round_trip(order)
    assert_same(back, order)
    assert "slow" not in back.__dict__

    odd = Money(Decimal(1))
    object.__setattr__(odd, "amount", Decimal(-1))
    assert_same(round_trip(odd), odd)


def test_order_of_keys_is_kept_and_a_shared_value_becomes_two() -> None:
    shared: list[int] = [1]
    value = {"b": shared, "a": shared, 3: shared}
    back = round_trip(value)
    assert list(back) == ["b", "a", 3]
    assert back["a"] is not back["b"]


def test_arguments_are_a_tuple_and_a_dict_again() -> None:
    args, kwargs = (1, (2,), {"a"}), {"b": 1, "a": (1,)}
    text = encode_arguments(args, kwargs, REFERENCES, task="f", limit=10_000)
    back = decode_arguments(text, REFERENCES)
    assert_same(back, (args, kwargs))
    assert decode_arguments("[1,[],{}]", REFERENCES) == ((), {})
    assert encode_arguments((), {}, REFERENCES, task="f", limit=10_000) == "[1,[],{}]"


def test_the_text_is_what_the_format_says() -> None:
    value = [(1,), Money(Decimal(1)), Kind.A, User(name="x"), {1: b"a"}]
    name = __name__
    assert json.loads(encode(value, REFERENCES, limit=None)) == [
        1,
        [
            {"$": "tuple", "v": [1]},
            {
                "$": "dataclass",
                "c": f"{name}:Money",
                "v": {"amount": {"$": "decimal", "v": "1"}, "currency": "EUR"},
            },
            {"$": "enum", "c": f"{name}:Kind", "v": "A"},
            {
                "$": "model",
                "c": f"{name}:User",
                "v": {"name": "x!", "born": None, "tags": {"$": "set", "v": []}},
                "set": ["name"],
                "private": {"_seen": 0},
            },
            {"$": "dict", "v": [[1, {"$": "bytes", "v": "YQ=="}]]},
        ],
    ]
