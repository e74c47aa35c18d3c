"""The named statements of the `.sql` files here, loaded once.

What lives here: the loader. What does not: SQL. Called by the writer's operations and the reader.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

__all__ = ["QUERIES", "parse_queries", "read_queries"]

_NAME = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)


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


QUERIES: Mapping[str, str] = parse_queries(read_queries())
"""Every statement that is run after the file is open, by name."""
