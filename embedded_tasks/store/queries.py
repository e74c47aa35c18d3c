"""The named statements of the `.sql` files here, loaded once.

What lives here: the loader, and one statement for many rows. What does not: SQL. Called by the
writer's operations and the reader.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import chain
from typing import Any

__all__ = ["QUERIES", "execute_for_all", "parse_queries", "read_queries"]

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_ROW = re.compile(r"\(\?(?:, \?)*\)")
_MOST_ROWS = 256
_STEP = 32


def parse_queries(text: str) -> dict[str, str]:
    r"""Return the statements of a text by name.

    Example:
        `parse_queries("-- name: one\nSELECT 1;")` is `{"one": "SELECT 1"}`
    """
    parts = _NAME.split(text)[1:]
    queries: dict[str, str] = {}
    for name, body in zip(parts[::2], parts[1::2], strict=True):
        if name in queries:
            raise ValueError(f"the query {name!r} is there twice")
        lines = [line for line in body.splitlines() if not line.startswith("--")]
        queries[name] = "\n".join(lines).strip().removesuffix(";")
    return queries


def read_queries() -> str:
    """Return the text of every file of named statements."""
    folder = files("embedded_tasks.store")
    names = (entry.name for entry in folder.iterdir())
    found = sorted(name for name in names if name.startswith("queries") and name.endswith(".sql"))
    return "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in found)


def execute_for_all(
    connection: sqlite3.Connection, statement: str, rows: Sequence[Sequence[Any]]
) -> int:
    """Run a statement that reads one row of `VALUES (?, ...)` for many rows; return its row count.

    Each step of a statement lets go of the interpreter, and a busy event loop gives it back late:
    so there are few. JSON would be a single one, and takes SQLite twice as long to read.
    """
    changed = start = 0
    while start < len(rows):
        left = min(len(rows) - start, _MOST_ROWS)
        # Whole steps first, so that few texts have to be compiled.
        size = left if left < _STEP else left - left % _STEP
        parameters = [*chain.from_iterable(rows[start : start + size])]
        changed += connection.execute(_for_rows(statement, size), parameters).rowcount
        start += size
    return changed


@lru_cache(maxsize=128)
def _for_rows(statement: str, count: int) -> str:
    return _ROW.sub(lambda row: ", ".join([row[0]] * count), statement)


QUERIES: Mapping[str, str] = parse_queries(read_queries())
"""Every statement that is run after the file is open, by name."""
