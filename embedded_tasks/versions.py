"""The version of a task, stored in its name, so that only code that has it claims the job.

What lives here: putting name and version together and apart. What does not: what an older version's
arguments become, which is the task's. Used by the catalogue, the front door and the store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from embedded_tasks.errors import ConfigurationError

__all__ = ["Upgrade", "check_unversioned", "check_version", "split_name", "stored_name"]

Upgrade = Callable[[int, tuple[Any, ...], dict[str, Any]], tuple[Sequence[Any], dict[str, Any]]]
"""Gets the version, the arguments and the keyword arguments of a stored job; returns both as the
present version takes them."""

_LARGEST = 999_999
_STORED = re.compile(r"(.+)@([1-9][0-9]{0,5})", re.DOTALL)


def stored_name(name: str, version: int) -> str:
    """Return the name under which jobs of a version are stored.

    Example:
        `stored_name("send", 1)` is `"send"`, `stored_name("send", 2)` is `"send@2"`
    """
    return name if version == 1 else f"{name}@{version}"


def split_name(stored: str) -> tuple[str, int]:
    """Return the name of a task and the version, of a stored name."""
    found = _STORED.fullmatch(stored) if "@" in stored else None
    return (stored, 1) if found is None else (found[1], int(found[2]))


def check_unversioned(option: str, name: str) -> str:
    """Return a given name, refused when it ends like one with a version.

    Raises:
        ConfigurationError: It does.
    """
    if _STORED.fullmatch(name):
        raise ConfigurationError(
            f"{option}={name!r}: the end of the name stands for a version. Write version=."
        )
    return name


def check_version(version: object) -> int:
    """Return a version.

    Raises:
        ConfigurationError: It is no whole number from 1 on.
    """
    if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version <= _LARGEST:
        raise ConfigurationError(f"version={version!r}: expected an int from 1 to {_LARGEST}.")
    return version
