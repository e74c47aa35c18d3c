"""Kinds of failures: counted in the transaction that writes a failed attempt, and in no other.

What lives here: what is written of them. What does not: what makes two failures the same
(`failure.py`). Called by the operations.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from embedded_tasks.failure import group_of
from embedded_tasks.store.queries import QUERIES

__all__ = ["Failure", "count_failures"]

_LONGEST = 500


class Failure(NamedTuple):
    """A failed attempt: whose, and what is known of its error."""

    job: str
    error_type: str
    place: str
    message: str
    at: float


def count_failures(
    connection: sqlite3.Connection, failures: Sequence[Failure], written: Collection[str]
) -> None:
    """Count those failures whose attempt was written, by kind, and say of what kind each job is."""
    rows: list[list[Any]] = [
        [row.job, group_of(row.error_type, row.place), row.error_type, row.place,
         row.message[:_LONGEST], row.at]
        for row in failures if row.job in written
    ]  # fmt: skip  # one column after another, as in the statement
    if rows:
        text = json.dumps(rows)
        connection.execute(QUERIES["count_failures"], {"rows": text})
        connection.execute(QUERIES["mark_failures"], {"rows": text})
