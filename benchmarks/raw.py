"""What the disk and SQLite allow here: the limit that nothing on top can pass.

What lives here: bare transactions of the standard library's sqlite3, alone and through one thread
crossing. What does not: the runner. Called by `__main__`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from benchmarks.figures import Figure
from benchmarks.files import Place
from embedded_tasks.ids import uuid7_maker
from embedded_tasks.job import NewJob
from embedded_tasks.store.queries import QUERIES, execute_for_all

__all__ = ["FIGURES", "Raw"]

FIGURES = [
    Figure("raw.one", "SQLite alone: one row per commit", "rows/s"),
    Figure("raw.hundred", "SQLite alone: 100 rows per commit, executemany", "rows/s"),
    Figure("raw.insert", "SQLite alone: our insert, 100 rows per commit", "rows/s"),
    Figure("raw.crossing", "one row per commit, through a bare thread crossing", "rows/s"),
    Figure(
        "raw.insert_crossing", "our insert of one row, through a bare thread crossing", "rows/s"
    ),
]

_ROWS = 100

Work = Callable[[], None]


class Raw:
    """Measures SQLite without the runner.

    Args:
        place: Where files are made.
        scale: How much is done; 1 for a full run.
    """

    def __init__(self, place: Place, scale: float) -> None:
        self._place = place
        self._single = max(50, int(500 * scale))
        self._batches = max(20, int(200 * scale))
        self._body = "x" * place.row_size()
        self._new_id = uuid7_maker(time.time)

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        rows = _ROWS * self._batches
        plain, ours = self._plain_table(), self._place.connect(self._place.with_schema())
        samples = {
            "raw.one": self._single
            / _seconds([partial(_insert, plain, self._body)] * self._single),
            "raw.hundred": rows
            / _seconds([partial(_insert_many, plain, self._body)] * self._batches),
            "raw.insert": rows / _seconds(self._our_inserts(ours, self._batches, _ROWS)),
        }
        crossing = [partial(_insert, plain, self._body)] * self._single
        samples["raw.crossing"] = self._single / asyncio.run(_cross(crossing))
        inserts = self._our_inserts(ours, self._single, 1)
        samples["raw.insert_crossing"] = self._single / asyncio.run(_cross(inserts))
        plain.close()
        ours.close()
        return samples

    def _plain_table(self) -> sqlite3.Connection:
        path: Path = self._place.fresh()
        connection = self._place.connect(path)
        connection.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")
        return connection

    def _our_inserts(self, connection: sqlite3.Connection, times: int, rows: int) -> list[Work]:
        """Return ready-made transactions, as the runner's writer would make them."""
        return [partial(_insert_ours, connection, self._rows(rows)) for _ in range(times)]

    def _rows(self, count: int) -> list[NewJob]:
        now = time.time()
        return [
            NewJob(self._new_id(), "benchmarks.jobs:nothing", "[1,[1],{}]", now, now)
            for _ in range(count)
        ]


def _seconds(work: Sequence[Work]) -> float:
    start = time.perf_counter()
    for each in work:
        each()
    return time.perf_counter() - start


async def _cross(work: Sequence[Work]) -> float:
    """Do the same in another thread, one call at a time, each awaited on the loop."""
    loop = asyncio.get_running_loop()
    calls: SimpleQueue[tuple[Work, asyncio.Future[None]] | None] = SimpleQueue()

    def run() -> None:
        while (call := calls.get()) is not None:
            call[0]()
            loop.call_soon_threadsafe(call[1].set_result, None)

    thread = threading.Thread(target=run)
    thread.start()
    start = time.perf_counter()
    for each in work:
        done: asyncio.Future[None] = loop.create_future()
        calls.put((each, done))
        await done
    seconds = time.perf_counter() - start
    calls.put(None)
    thread.join()
    return seconds


def _insert(connection: sqlite3.Connection, body: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO jobs (body) VALUES (?)", (body,))
    connection.execute("COMMIT")


def _insert_many(connection: sqlite3.Connection, body: str) -> None:
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT INTO jobs (body) VALUES (?)", [(body,)] * _ROWS)
    connection.execute("COMMIT")


def _insert_ours(connection: sqlite3.Connection, rows: list[NewJob]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    execute_for_all(connection, QUERIES["insert"], rows)
    connection.execute("COMMIT")
