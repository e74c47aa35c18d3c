"""What a claim costs beside many other jobs, in steps of SQLite's machine, never in seconds.

What lives here: bounds that hold on any machine. What does not: what is claimed
(`tests/store_contract`), and how fast it is (benchmarks). Run by pytest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from embedded_tasks.store import Claim, ClaimResult
from embedded_tasks.store.opening import prepare
from embedded_tasks.store.operations import Jobs
from tests.support.jobs import ME, NOW

OTHERS = """
INSERT INTO jobs (id, task, state, queue, priority, due_at, created_at, attempt, on_crash, args)
WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < :many)
SELECT :task || '-' || :queue || '-' || n, :task, 'queued', :queue, :priority, :due, :created, 0,
    'retry', '[]'
FROM number WHERE :many > 0
"""

FEW, MANY = 40, 4_000


class File:
    """A file with jobs of tasks 1 and 2, of which the asking process knows the first."""

    def __init__(self) -> None:
        self.connection = sqlite3.connect(":memory:", isolation_level=None)
        prepare(self.connection, ":memory:", {"foreign_keys": 1})
        self.connection.row_factory = sqlite3.Row
        self.connection.execute("INSERT INTO tasks (name) VALUES ('shop:ours'), ('shop:theirs')")
        self.jobs = Jobs(1.0, 1.0)
        self.steps = 0

    def add(
        self, many: int, *, task: int, queue: str = "default", due: float = -60, priority: int = 0
    ) -> None:
        row = {
            "many": many,
            "task": task,
            "queue": queue,
            "priority": priority,
            "due": NOW + due,
            "created": NOW,
        }
        self.connection.execute(OTHERS, row)

    def claim(self, limit: int = 10) -> ClaimResult:
        claim = Claim(ME, NOW, [([1], limit)], {1: "shop:ours"}, 2)
        self.steps = 0
        self.connection.set_progress_handler(self._count, 10)
        try:
            return self.jobs.claim(self.connection, [claim])
        finally:
            self.connection.set_progress_handler(None, 10)

    def _count(self) -> int:
        self.steps += 1
        return 0


@pytest.fixture
def file() -> Iterator[File]:
    file = File()
    yield file
    file.connection.close()


def cost(many: int, *, ours: int, claimed: int, **others: float | str) -> int:
    """Return what a claim costs beside so many jobs, when a few of ours are due among them."""
    file = File()
    file.add(many, **others)  # type: ignore[arg-type]  # spelled out by the callers
    file.add(ours, task=1, queue="ours")
    file.claim(0)  # looks at the clock, once in a file's life
    assert len(file.claim().jobs) == claimed
    file.connection.close()
    return file.steps


@pytest.mark.parametrize("ours", [0, 3, 20])
@pytest.mark.parametrize(
    "others",
    [
        {"task": 2},
        {"task": 2, "priority": 9},
        {"task": 2, "due": 3600},
        {"task": 1, "due": 3600},
        {"task": 1, "due": 3600, "priority": 9},
    ],
    ids=["theirs", "theirs first", "theirs later", "ours later", "ours later, of priority"],
)
def test_a_claim_costs_the_same_beside_many_jobs(others: dict[str, float], ours: int) -> None:
    few = cost(FEW, ours=ours, claimed=min(ours, 10), **others)
    many = cost(MANY, ours=ours, claimed=min(ours, 10), **others)
    assert many <= 1.5 * few


def test_a_claim_costs_the_same_beside_a_paused_queue(file: File) -> None:
    file.add(3, task=1, queue="open")
    file.add(FEW, task=1, queue="paused")
    file.connection.execute("INSERT INTO paused_queues (name, at) VALUES ('paused', 0)")
    file.claim(0)
    assert len(file.claim().jobs) == 3
    few = file.steps
    file.add(3, task=1, queue="open too")
    file.add(MANY, task=1, queue="paused too")
    file.connection.execute("INSERT INTO paused_queues (name, at) VALUES ('paused too', 0)")
    assert len(file.claim().jobs) == 3
    assert file.steps <= 2 * few


def test_lines_are_claimed_in_one_order_by_priority_then_due_time(file: File) -> None:
    file.add(20, task=2, priority=5)
    file.add(1, task=1, queue="b", due=-30, priority=1)
    file.add(1, task=1, queue="a", due=-20, priority=1)
    file.add(1, task=1, queue="c", due=-90)
    file.add(1, task=1, queue="d", due=-10, priority=2)
    assert [job.queue for job in file.claim(3).jobs] == ["d", "b", "a"]
    assert [job.queue for job in file.claim(3).jobs] == ["c"]
