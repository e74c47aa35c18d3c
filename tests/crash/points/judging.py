"""What must hold after a kill, wherever it came.

What lives here: reading what the client and the jobs wrote, and comparing it with the second life.
What does not: killing (`killing.py`, which calls this).
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from embedded_tasks.job import FINISHED

__all__ = ["check_sound", "judge", "read_log", "states"]

_EXCUSED = {"cancelling", "expiring"}
"""Words after which a job need not run, and may be removed."""

_DONE = {"settled-succeeded", "settled-failed", "settled-cancelled", "cancelled", "withdrawn"}
"""Words after which it runs no more."""


def read_log(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def check_sound(path: Path) -> None:
    """The file is whole, with its CHECKs, and every reference leads somewhere."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []


def states(path: Path) -> dict[str, str]:
    """Return the state of each job by its key, which is its argument."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT args, state FROM jobs").fetchall()
    return {json.loads(args)[1][0]: state for args, state in rows}


def judge(
    folder: Path, first_life: Sequence[str], second_life: Sequence[str], after: dict[str, str]
) -> None:
    """Compare what was said before the kill with what came afterwards.

    Args:
        folder: Where it was, for messages.
        first_life: What the killed process and its client wrote.
        second_life: What the jobs wrote afterwards.
        after: The states of the jobs at last.
    """
    said: dict[str, list[str]] = defaultdict(list)
    for line in first_life:
        word, key = line.split()
        said[key].append(word)
    runs = Counter(line.split()[1] for line in second_life)
    for key in runs.keys() | said.keys():
        words, state = said[key], after.get(key)
        wanted = _wanted(key, words)
        assert runs[key] in wanted, f"{folder}: {key} ran {runs[key]} times after {words}, {state}"
        if "accepted" in words and not _EXCUSED & {*words}:
            assert state in FINISHED, f"{folder}: {key} is {state} after {words}"
            if runs[key] or words[-1] == "settled-succeeded":
                assert state == "succeeded", f"{folder}: {key} is {state} after {words}"
        if state == "succeeded":
            assert runs[key] or "settling-succeeded" in words, f"{folder}: {key} never ran: {words}"


def _wanted(key: str, words: Sequence[str]) -> set[int]:
    """How often a job may run in the second life, given what was said of it in the first one."""
    last = words[-1] if words else "asked"
    if "expiring" in words:
        return {0}
    # Where such a job had started, its policy forbids a second run.
    again = 0 if "f" in key else 1
    match last:
        case "accepted" | "settled-queued" | "retried":
            return {1}
        case "started":
            return {again}
        case "settling-queued":
            return {again, 1}
        case "settling-succeeded" | "settling-failed" | "settling-cancelled":
            return {again, 0}
        case "asked" | "cancelling" | "retrying":
            # What was asked for may be on disk, and its answer not yet said.
            return {0, 1}
    assert last in _DONE, words
    return {0}
