"""Errors as text that can be stored, and which errors a policy names.

What lives here: `describe`, `storable` and `matches`. What does not: what follows from an error.
Used by the actions.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable

from embedded_tasks.job import AttemptError

__all__ = ["class_name", "describe", "matches", "storable"]

_LONGEST_MESSAGE = 4_000
_LONGEST_TRACEBACK = 64_000


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
        class_name(type(error)), storable(message[:_LONGEST_MESSAGE]), storable(text)
    )


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
