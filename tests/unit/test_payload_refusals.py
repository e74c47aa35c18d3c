"""What cannot be stored is refused, with the path of the value, the reason and the remedy.

What lives here: refusals when a payload is written. What does not: what a stored text can do wrong
(`test_payload_reading.py`). Called by pytest.
"""

from __future__ import annotations

import array
import asyncio
import contextvars
import functools
import io
import logging
import socket
import tempfile
import threading
from collections import Counter, OrderedDict, UserDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from datetime import datetime, timedelta, tzinfo
from enum import Enum, Flag
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, Generic, TypeVar

import httpx
import pytest
import structlog
from fastapi import BackgroundTasks, FastAPI, Request, UploadFile, WebSocket
from pydantic import BaseModel, PrivateAttr, Secret, SecretBytes, SecretStr
from starlette.responses import JSONResponse

from embedded_tasks.errors import NotDurableError, PayloadTooLargeError
from embedded_tasks.payload import decode, encode, encode_arguments
from embedded_tasks.references import References

REFERENCES = References([__name__])
Item = TypeVar("Item")


class Text(str):
    __slots__ = ()


class Whole(int):
    pass


class Path(PurePosixPath):
    pass


class Zone(tzinfo):
    def utcoffset(self, _when: datetime | None, /) -> timedelta:
        return timedelta()

    def dst(self, _when: datetime | None, /) -> None:
        return None

    def tzname(self, _when: datetime | None, /) -> None:
        return None


@dataclass
class Plain:
    value: Any = None


@dataclass
class Fault(Exception):
    code: int = 0


@dataclass
class Numbered(dict[str, int]):
    number: int = 0


@dataclass
class Computed:
    value: InitVar[int]

    def __post_init__(self, value: int) -> None:
        self.double = value * 2


@dataclass
class Unset:
    value: int = field(init=False)


class Settings(BaseModel):
    password: SecretStr


class Holder(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    inner: Any = None
    _lock: Any = PrivateAttr(default=None)


class Slotted(BaseModel):
    __slots__ = ("hidden",)


class Box(BaseModel, Generic[Item]):
    item: Item


class Row:
    __mapper__ = object()


class RowModel(BaseModel):
    pass


class Strange:
    pass


Loose = namedtuple("Loose", ["x"])  # noqa: PYI024 - has a __dict__ below


class WithDict(Loose):
    pass


class Bits(Flag):
    ONE = 1


def from_package(module: str, name: str = "Thing") -> object:
    return type(name, (), {"__module__": module})()


def local_object() -> object:
    @dataclass
    class Local:
        pass

    return Local()


def local_enum() -> object:
    class Local(Enum):
        A = 1

    return Local.A


def generator() -> Any:
    yield 1


async def async_generator() -> Any:
    yield 1


def with_attribute(value: Any) -> Any:
    value.more = 1
    return value


def cycle() -> Any:
    value: list[Any] = []
    value.append({"again": value})
    return value


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": []}


async def no_receive() -> Any: ...


REFUSED: list[tuple[Callable[[], object], str, str]] = [
    (lambda: SecretStr("hush"), "never stored, not even as asterisks", "Let the task read"),
    (lambda: SecretBytes(b"hush"), "it is a secret", "Let the task read"),
    (lambda: Secret[int](7), "it is a secret", "Let the task read"),
    (lambda: UploadFile(io.BytesIO()), "an uploaded file", "await file.read()"),
    (lambda: Request(SCOPE), "belongs to this one request", "the values that the task needs"),
    (
        lambda: WebSocket({"type": "websocket"}, no_receive, no_receive),  # type: ignore[arg-type]
        "belongs to this one request",
        "the values",
    ),
    (lambda: JSONResponse({}), "belongs to this one request", "the values"),
    (BackgroundTasks, "belongs to this one request", "the values"),
    (FastAPI, "a part of the web framework", "the values"),
    (lambda: from_package("sqlalchemy.orm.session", "Session"), "database session", "pass ids"),
    (lambda: from_package("psycopg.connection", "Connection"), "database session", "pass ids"),
    (Row, "a row of a database", "Pass its id"),
    (lambda: from_package("redis.asyncio.client", "Redis"), "it is a client", "inside the task"),
    (httpx.AsyncClient, "it is a client", "inside the task"),
    (threading.Lock, "it is a lock", "inside the task"),
    (threading.RLock, "it is a lock", "inside the task"),
    (asyncio.Event, "it is a lock", "inside the task"),
    (lambda: contextvars.ContextVar("x"), "it is a lock", "inside the task"),
    (lambda: io.StringIO("x"), "it is an open file", "Read it first"),
    (lambda: from_package("tempfile", "_TemporaryFileWrapper"), "open file", "Read it first"),
    (lambda: logging.getLogger("x"), "it is a logger", "inside the task"),
    (structlog.get_logger, "it is a logger", "inside the task"),
    (lambda: from_package("numpy", "ndarray"), "exact type", ".tolist()"),
    (lambda: ValueError("x"), "it is an exception", "str(error)"),
    (Fault, "it is an exception", "str(error)"),
    (generator, "used only once", "list(value)"),
    (async_generator, "used only once", "list(value)"),
    (lambda: iter([1]), "used only once", "list(value)"),
    (lambda: map(str, [1]), "used only once", "list(value)"),
    ({}.keys, "a view of a dict", "list(value)"),
    (lambda: memoryview(b"x"), "view of other memory", "bytes(value)"),
    (lambda: array.array("b"), "no exact form", "Pass plain values"),
    (lambda: functools, "it is a module", "Import it"),
    (lambda: Settings(password=SecretStr("x")).model_dump, "bound method", "function"),
    (lambda: functools.partial(print), "it is a partial", "function"),
    (lambda: lambda: None, "a lambda has no name", "top of a module"),
    (lambda: ..., "no exact form", "Pass plain values"),
    (object, "objects of the class object", "Pass plain values"),
    (Strange, f"objects of the class {__name__}.Strange", "Pass plain values"),
    (lambda: Text("x"), f"class {__name__}.Text is below str", "Pass a plain str"),
    (lambda: Whole(1), "Whole is below int", "Pass a plain int"),
    (lambda: Path("x"), "Path is below PurePosixPath", "Pass a plain PurePosixPath"),
    (lambda: UserDict(a=1), "no exact form", "Pass plain values"),
    (lambda: datetime(2026, 1, 1, tzinfo=Zone()), "time zone is of the class", "ZoneInfo"),
    (lambda: defaultdict(lambda: 1), "default_factory is no class", "dict(value)"),
    (lambda: defaultdict(local_object), "default_factory is no class", "dict(value)"),
    (lambda: defaultdict(io.BytesIO), "default_factory", "modules="),
    (lambda: with_attribute(OrderedDict()), "attributes were set", "plain dict"),
    (lambda: with_attribute(Counter()), "attributes were set", "plain dict"),
    (lambda: with_attribute(WithDict(1)), "more or less than its fields", "in fields"),
    (lambda: with_attribute(Plain()), "attribute 'more' is no field", "in fields"),
    (lambda: Computed(1), "attribute 'double' is no field", "in fields"),
    (Unset, "field 'value' was never set", "Set all fields"),
    (Numbered, "below a builtin class", "in fields"),
    (Box.model_construct, "field 'item' was never set", "Validate"),
    (lambda: Box[int](item=1), "generic class with parameters", "subclass"),
    (local_object, "its class", "top of a module"),
    (local_enum, "its class", "top of a module"),
    (lambda: httpx.codes.OK, "its class httpx", 'modules=["httpx"]'),
    (cycle, "it contains itself", "Pass ids"),
    (lambda: nested(101), "nested deeper than 100 levels", "flatter"),
    (lambda: nested(100_000), "nested deeper than 100 levels", "flatter"),
]


@pytest.mark.parametrize(
    ("make", "reason", "remedy"), REFUSED, ids=[f"{i}-{r[1][:30]}" for i, r in enumerate(REFUSED)]
)
def test_what_would_not_come_back_is_refused_with_reason_and_remedy(
    make: Callable[[], object], reason: str, remedy: str
) -> None:
    with pytest.raises(NotDurableError) as caught:
        encode(make(), REFERENCES, where="result of f", limit=None)
    assert caught.value.where.startswith("result of f")
    assert reason in caught.value.reason
    assert remedy in caught.value.remedy
    assert "hush" not in str(caught.value)


def test_an_open_socket_and_a_temporary_file_are_refused() -> None:
    with socket.socket() as connection, pytest.raises(NotDurableError, match="connection"):
        encode(connection, REFERENCES, limit=None)
    with tempfile.NamedTemporaryFile() as file, pytest.raises(NotDurableError, match="open file"):
        encode(file, REFERENCES, limit=None)
    with tempfile.SpooledTemporaryFile() as spool, pytest.raises(NotDurableError, match="open"):
        encode(spool, REFERENCES, limit=None)


def test_a_path_whose_text_means_another_path_is_refused() -> None:
    path = PureWindowsPath("./c:", "a")
    if PureWindowsPath(str(path)) == path:  # since Python 3.12
        assert decode(encode(path, REFERENCES, limit=None), REFERENCES) == path
    else:
        with pytest.raises(NotDurableError, match="would not come back as it is"):
            encode(path, REFERENCES, limit=None)


def test_a_coroutine_is_refused() -> None:
    coroutine = no_receive()
    with pytest.raises(NotDurableError, match="used only once"):
        encode(coroutine, REFERENCES, limit=None)
    coroutine.close()


def test_a_hundred_levels_are_not_too_deep() -> None:
    text = encode([nested(99), (nested(99),)][:1], REFERENCES, limit=None)
    assert text == f"[1,{'[' * 100}1{']' * 100}]"


LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("args", "kwargs", "where"),
    [
        ((1, LOCK), {}, "send_mail(args[1])"),
        ((), {"session": LOCK}, "send_mail(..., session=)"),
        ((1, {"user": [0, 1, 2, LOCK]}), {}, "send_mail(args[1]['user'][3])"),
        ((), {"user": {"a": (LOCK,)}}, "send_mail(..., user['a'][0])"),
        ((Plain(Plain([LOCK])),), {}, "send_mail(args[0].value.value[0])"),
        ((Holder(inner={1: LOCK}),), {}, "send_mail(args[0].inner[1])"),
        (({LOCK},), {}, "send_mail(args[0]{...})"),
        (({LOCK: 1},), {}, "send_mail(args[0].keys()[lock])"),
        (({10**5000: LOCK},), {}, "send_mail(args[0][int])"),
        (({"x" * 1000: LOCK},), {}, f"send_mail(args[0]['{'x' * 40}'])"),
        ((Loose(LOCK),), {}, "send_mail(args[0].x)"),
        ((datetime(2026, 1, 1, tzinfo=Zone()),), {}, "send_mail(args[0].tzinfo)"),
        ((Settings(password=SecretStr("hush")),), {}, "send_mail(args[0].password)"),
    ],
)
def test_the_error_names_the_path_of_the_value(
    args: tuple[Any, ...], kwargs: dict[str, Any], where: str
) -> None:
    with pytest.raises(NotDurableError) as caught:
        encode_arguments(args, kwargs, REFERENCES, task="send_mail", limit=10_000)
    assert caught.value.where == where
    assert str(caught.value).startswith(f"{where} cannot be stored: ")


def test_private_attributes_are_looked_into() -> None:
    holder = Holder()
    holder._lock = LOCK
    with pytest.raises(NotDurableError, match=r"value\._lock cannot be stored: it is a lock"):
        encode(holder, REFERENCES, limit=None)


def test_a_model_with_hidden_state_is_refused() -> None:
    model = Slotted()
    object.__setattr__(model, "hidden", 1)
    with pytest.raises(NotDurableError, match="attribute 'hidden' is no field"):
        encode(model, REFERENCES, limit=None)


def test_a_row_is_refused_although_it_is_a_model_or_a_dataclass_too() -> None:
    row = RowModel()
    RowModel.__mapper__ = object()  # type: ignore[attr-defined]
    try:
        with pytest.raises(NotDurableError, match="a row of a database"):
            encode(row, REFERENCES, limit=None)
    finally:
        del RowModel.__mapper__  # type: ignore[attr-defined]


def test_an_enum_member_made_behind_its_back_is_refused() -> None:
    stranger = object.__new__(Bits)
    stranger._value_ = 1
    stranger._name_ = "TWO"
    with pytest.raises(NotDurableError, match="it is no member of Bits"):
        encode(stranger, REFERENCES, limit=None)


@pytest.mark.parametrize("value", ["x" * 100, ("x" * 100,), b"x" * 100, list(range(100))])
def test_a_text_over_the_limit_is_refused_with_both_sizes(value: object) -> None:
    size = len(encode(value, REFERENCES, limit=None))
    assert encode(value, REFERENCES, limit=size)
    with pytest.raises(PayloadTooLargeError) as caught:
        encode(value, REFERENCES, where="result of f", limit=size - 1)
    assert (caught.value.size, caught.value.limit) == (size, size - 1)
    assert caught.value.where == "result of f"
    with pytest.raises(PayloadTooLargeError, match="send cannot be stored"):
        encode_arguments((value,), {}, REFERENCES, task="send", limit=50)


@pytest.mark.parametrize("leaf", [1, (1,)])
def test_a_small_value_that_would_make_an_endless_text_is_refused_at_once(leaf: object) -> None:
    value: Any = leaf
    for _ in range(60):
        value = [value] * 10
    with pytest.raises(PayloadTooLargeError):
        encode(value, REFERENCES, limit=10_000)
