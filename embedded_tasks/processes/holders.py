"""Which processes hold a lock just now, as the system tells it: for words to a person.

What lives here: reading /proc/locks. What does not: taking locks, and any decision; where the
system tells nothing (not Linux, another container) nobody is named. Called when something
is in the way.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from embedded_tasks.processes.layout import database_of, writers_lock_path

__all__ = ["lock_holders", "named", "readers", "users", "who_keeps_it", "writers"]

_LOCKS: Final = Path("/proc/locks")
# A documented part of SQLite's file format: what every connection locks while it is open.
_IN_USE: Final = (0x40000000 + 2, 0x40000000 + 511)
# Documented parts of SQLite's WAL-index: who writes, and which state of the file who reads.
_WRITES: Final = (120, 120)
_READS: Final = (123, 127)


def lock_holders(folder: Path) -> list[int]:
    """Return the ids of the other processes that hold the writers' lock.

    Args:
        folder: The folder of the processes.
    """
    return _holders(str(writers_lock_path(folder)), "FLOCK", "WRITE")


def writers(database: str | os.PathLike[str]) -> list[int]:
    """Return the ids of the other processes that have a transaction open to write."""
    return _holders(f"{os.path.realpath(database)}-shm", "POSIX", "WRITE", _WRITES)


def users(folder: Path) -> list[int]:
    """Return the ids of the other processes that have the database open in WAL mode.

    Args:
        folder: The folder of its processes.
    """
    return _holders(database_of(folder), "POSIX", "READ", _IN_USE)


def readers(database: str | os.PathLike[str]) -> list[int]:
    """Return the ids of the processes that have a transaction open to read, this one included."""
    shm = f"{os.path.realpath(database)}-shm"
    return _holders(shm, "POSIX", "READ", _READS, others=False)


def named(pids: list[int]) -> str:
    """Return processes as words, such as "pid 812 (sqlite3)", or "" for none."""
    return ", ".join(f"pid {pid}{_program(pid)}" for pid in pids)


def who_keeps_it(folder: Path) -> str:
    """Return who keeps the writers' lock, as far as is known, and what to do, in sentences.

    Args:
        folder: The folder of the processes.
    """
    found = named(lock_holders(folder))
    return (
        f"{f'It is {found}. ' if found else ''}A process that is stopped or hangs in a commit "
        "does that: let it go on (kill -CONT) or end it."
    )


def _program(pid: int) -> str:
    with contextlib.suppress(OSError):
        return f" ({Path(f'/proc/{pid}/comm').read_text().strip()})"
    return ""


def _holders(
    path: str,
    family: str,
    kind: str,
    place: tuple[int, int] | None = None,
    *,
    others: bool = True,
) -> list[int]:
    try:
        inode = os.stat(path).st_ino
        lines = _LOCKS.read_text("ascii").splitlines()
    except (OSError, UnicodeError):
        return []
    mine = os.getpid() if others else 0
    found = {pid for pid in _matching(lines, (family, kind, str(inode)), place) if pid != mine}
    return sorted(found)


def _matching(
    lines: list[str], wanted: tuple[str, str, str], place: tuple[int, int] | None
) -> Iterator[int]:
    """Lines are `1: POSIX ADVISORY WRITE 812 fe:00:2998341 120 120`; waiting ones have an arrow."""
    for line in lines:
        parts = line.split()
        if len(parts) != 8 or (parts[1], parts[3], parts[5].rpartition(":")[2]) != wanted:
            continue
        if place is not None and not (place[0] <= int(parts[6]) <= place[1]):
            continue
        if int(parts[4]) > 0:
            yield int(parts[4])
