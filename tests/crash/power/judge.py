"""What must hold when the power is back.

What lives here: opening what a cut left, as a start does, and comparing it with what was
acknowledged. What does not: which cuts there are (`cuts.py`). Called by test_power_loss.py.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from embedded_tasks.store import Store, StoreSettings

__all__ = ["Told", "judge", "restore", "rows_of"]


class Found(NamedTuple):
    """A row of a job, and how many of its attempts are kept."""

    state: str
    attempt: int
    attempts: int


@dataclass(slots=True)
class Told:
    """What a client had been told, and what it had asked for; key by key."""

    accepted: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)
    did: set[str] = field(default_factory=set)
    cancelling: set[str] = field(default_factory=set)
    cancelled: set[str] = field(default_factory=set)
    retrying: set[str] = field(default_factory=set)
    retried: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, said: Sequence[str]) -> Told:
        told = cls()
        for line in said:
            word, key = line.split()
            if word in ("succeeded", "failed"):
                told.ended[key] = word
            else:
                getattr(told, word).add(key)
        return told

    def settled(self) -> set[str]:
        """The keys whose end was told, and who were not asked to run again."""
        return self.ended.keys() - self.retrying

    def broken(self, rows: Mapping[str, Found]) -> list[str]:
        """What is not as it was told."""
        # A job that was cancelled is soon removed.
        lost = self.accepted - self.cancelling - rows.keys()
        found = [f"{key} is lost" for key in sorted(lost)]
        for key, row in rows.items():
            if key in self.settled() and row.state != self.ended[key]:
                found.append(f"{key} had {self.ended[key]} and is {row.state}")
            if key in self.cancelled and row.state != "cancelled":
                found.append(f"{key} was cancelled and is {row.state}")
            if key in self.retried and row.attempts == 0:
                found.append(f"{key} was to be retried and was not")
        return found


class _NoLock:
    def acquire(self) -> None: ...

    def release(self) -> None: ...

    def acquire_within(self, seconds: float) -> None:
        self.acquire()

    def holders(self) -> str:
        return ""


def restore(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """Put files into an empty folder; return the database."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return folder / "tasks.db"


async def judge(path: Path, told: Told, journal_mode: str) -> list[str]:
    """Open the file as a start does; return what is wrong with it."""
    wrong_copy = _check_copy(path)
    # No power cut follows, so nothing needs to be synced.
    settings = StoreSettings(str(path), synchronous="OFF", journal_mode=journal_mode)
    store = await Store.open(settings, _NoLock())
    try:
        rows, wrong = await store._connection.run(_read)
    finally:
        await store.close()
    return wrong_copy + wrong + told.broken(rows)


def _check_copy(path: Path) -> list[str]:
    """Where the file is beyond the old release, its copy from before is there and whole."""
    if not path.exists() or _ask(path, "PRAGMA user_version") in ([0], [1]):
        return []
    copy = Path(f"{path}.before-schema-2")
    if not copy.exists():
        return ["there is no copy from before the migration"]
    if _ask(copy, "PRAGMA integrity_check") != ["ok"]:
        return ["the copy from before the migration is damaged"]
    has_jobs = _ask(copy, "SELECT count(*) FROM sqlite_schema WHERE name = 'jobs'") == [1]
    has_job = has_jobs and _ask(copy, "SELECT count(*) FROM jobs") == [1]
    return [] if has_job else ["the copy from before the migration has not the job"]


def _ask(path: Path, sql: str) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute(sql)]


def _read(connection: sqlite3.Connection) -> tuple[dict[str, Found], list[str]]:
    wrong = [
        str(tuple(row))
        for check in ("integrity_check", "foreign_key_check")
        for row in connection.execute(f"PRAGMA {check}")
        if tuple(row) != ("ok",)
    ]
    return rows_of(connection), wrong


def rows_of(connection: sqlite3.Connection) -> dict[str, Found]:
    """Return the jobs by their key, which is their first argument."""
    rows = connection.execute(
        "SELECT args, state, attempt, (SELECT count(*) FROM attempts WHERE job = seq) FROM jobs"
    )
    return {json.loads(args)[1][0]: Found(*rest) for args, *rest in rows}
