"""What a stored text does when the code has changed, or the text is damaged or hostile.

What lives here: `decode`. What does not: round trips (`test_payload.py`). Called by pytest.
"""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from enum import Enum, Flag
from typing import Any, Self

import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, create_model

from embedded_tasks.errors import PayloadError, UnknownTaskError
from embedded_tasks.payload import decode, decode_arguments, encode

called: list[str] = []


class Code:
    """The classes of one release, by name: what a resolver finds."""

    def __init__(self, **classes: Any) -> None:
        self.classes = classes

    def name_of(self, obj: object) -> str:
        return next(f"app:{name}" for name, found in self.classes.items() if found is obj)

    def resolve(self, name: str) -> object:
        try:
            return self.classes[name.removeprefix("app:")]
        except KeyError:
            raise UnknownTaskError(name, "there is no such name") from None


def watch(what: str) -> str:
    called.append(what)
    return what


class User(BaseModel):
    name: str


class Watched(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str = Field(default_factory=lambda: watch("default_factory"))
    _private: int = PrivateAttr(default=1)

    def __init__(self, **data: Any) -> None:
        called.append("__init__")
        super().__init__(**data)

    def model_post_init(self, _context: Any, /) -> None:
        called.append("model_post_init")

    def __setattr__(self, name: str, value: Any) -> None:
        called.append("__setattr__")
        super().__setattr__(name, value)


@dataclass
class WatchedData:
    name: str = "x"

    def __init__(self, name: str) -> None:
        called.append("__init__")
        self.name = name

    def __setattr__(self, name: str, value: Any) -> None:
        called.append("__setattr__")
        super().__setattr__(name, value)


class Color(Enum):
    RED = 1


class Bits(Flag):
    ONE = 1
    TWO = 2


Point = namedtuple("Point", ["x", "y"])  # noqa: PYI024 - as short as it gets


def function() -> None:
    called.append("function")


CODE = Code(
    User=User, Color=Color, Bits=Bits, Point=Point, function=function, Data=WatchedData, int=int
)


def test_reading_calls_nothing_of_the_class() -> None:
    code = Code(Model=Watched, Data=WatchedData)
    value = [Watched(name="a", more=1), WatchedData("b")]
    text = encode(value, code, limit=None)
    called.clear()
    back = decode(text, code)
    assert called == []
    assert back == value


def stored(value: Any, **classes: Any) -> str:
    return encode(value, Code(**classes), limit=None)


def data(*fields: Any) -> Any:
    return make_dataclass("Thing", fields)


def model(**fields: Any) -> Any:
    return create_model("Thing", **fields)


A_AND_B_WITH_DEFAULT: list[tuple[Any, Any]] = [
    (model(a=(int, ...)), model(a=(int, ...), b=(list[int], Field(default_factory=lambda: [7])))),
    (model(a=(int, ...)), model(a=(int, ...), b=(list[int], [7]))),
    (data("a"), data("a", ("b", Any, field(default_factory=lambda: [7])))),
    (namedtuple("T", ["a"]), namedtuple("T", ["a", "b"], defaults=[[7]])),  # noqa: PYI024
]


@pytest.mark.parametrize(("old", "new"), A_AND_B_WITH_DEFAULT)
def test_a_field_that_the_class_has_gained_gets_its_default(old: Any, new: Any) -> None:
    text = stored(old(a=1), Thing=old)
    back: Any = decode(text, Code(Thing=new))
    assert type(back) is new
    assert (back.a, back.b) == (1, [7])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (model(a=(int, ...), b=(int, ...)), model(a=(int, ...), c=(int, ...))),
        (data("a", "b"), data("a", "c")),
        (namedtuple("T", ["a", "b"]), namedtuple("T", ["a", "c"])),  # noqa: PYI024
    ],
)
def test_fields_lost_and_gained_without_default_are_named(old: Any, new: Any) -> None:
    text = stored(old(a=1, b=2), Thing=old)
    with pytest.raises(PayloadError) as caught:
        decode(text, Code(Thing=new))
    assert "The class app:Thing" in str(caught.value)
    assert "has no field 'b' any more" in str(caught.value)
    assert "needs the field 'c', which was not stored" in str(caught.value)
    assert "held" in str(caught.value)


@pytest.mark.skipif(
    not hasattr(pydantic.fields.FieldInfo, "default_factory_takes_validated_data"),
    reason="default factories see the other values since pydantic 2.10",
)
def test_a_default_factory_may_look_at_the_stored_values() -> None:
    class New(BaseModel):
        a: int
        b: int = Field(default_factory=lambda values: values["a"] + 1)

    old = model(a=(int, ...))
    back = decode(stored(old(a=1), Thing=old), Code(Thing=New))
    assert back == New(a=1, b=2)


def broken_default() -> int:
    raise ZeroDivisionError


def test_a_default_that_fails_is_told_from_a_damaged_text() -> None:
    old, new = model(a=(int, ...)), data("a", ("b", int, field(default_factory=broken_default)))
    text = stored(old(a=1), Thing=old).replace('"model"', '"dataclass"')
    with pytest.raises(PayloadError, match="new field 'b' of app:Thing failed: ZeroDivision"):
        decode(text, Code(Thing=new))


class Private(BaseModel):
    _a: int = PrivateAttr(default=1)


class PrivateMore(BaseModel):
    _a: int = PrivateAttr(default=1)
    _b: int = PrivateAttr(default_factory=lambda: 2)
    _unset: int = PrivateAttr()


class Nothing(BaseModel):
    pass


class Anything(BaseModel):
    model_config = ConfigDict(extra="allow")


def test_a_private_attribute_that_the_class_has_gained_gets_its_default() -> None:
    back: Any = decode(stored(Private(), Thing=Private), Code(Thing=PrivateMore))
    assert back.__pydantic_private__ == {"_a": 1, "_b": 2}


@pytest.mark.parametrize(
    ("value", "new", "message"),
    [
        (Private(), Nothing, "has no private attribute '_a' any more"),
        (Anything.model_validate({"x": 1}), Nothing, "has no extra fields any more"),
        (User(name="a"), WatchedData, "app:Thing is no longer a class of the kind 'model'"),
        (WatchedData("a"), User, "app:Thing is no longer a dataclass"),
        (Point(1, 2), WatchedData, "app:Thing is no longer a class of the kind 'namedtuple'"),
        (Point(1, 2), tuple, "app:Thing is no longer a namedtuple"),
        (Color.RED, User, "app:Thing is no longer a class of the kind 'enum'"),
        (Color.RED, Bits, "has no member 'RED' now"),
        (Bits.ONE | Bits.TWO, Color, "app:Thing is no longer a class of the kind 'flag'"),
        (User(name="a"), function, "app:Thing is no longer a class of the kind 'model'"),
    ],
)
def test_a_class_that_became_something_else_is_an_error_that_says_so(
    value: Any, new: Any, message: str
) -> None:
    text = stored(value, Thing=type(value))
    with pytest.raises(PayloadError) as caught:
        decode(text, Code(Thing=new))
    assert message in str(caught.value)
    assert "held" in str(caught.value)


@pytest.mark.parametrize("value", [User(name="a"), WatchedData("a"), Color.RED, User, function])
def test_a_class_that_is_gone_is_named(value: Any) -> None:
    text = stored(value, Thing=value if callable(value) else type(value))
    with pytest.raises(PayloadError, match=r"app:Thing.* gone: there is no such name.*held"):
        decode(text, Code())


def test_set_elements_that_have_become_equal_are_an_error() -> None:
    class Loose(Enum):
        A = 1
        B = 1  # noqa: PIE796 - an alias now, two members when it was stored

    class Strict(Enum):
        A = 1
        B = 2

    for value in ({Strict.A, Strict.B}, {Strict.A: 1, Strict.B: 2}):
        with pytest.raises(PayloadError, match="are equal now"):
            decode(stored(value, E=Strict), Code(E=Loose))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "1",
        "[1]",
        "[1,2,3]",
        "[1,",
        "[true,1]",
        '["1",1]',
        "[1,NaN]",
        "[1,Infinity]",
        f"[1,{'9' * 5000}]",
        "[1," + "[" * 100_000,
        "\x00",
        "\ud800",
        '[1,{"$":"nothing"}]',
        '[1,{"$":1}]',
        '[1,{"$":["tuple"]}]',
        '[1,{"$":"tuple"}]',
        '[1,{"$":"tuple","v":1}]',
        '[1,{"$":"set","v":[[]]}]',
        '[1,{"$":"set","v":[1,1]}]',
        '[1,{"$":"dict","v":[[1]]}]',
        '[1,{"$":"dict","v":[[1,2],[1,3]]}]',
        '[1,{"$":"deque","v":[1,2],"max":1}]',
        '[1,{"$":"bytes","v":"?"}]',
        '[1,{"$":"int","v":"x"}]',
        '[1,{"$":"int","v":1}]',
        '[1,{"$":"float","v":"1.5"}]',
        '[1,{"$":"fraction","v":[1,0]}]',
        '[1,{"$":"fraction","v":[true,1]}]',
        '[1,{"$":"range","v":[1,2,0]}]',
        '[1,{"$":"decimal","v":"x"}]',
        '[1,{"$":"decimal","v":1}]',
        '[1,{"$":"uuid","v":"x"}]',
        '[1,{"$":"path","c":"Path","v":"x"}]',
        '[1,{"$":"path","c":"WindowsPath","v":"x"}]',
        '[1,{"$":"ip","c":"IPv4Address","v":"x"}]',
        '[1,{"$":"url","c":"HttpUrl","v":"x"}]',
        '[1,{"$":"datetime","v":"x"}]',
        '[1,{"$":"datetime","v":"2026-01-01T00:00:00","tz":1}]',
        '[1,{"$":"datetime","v":"2026-01-01T00:00:00","fold":2}]',
        '[1,{"$":"timedelta","v":[1,2]}]',
        '[1,{"$":"timezone","v":1000000000000000}]',
        '[1,{"$":"zoneinfo","v":"../../../etc/passwd"}]',
        '[1,{"$":"zoneinfo","v":"No/Where"}]',
        '[1,{"$":"pydantic_tz","v":9999999}]',
        '[1,{"$":"enum","c":"app:Color","v":"__class__"}]',
        '[1,{"$":"enum","c":"app:Color","v":1}]',
        '[1,{"$":"flag","c":"app:Bits","v":["ONE"],"rest":8}]',
        '[1,{"$":"flag","c":"app:Bits","v":["X"],"rest":0}]',
        '[1,{"$":"model","c":"app:User"}]',
        '[1,{"$":"model","c":"app:User","v":{},"set":[]}]',
        '[1,{"$":"model","c":"app:User","v":{"name":"x"},"set":1}]',
        '[1,{"$":"model","c":"app:User","v":{"name":"x","__class__":1},"set":[]}]',
        '[1,{"$":"model","c":1,"v":{},"set":[]}]',
        '[1,{"$":"dataclass","c":"app:int","v":{}}]',
        '[1,{"$":"dataclass","c":"app:function","v":{}}]',
        '[1,{"$":"dataclass","c":"app:Data","v":{"name":1,"__class__":1}}]',
        '[1,{"$":"namedtuple","c":"app:Point","v":{"x":1}}]',
        '[1,{"$":"defaultdict","c":"app:function","v":[]}]',
        '[1,{"$":"ref","c":"os:system"}]',
        '[1,{"$":"ref","c":{"$":"tuple","v":[]}}]',
    ],
    ids=lambda text: ascii(text[:60]),
)
def test_a_damaged_or_hostile_text_is_a_payload_error_and_nothing_is_called(text: str) -> None:
    called.clear()
    with pytest.raises(PayloadError, match="held"):
        decode(text, CODE)
    assert called == []


@pytest.mark.parametrize(
    "text",
    ["[1,[]]", "[1,{},{}]", "[1,[],[]]", '[1,[],{"$":"dict","v":[[1,2]]}]', "[1,1]", "[1,1,1]"],
)
def test_what_holds_no_arguments_is_an_error(text: str) -> None:
    with pytest.raises(PayloadError, match="held"):
        decode_arguments(text, CODE)


def test_a_later_format_is_refused_by_its_number() -> None:
    with pytest.raises(PayloadError, match="has the format 2, and this release reads 1"):
        decode("[2,1]", CODE)


def test_the_error_for_a_damaged_text_does_not_show_the_argument() -> None:
    with pytest.raises(PayloadError) as caught:
        decode('[1,{"$":"date","v":"hush"}]', CODE)
    assert "hush" not in str(caught.value)


def test_a_class_named_as_another_kind_is_never_called() -> None:
    tags: list[Callable[[str], dict[str, Any]]] = [
        lambda name: {"$": "ref", "c": name},
        lambda name: {"$": "defaultdict", "c": name, "v": []},
        lambda name: {"$": "model", "c": name, "v": {}, "set": []},
        lambda name: {"$": "dataclass", "c": name, "v": {}},
        lambda name: {"$": "namedtuple", "c": name, "v": {}},
        lambda name: {"$": "enum", "c": name, "v": "x"},
    ]

    class Trap:
        def __new__(cls) -> Self:
            called.append("__new__")
            return super().__new__(cls)

    called.clear()
    for make in tags:
        for code in (Code(x=Trap), Code(x=function), Code(x=Trap.__new__), Code(x=7)):
            try:
                decode(json.dumps([1, make("app:x")]), code)
            except PayloadError:
                continue
    assert called == []
