"""What a claim chooses from: all queues at once, or, while some are paused, queue by queue.

What lives here: both ways, so that a paused backlog is not walked over and claims cost what they
always did while none is paused. What does not: the claim as a whole. Called by the operations.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from embedded_tasks.store.queries import QUERIES

__all__ = ["AllQueues", "OpenQueues", "queues_to_claim"]


def queues_to_claim(connection: sqlite3.Connection) -> AllQueues | OpenQueues:
    """Return what jobs may be claimed of, as the present transaction sees it."""
    paused = [row[0] for row in connection.execute(QUERIES["paused_queues"])]
    return OpenQueues(connection, paused) if paused else AllQueues(connection)


class AllQueues:
    """What may be claimed while no queue is paused: one statement for all queues."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def claim(self, asked: Mapping[str, Any]) -> list[sqlite3.Row]:
        """Claim due jobs."""
        return self._connection.execute(QUERIES["claim"], asked).fetchall()

    def claim_suspect(self, asked: Mapping[str, Any]) -> list[sqlite3.Row]:
        """Claim the suspect that has waited longest."""
        return self._connection.execute(QUERIES["claim_suspect"], asked).fetchall()

    def next_suspect(self, asked: Mapping[str, Any]) -> float | None:
        """Return when the next suspect is due."""
        due: float | None = self._connection.execute(QUERIES["next_suspect"], asked).fetchone()[0]
        return due

    def next_due(self, tasks: str) -> float | None:
        """Return when the next job of these tasks is due."""
        asked = {"tasks": tasks}
        due: float | None = self._connection.execute(QUERIES["next_due"], asked).fetchone()[0]
        return due


class OpenQueues:
    """The queues that are not paused, and what is due in them.

    Args:
        connection: The writer's, within its transaction.
        paused: The names of the paused queues.
    """

    def __init__(self, connection: sqlite3.Connection, paused: list[str]) -> None:
        self._connection = connection
        self._paused = json.dumps(paused)
        waiting = connection.execute(QUERIES["waiting_queues"]).fetchall()
        self._names = [row[0] for row in waiting if row[0] not in paused]

    def claim(self, asked: Mapping[str, Any]) -> list[sqlite3.Row]:
        """Claim what the statement `claim` would, of open queues."""
        due = [
            row
            for name in self._names
            for row in self._connection.execute(QUERIES["due_of_queue"], {**asked, "queue": name})
        ]
        due.sort(key=lambda row: (-row[1], row[2], row[0]))
        return self._claim([row[0] for row in due[: asked["limit"]]], asked)

    def claim_suspect(self, asked: Mapping[str, Any]) -> list[sqlite3.Row]:
        """Claim what the statement `claim_suspect` would, of open queues."""
        more = {**asked, "paused": self._paused}
        row = self._connection.execute(QUERIES["suspect_to_claim"], more).fetchone()
        return self._claim([row[0]], asked) if row else []

    def next_suspect(self, asked: Mapping[str, Any]) -> float | None:
        """Return when the next suspect of an open queue is due."""
        more = {**asked, "paused": self._paused}
        row = self._connection.execute(QUERIES["next_suspect_of_open"], more).fetchone()
        due: float | None = row[0]
        return due

    def next_due(self, tasks: str) -> float | None:
        """Return when the next job of these tasks in an open queue is due."""
        times = [
            self._connection.execute(
                QUERIES["next_due_of_queue"], {"tasks": tasks, "queue": name}
            ).fetchone()[0]
            for name in self._names
        ]
        return min((time for time in times if time is not None), default=None)

    def _claim(self, seqs: list[int], asked: Mapping[str, Any]) -> list[sqlite3.Row]:
        if not seqs:
            return []
        more = {**asked, "seqs": json.dumps(seqs)}
        return self._connection.execute(QUERIES["claim_these"], more).fetchall()
