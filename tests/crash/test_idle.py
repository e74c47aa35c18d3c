"""Idle is free: processes with nothing due do not wake up, read or write.

What lives here: what the kernel counted for processes that wait, alone and four together. What
does not: what they do when there is work.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.crash.harness import Place, Worker, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the counts are in /proc")

WATCHED = 2.0  # seconds
WAKE_UPS = 2  # of a whole process in that time; measured 0


class Counts(NamedTuple):
    """What the kernel counts of a process."""

    wake_ups: int
    reads: int
    writes: int


def counts(pid: int) -> Counts:
    wake_ups = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        wake_ups += int(lines["voluntary_ctxt_switches"])
    io = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return Counts(wake_ups, int(io["syscr"]), int(io["syscw"]))


def watch(workers: list[Worker]) -> list[Counts]:
    """Return what was counted in the time."""
    before = [counts(worker.pid) for worker in workers]
    time.sleep(WATCHED)
    after = [counts(worker.pid) for worker in workers]
    return [
        Counts(*(late - early for late, early in zip(*pair, strict=True)))
        for pair in zip(after, before, strict=True)
    ]


@pytest.mark.parametrize("number", [1, 4])
def test_idle_processes_do_nothing(place: Place, number: int) -> None:
    workers = place.workers(number)
    keys = [f"k{number}" for number in range(60)]
    workers[0].ask("enqueue", task="work", keys=keys[:30], args=[0.01])
    workers[-1].ask("enqueue", task="work_sync", keys=keys[30:], args=[0.01])
    workers[0].ask("enqueue", task="work", keys=["later"], args=[0], options={"delay": 3600})
    place.wait_for("ended", keys)
    wait_until(lambda: workers[0].ask("counts") == {"queued": 1, "succeeded": 60})
    time.sleep(0.5)  # for what follows the last commit
    found = watch(workers)
    print(f"\nin {WATCHED:g} s: {[tuple(item) for item in found]} (wake-ups, reads, writes)")
    for item in found:
        assert item.wake_ups <= WAKE_UPS
        assert (item.reads, item.writes) == (0, 0)
    # And they still hear of work.
    workers[0].ask("enqueue", task="work", keys=["last"], args=[0])
    place.wait_for("ended", ["last"], 1)
    for worker in workers:
        worker.leave()
    assert place.failures() == []


def test_a_full_process_beside_a_full_process_is_quiet(place: Place) -> None:
    """More is due than both have slots for: they do not keep telling each other."""
    # The watch on the loop looks twice a second while jobs run, which is another matter.
    one, two = place.workers(2, concurrency=2, loop_block_warning=None)
    slow = [f"s{number}" for number in range(4)]
    one.ask("enqueue", task="work", keys=slow, args=[20])
    place.wait_for("started", slow)
    one.ask("enqueue", task="work", keys=[f"k{number}" for number in range(50)], args=[0])
    time.sleep(0.5)
    found = watch([one, two])
    print(f"\nin {WATCHED:g} s: {[tuple(item) for item in found]} (wake-ups, reads, writes)")
    for item in found:
        assert item.wake_ups <= WAKE_UPS
        assert (item.reads, item.writes) == (0, 0)
