"""Why a value cannot be stored, and what to pass instead.

What lives here: reasons and remedies by kind, known by class names, so that nothing optional is
imported. What does not: finding out that it cannot be stored. Called by `codec` and `classes`.
"""

from __future__ import annotations

import functools
import io
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    ItemsView,
    Iterator,
    KeysView,
    ValuesView,
)
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from types import MethodType, ModuleType
from typing import Final, NamedTuple
from uuid import UUID

__all__ = ["is_row", "refusal_of"]


class _Kind(NamedTuple):
    """Classes by the first part of their module's name and, where given, their own names."""

    packages: frozenset[str]
    names: frozenset[str]
    reason: str
    remedy: str


def _kind(packages: str, names: str, reason: str, remedy: str) -> _Kind:
    return _Kind(frozenset(packages.split()), frozenset(names.split()), reason, remedy)


_BY_ID: Final = "Open the session or connection inside the task, and pass ids."
_MAKE_INSIDE: Final = "Create it inside the task, or keep it in a module-level variable."
_AS_VALUES: Final = "Take out of it the values that the task needs, and pass those."
_AS_CONTENT: Final = "Read it first and pass the content, or save it and pass its path."

# The first that fits wins.
_KINDS: Final = (
    _kind(
        "pydantic starlette",
        "SecretStr SecretBytes Secret",
        "it is a secret, and secrets are never stored, not even as asterisks",
        "Let the task read the secret where the app has it from, or pass the name of the secret.",
    ),
    _kind(
        "starlette fastapi",
        "UploadFile",
        "it is an uploaded file, which is closed when the request is over",
        "Pass its content: await file.read(); or save it and pass its path.",
    ),
    _kind(
        "starlette fastapi",
        "Request HTTPConnection WebSocket Response BackgroundTasks BackgroundTask State",
        "it belongs to this one request",
        _AS_VALUES,
    ),
    _kind("starlette fastapi", "", "it is a part of the web framework", _AS_VALUES),
    _kind(
        "sqlalchemy sqlmodel sqlite3 aiosqlite psycopg psycopg2 psycopg_pool asyncpg aiomysql "
        "pymysql MySQLdb oracledb duckdb pymongo motor databases tortoise peewee neo4j cassandra",
        "",
        "it is a database session or connection, or is bound to one",
        _BY_ID,
    ),
    _kind(
        "redis aioredis httpx httpx2 aiohttp requests urllib3 boto3 botocore aioboto3 aiobotocore "
        "minio supabase openai anthropic elasticsearch opensearchpy pika aio_pika "
        "kafka aiokafka nats smtplib aiosmtplib imaplib ftplib paramiko grpc fastapi_mail",
        "",
        "it is a client, or holds a connection",
        _MAKE_INSIDE,
    ),
    _kind("socket _socket ssl select selectors", "", "it is a connection", _MAKE_INSIDE),
    _kind(
        "_thread threading asyncio _asyncio anyio multiprocessing concurrent queue _queue "
        "contextvars _contextvars trio",
        "",
        "it is a lock, queue, task or the like, which exists in this process only",
        _MAKE_INSIDE,
    ),
    _kind("tempfile aiofiles anyio", "", "it is an open file", _AS_CONTENT),
    _kind(
        "logging structlog",
        "",
        "it is a logger",
        "Get it inside the task: logging.getLogger(name).",
    ),
    _kind(
        "numpy pandas polars pyarrow torch PIL",
        "",
        "its exact type cannot be stored as text",
        "Pass plain values (.item(), .tolist()), or save it to a file and pass the path.",
    ),
)

# Exactly these are stored, and nothing below them.
_EXACT: Final = frozenset(
    {
        *(bool, bytearray, bytes, complex, dict, float, frozenset, int, list, set, str, tuple),
        *(Counter, OrderedDict, defaultdict, deque, date, datetime, time, timedelta),
        *(Decimal, Fraction, UUID, PosixPath, PurePosixPath, PureWindowsPath, WindowsPath),
    }
)


def is_row(value: object) -> bool:
    """Tell whether a value is a row of SQLAlchemy or SQLModel, mapped to a table."""
    return hasattr(type(value), "__mapper__")


def refusal_of(value: object) -> tuple[str, str]:
    """Return the reason and the remedy for a value that cannot be stored.

    Args:
        value: Anything that is no supported type.
    """
    found = _by_nature(value)
    if found is not None:
        return found
    kind = type(value)
    lineage = [(base.__module__.partition(".")[0], base.__name__) for base in kind.__mro__]
    for each in _KINDS:
        if any(
            package in each.packages and (not each.names or name.split("[")[0] in each.names)
            for package, name in lineage
        ):
            return f"{each.reason} ({_named(kind)})", each.remedy
    for base in kind.__mro__[1:-1]:
        if base in _EXACT:
            plain = base.__name__
            reason = f"its class {_named(kind)} is below {plain}, and only {plain} would come back"
            return reason, f"Pass a plain {plain}."
    return (
        f"objects of the class {_named(kind)} have no exact form as text",
        "Pass plain values, a dataclass, a pydantic model, or an id by which the task finds it.",
    )


def _named(kind: type) -> str:
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _by_nature(value: object) -> tuple[str, str] | None:
    """Return reason and remedy for what is known by what it can do, wherever it comes from."""
    if is_row(value):
        return (
            "it is a row of a database, bound to its session",
            "Pass its id, and load it inside the task with a session of its own.",
        )
    if isinstance(value, BaseException):
        return (
            "it is an exception",
            "Pass str(error), or the text of traceback.format_exception(error).",
        )
    if isinstance(value, io.IOBase):
        return "it is an open file", _AS_CONTENT
    if isinstance(value, MethodType | functools.partial):
        return (
            f"it is a {'bound method' if isinstance(value, MethodType) else 'partial'}",
            "Pass a function that is defined at the top of a module.",
        )
    if isinstance(value, ModuleType):
        return "it is a module", "Import it inside the task."
    if isinstance(value, memoryview):
        return "it is a view of other memory", "Pass bytes(value)."
    if isinstance(value, tzinfo):
        return (
            f"its time zone is of the class {_named(type(value))}",
            "Use zoneinfo.ZoneInfo(key) or datetime.timezone.",
        )
    if isinstance(value, KeysView | ValuesView | ItemsView):
        return "it is a view of a dict", "Pass list(value)."
    if isinstance(value, AsyncIterator | Awaitable) or (
        isinstance(value, Iterator) and type(value).__module__ == "builtins"
    ):
        return (
            "it is a generator, iterator or coroutine, which can be used only once",
            "Pass what it yields or returns: list(value), or await value.",
        )
    return None
