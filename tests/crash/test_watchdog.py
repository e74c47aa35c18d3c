"""A job that keeps the event loop from going round, in a real process.

What lives here: that it is named while it blocks, and that a process at rest pays nothing. What
does not: the parts (`tests/unit/test_watchdog.py`).
"""

from __future__ import annotations

import time

from tests.crash.harness import Place, wait_until
from tests.crash.test_idle import WAKE_UPS, WATCHED, watch

BLOCK = "tests.crash.poison:block"


def test_a_job_that_blocks_the_loop_is_named_while_it_does_so(place: Place) -> None:
    worker = place.worker(loop_block_warning=0.2)
    worker.ask("enqueue", task="work", keys=["beside"], args=[0.1])
    worker.begin("enqueue", task=BLOCK, keys=["b"], args=[2.0])
    wait_until(lambda: place.lines("loop.blocked"), "it is logged")
    assert place.keys("ended")["b"] == 0  # and not only when it is over
    (line,) = place.lines("loop.blocked")
    assert (line["by"], line["level"]) == (BLOCK, "warning")
    assert line["where"].startswith("block (poison.py:")
    assert "time.sleep(seconds)" in line["stack"]
    place.wait_for("ended", ["b"])
    wait_until(lambda: place.lines("job.blocked_loop"), "observers are told")
    (told,) = place.lines("job.blocked_loop")
    assert told["job_id"] == line["job_id"]
    assert 1.5 < told["duration"] < 20
    wait_until(lambda: worker.ask("counts") == {"succeeded": 2})
    assert worker.ask("job", id=line["job_id"])["reason"] == told["reason"]
    worker.leave()
    assert place.failures() == []


def test_while_a_job_waits_the_watch_looks_and_wakes_nobody(place: Place) -> None:
    worker = place.worker()
    worker.ask("enqueue", task="work", keys=["a"], args=[30])
    place.wait_for("started", ["a"])
    wait_until(lambda: worker.ask("counts") == {"running": 1})
    (found,) = watch([worker])
    print(f"\nin {WATCHED:g} s: {tuple(found)} (wake-ups, reads, writes)")
    assert found.wake_ups <= 4 * WATCHED  # two looks a second
    assert (found.reads, found.writes) == (0, 0)


def test_when_nothing_runs_any_more_the_watch_costs_nothing(place: Place) -> None:
    worker = place.worker(loop_block_warning=0.05)
    worker.ask("enqueue", task="work", keys=["a"], args=[0.3])
    place.wait_for("ended", ["a"])
    wait_until(lambda: worker.ask("counts") == {"succeeded": 1})
    time.sleep(0.5)  # for its commit, and the watch's last look
    (found,) = watch([worker])
    print(f"\nin {WATCHED:g} s: {tuple(found)} (wake-ups, reads, writes)")
    assert found.wake_ups <= WAKE_UPS
    worker.leave()
