"""What has happened since a place in the feed, told by what is written anyway.

What lives here: the place, as text, and reading on from it. What does not: listeners (`feed.py`).
Called by the feed, through the reader.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from embedded_tasks.job import FINISHED, JobState, ShownState, shown_state
from embedded_tasks.reported import FeedEvent, FeedKind
from embedded_tasks.store.queries import QUERIES
from embedded_tasks.store.reader import Reader

__all__ = ["OVERLAP", "News", "Place"]

OVERLAP: Final = 2.0
"""Seconds that are read again: a commit may come later than the times in its rows."""

_MOST: Final = 1_000
_MOST_RUNNING: Final = 500


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

    async def since(self, place: Place, now: float) -> tuple[list[FeedEvent], bool]:
        """Return what has happened since a place, in the order of time.

        Returns:
            The events, each with the place behind it, and whether there are more than were read.
        """
        return await self._reader.run(partial(_since, place, now))

    async def running(self, now: float) -> list[tuple[FeedEvent, tuple[Any, ...] | None, int]]:
        """Return the jobs that run as events, with their progress and their last line."""
        return await self._reader.run(partial(_running, now))


def _since(
    place: Place, now: float, connection: sqlite3.Connection
) -> tuple[list[FeedEvent], bool]:
    since = place.time - OVERLAP
    found: list[tuple[float, FeedEvent, int, int]] = []
    more = False
    asked: dict[str, Any] = {"seq": place.seq, "since": since, "limit": _MOST}
    rows = connection.execute(QUERIES["news_enqueued"], asked).fetchall()
    found += [(row["at"], _event(FeedKind.ENQUEUED, row, now), row["seq"], 0) for row in rows]
    more |= len(found) == _MOST
    for state in FINISHED:
        rows = connection.execute(QUERIES["news_finished"], asked | {"state": state}).fetchall()
        found += [(row["at"], _event(FeedKind.FINISHED, row, now), 0, 0) for row in rows]
        more |= len(rows) == _MOST
    rows = connection.execute(QUERIES["news_attempts"], asked).fetchall()
    more |= len(rows) == _MOST
    for row in rows:
        # An attempt that finished its job is told by the job.
        if row["outcome"] not in ("failed", "cancelled", "expired", "succeeded"):
            found.append((row["at"], _event(FeedKind.ATTEMPT, row, now), 0, 0))
    asked = {"id": place.audit, "limit": _MOST}
    rows = connection.execute(QUERIES["news_audit"], asked).fetchall()
    more |= len(rows) == _MOST
    found += [(row["at"], _acted(row), 0, row["id"]) for row in rows]
    return _placed(found, place), more


def _placed(found: list[tuple[float, FeedEvent, int, int]], place: Place) -> list[FeedEvent]:
    """Return events in the order of time, each with the place behind it."""
    events: list[FeedEvent] = []
    for at, event, seq, audit in sorted(found, key=lambda item: item[0]):
        place = Place(max(place.seq, seq), max(place.audit, audit), max(place.time, at))
        events.append(replace(event, id=str(place)))
    return events


def _running(
    now: float, connection: sqlite3.Connection
) -> list[tuple[FeedEvent, tuple[Any, ...] | None, int]]:
    rows = connection.execute(QUERIES["news_running"], {"limit": _MOST_RUNNING}).fetchall()
    return [
        (
            _event(FeedKind.STARTED, row, now),
            None
            if row["told_at"] is None
            else (row["done"], row["total"], row["message"], row["told_at"]),
            row["last_line"] or 0,
        )
        for row in rows
    ]


def _event(kind: FeedKind, row: sqlite3.Row, now: float) -> FeedEvent:
    state = JobState(row["state"])
    shown: ShownState = shown_state(state, row["due_at"], row["attempt"], now)
    return FeedEvent(
        "",
        kind,
        row["at"] or 0.0,
        row["id"],
        row["task_name"],
        row["queue"],
        shown,
        row["attempt"],
        row["outcome"],
        {"reason": row["reason"]} if row["reason"] else {},
    )


def _acted(row: sqlite3.Row) -> FeedEvent:
    action, target = row["action"], row["target"]
    of_a_job = action in ("retry", "cancel", "run_now", "delete")
    details = {"by": row["who"], "target": target, **json.loads(row["details"])}
    return FeedEvent(
        "",
        FeedKind.OPERATOR,
        row["at"],
        job_id=target if of_a_job else None,
        outcome=action,
        details=details,
    )
