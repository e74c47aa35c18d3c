"""Looking at a file without touching it: before a deploy, with whatever processes run on it.

What lives here: reading every job that has not finished. What does not: what is looked for. Called
by `deploy_check.py`, in any thread.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import NamedTuple
from urllib.parse import quote

from embedded_tasks.errors import StoreError, StoreUnavailableError
from embedded_tasks.store.connection import translated
from embedded_tasks.store.opening import recognised_version
from embedded_tasks.store.queries import QUERIES

__all__ = ["WaitingJob", "look_at_waiting"]

_WINDOW = 2_000
_TRIES = 10
_WAIT = 5.0


class WaitingJob(NamedTuple):
    """A job that has not finished."""

    id: str
    stored_name: str
    state: str
    options: str | None
    args: str


def look_at_waiting(path: str, see: Callable[[Iterator[WaitingJob]], None]) -> int:
    """Show every job that has not finished; the file is neither written nor migrated.

    A file that no process has open is read without locks, so that not even SQLite's own files
    are made beside it; should a process open it meanwhile, `see` is called anew.

    Args:
        path: The file.
        see: Called with the jobs, which come in small batches, so that no writer is held up.

    Returns:
        The file's schema, 0 where there is no file, or an empty one.

    Raises:
        StoreFormatError: A newer, foreign or damaged file.
        StoreUnavailableError: It cannot be read just now.
    """
    for _ in range(_TRIES):
        before = _state(path)
        if before is None or before[0] == 0:
            return 0
        in_use = os.path.exists(f"{path}-wal") or os.path.exists(f"{path}-journal")
        try:
            version = _look(path, see, in_use=in_use)
        except StoreError:
            if in_use or _state(path) == before:
                raise
            continue
        if in_use or _state(path) == before:
            return version
    raise StoreUnavailableError(f"{path} was opened and closed again and again while it was read.")


def _state(path: str) -> tuple[object, ...] | None:
    """Return what changes when somebody writes, or None where there is no file."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    beside = os.path.exists(f"{path}-wal"), os.path.exists(f"{path}-journal")
    return found.st_size, found.st_mtime_ns, found.st_ino, *beside


def _look(path: str, see: Callable[[Iterator[WaitingJob]], None], *, in_use: bool) -> int:
    uri = f"file:{quote(os.path.abspath(path))}?mode=ro{'' if in_use else '&immutable=1'}"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=_WAIT, isolation_level=None)) as opened:
            opened.execute("PRAGMA query_only=1")
            opened.execute("PRAGMA trusted_schema=0")
            version = recognised_version(opened, path)
            if version:
                see(_waiting(opened))
            return version
    except sqlite3.Error as error:
        raise translated(error, path) from error


def _waiting(connection: sqlite3.Connection) -> Iterator[WaitingJob]:
    (last,) = connection.execute(QUERIES["last_job"]).fetchone()
    for after in range(0, last, _WINDOW):
        window = {"after": after, "last": after + _WINDOW}
        yield from map(WaitingJob._make, connection.execute(QUERIES["look_at_waiting"], window))
