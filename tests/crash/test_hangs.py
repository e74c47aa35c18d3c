"""Nothing takes a slot for ever: functions that never return, of every kind.

What lives here: what healthy jobs get beside and after hung ones, in real processes. What does not:
the death of children (`test_child_processes.py`). The judges are the jobs' own effects.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from tests.crash.hang_tasks import HANGS_IN_C, HANGS_IN_CHILDREN
from tests.crash.harness import Place, Worker, wait_until

TASKS = "tests.crash.hang_tasks"
PROMISED = 15.0
SLOTS: dict[str, Any] = {"concurrency": 4, "sync_concurrency": 4}
HURRY: dict[str, Any] = {"timeout": 0.1}
PROCESS: dict[str, Any] = {"run_in": "process"}
TICKS = os.sysconf("SC_CLK_TCK")

Hung = list[tuple[str, int, dict[str, Any]]]


def enqueue(worker: Worker, task: str, keys: list[str], **options: Any) -> list[str]:
    ids: list[str] = worker.ask(
        "enqueue", task=f"{TASKS}:{task}", keys=keys, args=[], options=options
    )
    return ids


def enqueue_hung(worker: Worker, hung: Hung, timeout: float) -> int:
    for task, count, options in hung:
        keys = [f"{task}{number}" for number in range(count)]
        enqueue(worker, task, keys, timeout=timeout, **options)
    return sum(count for _, count, _ in hung)


def wait_for_counts(worker: Worker, limit: float = 20.0, **wanted: int) -> float:
    def holds() -> bool:
        counts = worker.ask("counts")
        return all(counts.get(state, 0) == count for state, count in wanted.items())

    return wait_until(holds, f"{wanted}", limit)


def processor_time(pid: int) -> float:
    """The seconds of processor time that a process and its children have taken so far."""
    total = 0.0
    for number in [pid, *children_of(pid)]:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICKS
    return total


def children_of(pid: int) -> list[int]:
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(number) for text in texts for number in text.split()]


def is_idle(pid: int) -> bool:
    before = processor_time(pid)
    time.sleep(1.0)
    used = processor_time(pid) - before
    print(f"{used:.3f} s of processor time in a second of quiet")
    return used < 0.25


def check_healthy(place: Place, worker: Worker) -> None:
    """A hundred healthy jobs are done as promised, of either kind."""
    keys = [f"healthy{number}" for number in range(50)]
    more = [f"more{number}" for number in range(50)]
    begun = time.monotonic()
    enqueue(worker, "healthy", keys)
    enqueue(worker, "healthy_async", more)
    place.wait_for("ended", [*keys, *more], PROMISED)
    print(f"\n100 healthy jobs took {time.monotonic() - begun:.2f} s")


KINDS: dict[str, Hung] = {
    "sync": [("wait", 50, {}), ("wait_in_c", 50, {})],
    "async": [("swallow", 50, {}), ("swallow_once", 50, {})],
    "process": [(task, 1, PROCESS) for task in HANGS_IN_CHILDREN],  # each costs a start
    "mixed": [("wait", 20, {}), ("swallow", 20, {}), ("spin", 2, PROCESS), ("hold", 2, PROCESS)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_hung_jobs_do_not_stop_those_after_them(place: Place, kind: str) -> None:
    worker = place.worker(cancel_patience=0.1, **SLOTS)
    count = enqueue_hung(worker, KINDS[kind], 0.1)
    wait_for_counts(worker, 60.0, failed=count)
    check_healthy(place, worker)
    assert is_idle(worker.pid)
    stuck = sum(hung for _, hung, options in KINDS[kind] if not options)
    (problem,) = worker.ask("health") or [""]
    assert problem.startswith(f"{stuck} functions ignore") or not stuck
    assert place.failures() == []


LONG: dict[str, Hung] = {
    "sync": [("wait", 50, {}), ("wait_in_c", 50, {})],
    "async": [("swallow", 50, {}), ("swallow_once", 50, {})],
    "process": [(task, 15, PROCESS) for task in HANGS_IN_CHILDREN],
    "mixed": [("wait", 33, {}), ("swallow", 33, {}), ("spin", 34, PROCESS)],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", LONG)
def test_a_hundred_hung_jobs_of_a_second_do_not_stop_those_after_them(
    place: Place, kind: str
) -> None:
    worker = place.worker(**SLOTS)
    count = enqueue_hung(worker, LONG[kind], 1.0)
    wait_for_counts(worker, 600.0, failed=count)
    check_healthy(place, worker)
    assert is_idle(worker.pid)
    assert place.failures() == []


def test_a_healthy_job_starts_beside_hung_ones_as_soon_as_the_first_time_is_over(
    place: Place,
) -> None:
    worker = place.worker(sync_concurrency=2)
    enqueue(worker, "wait", ["a", "b"], timeout=0.3)
    place.wait_for("started", ["a", "b"])
    enqueue(worker, "healthy", ["c"])
    took = place.wait_for("ended", ["c"])
    print(f"\nit had its slot after {took:.2f} s")


def test_a_job_that_waits_for_a_slot_is_not_timed_out_by_waiting(place: Place) -> None:
    worker = place.worker(concurrency=1, sync_concurrency=1)
    for task in ("work", "work_sync"):
        worker.ask("enqueue", task=task, keys=[f"{task}.long"], args=[1.2])
        (id,) = worker.ask(
            "enqueue", task=task, keys=[f"{task}.next"], args=[0.0], options={"timeout": 0.6}
        )
        assert worker.ask("result", id=id, timeout=20)[0] == f"{task}.next"
        before, after = place.of(f"{task}.long"), place.by_key("started")[f"{task}.next"][0]
        assert before == ["started", "ended"]
        assert after.at - place.by_key("started")[f"{task}.long"][0].at > 0.6


def test_the_start_of_a_child_process_is_not_on_the_clock_of_the_timeout(place: Place) -> None:
    worker = place.worker()
    (id,) = enqueue(worker, "in_child", ["a"], timeout=0.02)
    worker.ask("result", id=id, timeout=20)
    state = worker.ask("job", id=id)
    # A machine may stop the child in between for longer than that; its start always takes longer.
    assert state["state"] == "succeeded" or state["reason"].startswith("TimeoutError")
    assert place.of("a")[0] == "started"


@pytest.mark.parametrize("task", HANGS_IN_C)
def test_a_sync_function_that_never_returns_has_failed_with_its_place(
    place: Place, task: str
) -> None:
    worker = place.worker()
    (id,) = enqueue(worker, task, ["a"], **HURRY)
    value, _ = worker.ask("result", id=id, timeout=20)
    assert "The function ignores it and still runs." in value
    (stack,) = place_of_attempts(place, worker)
    assert f"in {task}" in stack


def place_of_attempts(place: Place, worker: Worker) -> list[str]:
    worker.leave(limit=20.0)
    return [text for (text,) in place.rows("SELECT traceback FROM attempts")]


def test_whatever_hangs_in_a_child_is_killed(place: Place) -> None:
    worker = place.worker(cancel_patience=0.1, sync_concurrency=len(HANGS_IN_CHILDREN))
    ids = [enqueue(worker, task, [task], **HURRY, **PROCESS)[0] for task in HANGS_IN_CHILDREN]
    for id in ids:
        value, _ = worker.ask("result", id=id, timeout=60)
        assert "The function ignored it, and its process was killed." in value
    wait_until(lambda: not children_of(worker.pid), "nothing is left of the children")
    assert worker.ask("health") == []
    assert place.failures() == []


def test_beyond_max_stuck_a_hung_function_keeps_its_slot_and_health_says_so(place: Place) -> None:
    worker = place.worker(sync_concurrency=2, max_stuck=3)
    keys = [f"hung{number}" for number in range(10)]
    enqueue(worker, "until_told", keys, **HURRY)
    wait_for_counts(worker, failed=5, queued=5)
    assert len(place.effects("started")) == 5
    (stuck, kept) = worker.ask("health")
    assert stuck.startswith("5 functions ignore")
    assert kept.startswith("2 of them keep their slots")
    enqueue(worker, "healthy", ["sync"])
    enqueue(worker, "healthy_async", ["async"])
    place.wait_for("ended", ["async"])
    assert place.of("sync") == []
    Path(f"{place.log}.go").touch()
    place.wait_for("ended", ["sync", *keys])
    wait_until(lambda: worker.ask("health") == [], "all is well again")
    assert place.failures() == []
