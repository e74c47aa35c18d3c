"""The job that every rival runs: it does nothing but say that it ran.

What lives here: the function, and reading what it said. What does not: who calls it. Imported in
the rivals' own environments, in the process that enqueues and in workers: standard library only.
"""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path
from struct import Struct

__all__ = ["nothing", "nothing_async", "started_at", "times_run"]

# The job's number, and the seconds of the clock that all processes of a machine share.
_LINE = Struct("<qd")


@cache
def _file() -> int:
    return os.open(_path(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def nothing(number: int, text: str) -> None:  # noqa: ARG001  # a job has two arguments
    os.write(_file(), _LINE.pack(number, time.monotonic()))


async def nothing_async(number: int, text: str) -> None:
    nothing(number, text)


def times_run() -> int:
    """Return how many jobs have run so far."""
    try:
        return _path().stat().st_size // _LINE.size
    except FileNotFoundError:
        return 0


def started_at() -> dict[int, float]:
    """Return when each job ran for the first time."""
    found: dict[int, float] = {}
    for number, moment in _LINE.iter_unpack(_path().read_bytes()):
        found.setdefault(number, moment)
    return found


def _path() -> Path:
    return Path(os.environ["BENCH_FOLDER"]) / "record"
