"""The app's own data: a small SQLite file, apart from the runner's.

What lives here: sign-ups, reports and web-hooks. What does not: jobs. Called by tasks and pages.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

DATA = Path(os.environ.get("SAMPLE_DATA") or Path(__file__).parent / "data").absolute()
DATA.mkdir(parents=True, exist_ok=True)


def run(sql: str, **values: str) -> list[sqlite3.Row]:
    """Run one statement in a transaction of its own and return its rows."""
    with closing(sqlite3.connect(DATA / "app.db", timeout=10)) as connection, connection:
        connection.row_factory = sqlite3.Row
        return connection.execute(sql, values).fetchall()


run("CREATE TABLE IF NOT EXISTS signups (id TEXT PRIMARY KEY, email TEXT, mailed INTEGER)")
run("CREATE TABLE IF NOT EXISTS reports (id TEXT PRIMARY KEY, name TEXT, csv TEXT, result TEXT)")
run("CREATE TABLE IF NOT EXISTS hooks (id TEXT PRIMARY KEY, text TEXT, calls INTEGER)")
