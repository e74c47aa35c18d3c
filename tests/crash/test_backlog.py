"""A long queue: it costs disk and nothing else.

What lives here: a hundred thousand jobs, and with --soak a million, that wait in the file of a real
process. What does not: refusing them (`tests/unit/test_backpressure.py`). Called by pytest.
"""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.harness import Place, Worker, now, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")

MORE_MEMORY = 25.0  # MiB; measured: 3 with a million. A row has 300 bytes, so all would be 300.
QUICKLY = 10.0  # seconds for 50 jobs beside a hundred thousand; measured: 0.4

# The last row, many times over: due since an hour, each with an id of its own.
MULTIPLY = """
    INSERT INTO jobs (
        id, task, state, queue, priority, due_at, created_at, attempt, on_crash, args, leads
    )
    WITH RECURSIVE number (value) AS (
        SELECT 1 UNION ALL SELECT value + 1 FROM number WHERE value < ?
    )
    SELECT printf('%08x-0000-7000-8000-%012x', value, value), task, 'queued', queue, priority,
        due_at - 3600, created_at, 0, on_crash, args, leads
    FROM number, (SELECT * FROM jobs ORDER BY seq DESC LIMIT 1)
"""


def memory(worker: Worker) -> float:
    """Return the process's resident memory in MiB."""
    lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


def run_beside(place: Place, worker: Worker, name: str) -> float:
    """Run jobs on the event loop, whose slots are free; return the seconds that it took."""
    begun = now()
    keys = [f"{name}{number}" for number in range(50)]
    worker.ask("enqueue", task="work", keys=keys, args=[0.0])
    place.wait_for("ended", keys)
    return now() - begun


def fill(place: Place, jobs: int) -> None:
    asker = place.worker(run=False)
    options = {"delay": 0.001}
    asker.ask("enqueue", task="work_sync", keys=["slow"], args=[0.05], options=options)
    asker.leave()
    with closing(sqlite3.connect(place.file)) as connection:
        connection.execute(MULTIPLY, (jobs,))
        connection.commit()


def check_a_queue_of(place: Place, jobs: int, quickly: float = QUICKLY) -> None:
    empty = place.worker(sync_concurrency=1, max_queued={"*": 2 * jobs, "other": 10})
    run_beside(place, empty, "warm")
    before = memory(empty)
    empty.leave()
    fill(place, jobs)
    worker = place.worker(sync_concurrency=1, max_queued={"*": 2 * jobs, "other": 10})
    wait_until(lambda: place.keys("ended")["slow"] >= 3, "the queue moves")
    took = max(run_beside(place, worker, f"beside{turn}.") for turn in range(3))
    more = memory(worker) - before
    print(f"\n{jobs:,} jobs: {more:.1f} MiB more, 50 jobs beside them in {took:.2f} s")
    assert more < MORE_MEMORY
    assert took < quickly
    problems = worker.ask("health")
    assert problems == []
    worker.leave()


def test_a_hundred_thousand_waiting_jobs_cost_no_memory_and_keep_nobody_waiting(
    place: Place,
) -> None:
    check_a_queue_of(place, 100_000)


@pytest.mark.slow
def test_a_million_waiting_jobs_cost_no_memory_and_keep_nobody_waiting(place: Place) -> None:
    # Here a claim walks over the whole queue of the other kind, some tenths of a second.
    check_a_queue_of(place, 1_000_000, quickly=20)
