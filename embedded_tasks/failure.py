"""Errors as text that can be stored, and which errors a policy names.

What lives here: `describe`, `storable` and `matches`. What does not: what follows from an error.
Used by the actions.
"""

from __future__ import annotations

import os
import sysconfig
import traceback
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from embedded_tasks.job import AttemptError

__all__ = ["class_name", "describe", "group_of", "matches", "place_of", "shown", "storable"]

_LONGEST_MESSAGE = 4_000
_LONGEST_TRACEBACK = 64_000
_LONGEST_PLACE = 300
_NOT_THE_USERS = (
    f"{Path(__file__).parent}{os.sep}",
    f"{sysconfig.get_path('stdlib')}{os.sep}",
    "<frozen ",
)
"""How the file names of this package and of Python's own modules begin."""


def class_name(cls: type) -> str:
    """Return the name by which an error class is stored and shown."""
    if cls.__module__ == "builtins":
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def describe(error: BaseException) -> AttemptError:
    """Return an error as text: class, message, traceback, each with a limit."""
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001  # a user's __str__ may raise anything
        message = f"<its message cannot be shown: {type(broken).__name__}>"
    try:
        lines = traceback.format_exception(error)
    except Exception:  # noqa: BLE001  # as above
        lines = ["<its traceback cannot be shown>"]
    text = "".join(lines)
    if len(text) > _LONGEST_TRACEBACK:
        half = _LONGEST_TRACEBACK // 2
        text = f"{text[:half]}\n... cut ...\n{text[-half:]}"
    return AttemptError(
        class_name(type(error)),
        storable(message[:_LONGEST_MESSAGE]),
        storable(text),
        place_of(error),
    )


def place_of(error: BaseException) -> str:
    """Return the innermost place of an error in the user's own code; "" where there is none.

    A place is `module:function`, without its line, so that a deploy leaves it as it is.
    """
    place = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        file = code.co_filename
        if not file.startswith(_NOT_THE_USERS) and "site-packages" not in file:
            place = f"{trace.tb_frame.f_globals.get('__name__', '?')}:{code.co_qualname}"
        trace = trace.tb_next
    return storable(place[:_LONGEST_PLACE])


def group_of(error_type: str, place: str) -> str:
    """Return the id of the group of errors of one class from one place."""
    return sha256(f"{error_type}\n{place}".encode()).hexdigest()[:16]


def matches(error: BaseException, classes: Iterable[type[BaseException] | str]) -> bool:
    """Return whether an error is of one of these classes, given as classes or stored names."""
    names = {class_name(cls) for cls in type(error).__mro__}
    return any(
        item in names if isinstance(item, str) else isinstance(error, item) for item in classes
    )


def storable(text: str) -> str:
    """Return a text that SQLite and its readers take whole, whatever is in it."""
    # SQLite takes UTF-8; a lone surrogate has none, and NUL would end the text for many readers.
    return text.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\x00")


def shown(value: object) -> str:
    """Return any value as a text that can be stored."""
    try:
        return storable(str(value))
    except Exception as broken:  # noqa: BLE001  # a user's __str__ may raise anything
        return f"<it cannot be shown: {type(broken).__name__}>"
