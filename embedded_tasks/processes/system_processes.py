"""What Linux tells of a process by its number: when it began, and how it has ended.

What lives here: reading /proc/<pid>/stat. What does not: whether a process of ours is dead, which
only its lock tells. Called by `last_words.py` and `deaths.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["Stat", "read_stat", "started_ticks"]

_PROC: Final = Path("/proc")
# Counted after the name, which is in parentheses and may hold anything.
_STATE, _STARTED, _STATUS = 0, 19, 49


class Stat(NamedTuple):
    """Some of what the kernel knows of a process.

    Attributes:
        state: A letter; "Z" is a process that has ended and whose parent has not asked for it yet.
        started: When it began, in ticks since the boot: with the pid, an identity.
        status: How it ended, as `os.wait` gives it; 0 while it runs, or where we may not know.
    """

    state: str
    started: int
    status: int


def read_stat(pid: int, proc: Path = _PROC) -> Stat | None:
    """Return what is known of a process, or None if there is none, or no Linux."""
    try:
        text = (proc / str(pid) / "stat").read_text("utf-8", "replace")
        fields = text.rpartition(")")[2].split()
        return Stat(fields[_STATE], int(fields[_STARTED]), int(fields[_STATUS]))
    except (OSError, ValueError, IndexError):
        return None


def started_ticks(pid: int) -> int | None:
    """Return when a process began, in ticks since the boot."""
    stat = read_stat(pid)
    return None if stat is None else stat.started
