"""How long the dashboard's pages take over 1,000,000 jobs, and what looking costs those that run.

What lives here: the pages that are asked, and asking them. What does not: the file (`history.py`)
and the app (`server.py`). Called by `__main__`.
"""

from __future__ import annotations

import http.client
import itertools
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from benchmarks.figures import Figure, Ratio, percentile
from benchmarks.files import Place
from benchmarks.history import GROUP, LIVE, add_live, history
from benchmarks.serving import serve

__all__ = ["FIGURES", "PAGES", "RATIOS", "Looking"]


def _jobs(query: str) -> str:
    return f"/admin/jobs?q={quote(query)}"


PAGES: Final = {
    "overview": ("overview", "/admin/"),
    "list": ("list, newest", "/admin/jobs"),
    **{
        state: (f"list, state {state}", _jobs(f"state:{state}"))
        for state in (
            "failed", "held", "succeeded", "running", "retrying", "queued", "scheduled",
        )
    },
    "task": ("list, a task", _jobs("task:benchmarks.jobs:mark")),
    "queue": ("list, a queue", _jobs("queue:queue-3")),
    "tag": ("list, a tag", _jobs("tag:tag-7")),
    "time": ("list, an hour of three days ago", _jobs("after:73h before:72h")),
    "group": ("list, an error group", _jobs(f"group:{GROUP}")),
    "both": ("list, failed of a task and a queue", _jobs(
        "state:failed task:benchmarks.jobs:mark queue:queue-3"
    )),
    "tasks": ("tasks", "/admin/tasks"),
    "queues": ("queues", "/admin/queues"),
    "errors": ("errors", "/admin/errors"),
}  # fmt: skip  # a page is a line
"""What is asked for: a title, and a path."""
SEARCH: Final = _jobs("no-job-says-this")

FIGURES = [
    *(
        Figure(f"admin.{key}.{case}", f"1,000,000 jobs: {title}, {more}", "ms")
        for key, (title, _) in PAGES.items()
        for case, more in (("first", "first call"), ("warm", "then"))
    ),
    Figure("admin.first", "... the slowest first call", "ms"),
    Figure("admin.warm", "... the slowest of the others", "ms"),
    Figure("admin.search", "... a text that is in none of the newest 50,000 jobs", "ms"),
    Figure("admin.beside.p50", "... any of these pages beside running jobs, p50", "ms"),
    Figure("admin.beside.p99", "... p99", "ms"),
    Figure("admin.alone", "attempted and settled among them, nobody looks", "jobs/s"),
    Figure("admin.watched", "... two pages a second are looked at", "jobs/s"),
]

RATIOS = [
    Ratio("admin.watched", "admin.alone", "attempted and settled, looked at / not"),
]

_PAUSE = 0.1
_LOOK_EVERY = 0.5
_SETTLE = 0.5
_LIVE = "/admin/api/v1/health/live"


class Looking:
    """Asks pages of a server whose file is made once.

    Args:
        place: Where the file is made.
        jobs: How many are in it.
        live: How many are run beside.
        calls: How often each page is asked when it is warm.
        seconds: How long jobs run, watched and not.
    """

    def __init__(
        self, place: Place, jobs: int, *, live: int, calls: int, seconds: float, pure: bool
    ) -> None:
        self._path = history(place, jobs)
        self._live = live
        self._calls = calls
        self._seconds = seconds
        self._pure = pure

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        values: dict[str, float] = {}
        for key, (_, path) in PAGES.items():
            # Each in a process of its own, which has read nothing of the file but what a start
            # reads; a page asked before would have read half of what this one needs.
            with self._server() as port:
                values[f"admin.{key}.first"] = _asked(port, path)
        with self._server() as port:
            for key, (_, path) in PAGES.items():
                took = [_asked(port, path) for _ in range(self._calls)]
                values[f"admin.{key}.warm"] = statistics.median(took)
            values["admin.search"] = _asked(port, SEARCH)
        for case in ("first", "warm"):
            values[f"admin.{case}"] = max(values[f"admin.{key}.{case}"] for key in PAGES)
        values["admin.alone"], _ = self._run(looks=False)
        values["admin.watched"], took = self._run(looks=True)
        values["admin.beside.p50"] = statistics.median(took)
        values["admin.beside.p99"] = percentile(took, 99)
        return values

    @contextmanager
    def _server(self, *, settle: float = _SETTLE) -> Iterator[int]:
        # Answered without a look at the file, of which nothing must have been read.
        with serve(self._path, pure=self._pure, watched=True, first=_LIVE) as server:
            time.sleep(settle)
            yield server.port

    def _run(self, *, looks: bool) -> tuple[float, list[float]]:
        """Return how many live jobs end in a second, and how long pages took meanwhile."""
        add_live(self._path, self._live)
        before = left = _waiting(self._path)
        took: list[float] = []
        with self._server(settle=0) as port:
            paths = itertools.cycle([path for _, path in PAGES.values()])
            begun = time.perf_counter()
            while time.perf_counter() - begun < self._seconds and left:
                if looks and time.perf_counter() - begun >= len(took) * _LOOK_EVERY:
                    took.append(_asked(port, next(paths)))
                time.sleep(_PAUSE)
                left = _waiting(self._path)
            rate = (before - left) / (time.perf_counter() - begun)
        with closing(sqlite3.connect(self._path)) as connection:
            connection.execute("DELETE FROM jobs WHERE queue = ?", [LIVE])
            connection.commit()
        return rate, took or [0.0]


def _waiting(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        row = connection.execute(
            "SELECT count(*) FROM jobs INDEXED BY jobs_in_line WHERE state = 'queued'"
            " AND owner IS NULL AND after IS NULL AND queue = ?",
            [LIVE],
        ).fetchone()
    return int(row[0])


def _asked(port: int, path: str) -> float:
    """Return how many milliseconds one answer takes, from the first byte sent to the last read."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.connect()
        begun = time.perf_counter()
        connection.request("GET", path, headers={"Accept": "text/html"})
        answer = connection.getresponse()
        answer.read()
        took = time.perf_counter() - begun
    if answer.status != 200:
        raise RuntimeError(f"{path} answered {answer.status}")
    return took * 1_000
