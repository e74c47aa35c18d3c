"""What has happened since a place in the feed, told by what is written anyway.

What lives here: the place, as text, and reading on from it. What does not: listeners (`feed.py`).
Called by the feed, through the reader.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, NamedTuple

from embedded_tasks.job import FINISHED, JobState, ShownState, shown_state
from embedded_tasks.reported import FeedEvent, FeedKind
from embedded_tasks.store.queries import QUERIES
from embedded_tasks.store.reader import Reader

__all__ = ["OVERLAP", "Found", "News", "Place"]

OVERLAP: Final = 2.0
"""Seconds that are read again: a commit may come later than the times in its rows."""

_MOST: Final = 1_000
_MOST_KEYS: Final = 50_000
_MOST_RUNNING: Final = 500
_OF_A_JOB: Final = frozenset({"retry", "cancel", "run_now", "delete"})


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the feed: the newest job, the newest entry of the audit, and the time."""

    seq: int
    audit: int
    time: float

    def __str__(self) -> str:
        return f"{self.seq}-{self.audit}-{int(self.time * 1000)}"

    @classmethod
    def of(cls, text: str) -> Place | None:
        """Return the place that a text stands for; None where it is none."""
        parts = text.split("-")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
            return None
        if any(len(part) > 18 for part in parts):
            return None
        return cls(int(parts[0]), int(parts[1]), int(parts[2]) / 1000)


@dataclass(frozen=True, slots=True)
class Found:
    """What was read.

    Args:
        events: What had not been told, in the order of time, each with the place behind it.
        told: Names all that ended in the time that is read again next time.
        more: Whether more has happened than was read; there are no events then.
    """

    events: list[FeedEvent]
    told: AbstractSet[str]
    more: bool = False


class _Row(NamedTuple):
    """What an event is made of."""

    at: float
    kind: FeedKind
    seq: int
    audit: int
    values: list[Any]


class News:
    """Reads what has happened.

    Args:
        reader: The reader, whose connection is used.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def version(self) -> int:
        """Return a number that changes when anybody has written to the file."""

        def work(connection: sqlite3.Connection) -> int:
            others = connection.execute("PRAGMA data_version").fetchone()[0]
            # In memory there is one connection, whose own changes the other number leaves out.
            return int(others) + connection.total_changes

        return await self._reader.run(work)

    async def now(self, now: float) -> Place:
        """Return the place at which the feed stands now."""

        def work(connection: sqlite3.Connection) -> Place:
            seq, audit = connection.execute(QUERIES["ends"]).fetchone()
            return Place(seq, audit, now)

        return await self._reader.run(work)

    async def since(self, place: Place, now: float, told: AbstractSet[str] = frozenset()) -> Found:
        """Return what has happened since a place.

        Args:
            place: The place.
            now: The time.
            told: What was told of the time that is read again (`Found.told`).
        """
        return await self._reader.run(partial(_since, place, now, told))

    async def told(self, place: Place) -> AbstractSet[str]:
        """Return the names of all that is read again behind a place, as if it had been told."""
        return await self._reader.run(lambda connection: _keys(connection, place).all)

    async def running(self, now: float) -> list[tuple[FeedEvent, tuple[Any, ...] | None, int]]:
        """Return the jobs that run as events, with their progress and their last line."""
        return await self._reader.run(partial(_running, now))

    async def given(self, ids: Iterable[str]) -> dict[str, tuple[str, str]]:
        """Return the task and the stored arguments of each of these jobs that is there."""
        asked = {"ids": json.dumps(list(ids))}
        rows = await self._reader.run(lambda connection: _rows(connection, "news_given", asked))
        return {id: (task, args) for id, task, args in rows}


class _Keys(NamedTuple):
    """What ended from a time on: `seq:time` of jobs, `seq/number:time` of attempts."""

    jobs: AbstractSet[str]
    attempts: AbstractSet[str]
    whole: bool

    @property
    def all(self) -> AbstractSet[str]:
        return self.jobs | self.attempts


def _since(
    place: Place, now: float, told: AbstractSet[str], connection: sqlite3.Connection
) -> Found:
    keys = _keys(connection, place)
    jobs = [key.partition(":")[0] for key in keys.jobs - told]
    attempts = [key.partition(":")[0].split("/") for key in keys.attempts - told]
    asked: dict[str, Any] = {"seq": place.seq, "id": place.audit, "limit": _MOST + 1}
    enqueued = _rows(connection, "news_enqueued", asked)
    audit = _rows(connection, "news_audit", asked)
    if not keys.whole or any(len(each) > _MOST for each in (jobs, attempts, enqueued, audit)):
        return Found([], keys.all, more=True)
    found = [_Row(row[7], FeedKind.ENQUEUED, row[0], 0, row) for row in enqueued]
    if jobs:
        asked = {"keys": f"[{','.join(jobs)}]"}
        rows = _rows(connection, "news_finished", asked)
        found += [_Row(row[7], FeedKind.FINISHED, 0, 0, row) for row in rows]
    if attempts:
        asked = {"keys": json.dumps([[int(job), int(number)] for job, number in attempts])}
        rows = _rows(connection, "news_attempts", asked)
        found += [_Row(row[7], FeedKind.ATTEMPT, 0, 0, row) for row in rows]
    found += [_Row(row[1], FeedKind.OPERATOR, 0, row[0], row) for row in audit]
    # What is of the same moment comes in the order in which it was stored.
    found.sort(key=lambda row: (row.at, row.values[0]))
    return Found(_placed(found, place, now), keys.all)


def _keys(connection: sqlite3.Connection, place: Place) -> _Keys:
    asked: dict[str, Any] = {"since": place.time - OVERLAP, "limit": _MOST_KEYS}
    attempts = _names(connection, "news_attempt_keys", asked)
    whole = len(attempts) < _MOST_KEYS
    jobs: set[str] = set()
    for state in FINISHED:
        found = _names(connection, "news_finished_keys", asked | {"state": state})
        whole = whole and len(found) < _MOST_KEYS
        jobs.update(found)
    return _Keys(jobs, attempts, whole)


def _names(connection: sqlite3.Connection, query: str, parameters: dict[str, Any]) -> set[str]:
    text: str | None = connection.execute(QUERIES[query], parameters).fetchone()[0]
    return set(text.split(",")) if text else set()


def _rows(connection: sqlite3.Connection, query: str, parameters: dict[str, Any]) -> list[Any]:
    text: str = connection.execute(QUERIES[query], parameters).fetchone()[0]
    # Text that is no UTF-8 is marked where it is read leniently.
    rows: list[Any] = json.loads(text.lstrip("\N{REPLACEMENT CHARACTER}"))
    return rows


def _placed(found: list[_Row], place: Place, now: float) -> list[FeedEvent]:
    """Return events, each with the place behind it."""
    events: list[FeedEvent] = []
    seq, audit, time = place.seq, place.audit, place.time
    for row in found:
        seq, audit, time = max(seq, row.seq), max(audit, row.audit), max(time, row.at)
        id = f"{seq}-{audit}-{int(time * 1000)}"
        if row.kind is FeedKind.OPERATOR:
            events.append(_acted(id, row.values))
        else:
            events.append(_event(id, row.kind, row.values, now))
    return events


def _running(
    now: float, connection: sqlite3.Connection
) -> list[tuple[FeedEvent, tuple[Any, ...] | None, int]]:
    rows = _rows(connection, "news_running", {"limit": _MOST_RUNNING})
    return [
        (
            _event("", FeedKind.STARTED, row[:10], now),
            None if row[13] is None else tuple(row[10:14]),
            row[14] or 0,
        )
        for row in rows
    ]


def _event(id: str, kind: FeedKind, row: list[Any], now: float) -> FeedEvent:
    _, job_id, task, queue, state, attempt, due_at, at, outcome, reason = row
    shown: ShownState = shown_state(JobState(state), due_at, attempt, now)
    details = {"reason": reason} if reason else {}
    return FeedEvent(id, kind, at or 0.0, job_id, task, queue, shown, attempt, outcome, details)


def _acted(id: str, row: list[Any]) -> FeedEvent:
    _, at, who, action, target, details = row
    told = {"by": who, "target": target, **json.loads(details)}
    job_id = target if action in _OF_A_JOB else None
    return FeedEvent(id, FeedKind.OPERATOR, at, job_id=job_id, outcome=action, details=told)
