"""A shutdown is not an attempt: SIGTERM under load, and what is there after the next start.

What lives here: real servers and workers that are told to end. What does not: SIGKILL. The judges
are the jobs' own effects.
"""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import pytest

from tests.crash.harness import Place, Server, now, wait_until

GRACE = 1.0
MARGIN = 2.0  # promised: seconds beyond the grace until a server has ended


def stop(server: Server) -> float:
    """Send SIGTERM; return how long the server took to end."""
    begun = now()
    server.signal(signal.SIGTERM)
    assert server.wait() in (0, -signal.SIGTERM)
    return now() - begun


def outcomes(place: Place) -> dict[str, int]:
    return dict(place.rows("SELECT outcome, count(*) FROM attempts GROUP BY outcome"))


def wait_for_all(place: Place, server: Server, count: int) -> None:
    wait_until(lambda: server.get("/counts")["succeeded"] == count, "all have succeeded")


def test_a_server_ends_within_the_grace_and_nothing_is_lost(place: Place) -> None:
    options: dict[str, Any] = {"shutdown_grace": GRACE, "concurrency": 4, "sync_concurrency": 4}
    server = place.server(**options)
    server.ready()
    server.post("/tasks/long", seconds=3)
    server.post("/tasks/sync", seconds=3, sync=True)
    server.post("/tasks/medium", seconds=0.7)
    server.post("/tasks/row", seconds=0.2, followers=10)
    place.wait_for("started", ["long", "sync", "medium", "row"])
    for number in range(30):
        server.post(f"/tasks/short{number}", seconds=0.05)
        server.post(f"/enqueue/queued{number}", seconds=0.05, sync=True)
    took = stop(server)
    print(f"\nended {took:.2f} s after SIGTERM, grace {GRACE} s")
    assert took < GRACE + MARGIN
    assert place.of("long") == ["started", "cancelled"]
    assert place.of("sync") == ["started"]
    assert place.of("medium") == ["started", "ended"]
    # The thread's job stays with the dead process until its lock tells; the others are free.
    assert place.states()["running"] == 1
    assert len(place.process_files()) == 1

    server = place.server(**options)
    server.ready()
    (line,) = place.lines("runner.started", server.pid)
    assert line["recovered"] == 1
    wait_for_all(place, server, 3 + 11 + 60)
    assert set(place.keys("ended").values()) == {1}
    again = {key for key, count in place.keys("started").items() if count > 1}
    assert {"long", "sync"} <= again
    assert all(key.startswith("row.") for key in again - {"long", "sync"})
    assert outcomes(place).keys() == {"interrupted"}
    assert place.rows("SELECT sum(failures), sum(crashes) FROM jobs") == [(0, 0)]
    assert stop(server) < MARGIN
    assert place.process_files() == []
    assert place.is_sound()
    assert place.failures() == []
    assert place.lines("process.recovered") == []


def test_a_server_ends_in_time_although_functions_swallow_that_they_are_cancelled(
    place: Place,
) -> None:
    """With the patience as it is by default: they have it, and what cannot be stopped is left."""
    server = place.server(shutdown_grace=GRACE)
    server.ready()
    asker = place.worker(run=False)
    hung = ["swallow", "swallow_once", "wait"]
    for task in hung:
        asker.ask("enqueue", task=f"tests.crash.hang_tasks:{task}", keys=[task], args=[])
    for task in ("spin", "swallow"):
        name, in_child = f"tests.crash.hang_tasks:{task}", {"run_in": "process"}
        asker.ask("enqueue", task=name, keys=[f"child.{task}"], args=[], options=in_child)
    asker.leave()
    place.wait_for("started", [*hung, "child.spin", "child.swallow"])
    took = stop(server)
    print(f"\nended {took:.2f} s after SIGTERM, grace {GRACE} s")
    assert GRACE <= took < GRACE + MARGIN
    # The children were killed; what ran in the process goes on nowhere before its lock is free.
    assert place.states() == {"queued": 2, "running": 3}
    place.worker(concurrency=0, sync_concurrency=0).leave()
    assert place.states() == {"queued": 5}
    assert outcomes(place) == {"interrupted": 5}
    assert place.rows("SELECT sum(failures), sum(crashes) FROM jobs") == [(0, 0)]
    assert place.is_sound()


def test_an_idle_server_ends_at_once(place: Place) -> None:
    server = place.server()
    server.ready()
    server.post("/tasks/a", seconds=0)
    place.wait_for("ended", ["a"])
    took = stop(server)
    print(f"\nended {took:.2f} s after SIGTERM")
    assert took < MARGIN
    assert place.failures() == []


def test_what_a_request_stored_while_the_server_ends_runs_after_the_start(place: Place) -> None:
    server = place.server(shutdown_grace=GRACE)
    server.ready()
    posts = [threading.Thread(target=post_slowly, args=(server, f"k{n}")) for n in range(5)]
    for post in posts:
        post.start()
    time.sleep(0.3)  # they are inside their endpoints
    stop(server)
    for post in posts:
        post.join()
    ended_before = place.keys("ended")
    server = place.server()
    server.ready()
    wait_for_all(place, server, 5)
    print(f"\n{len(ended_before)} of 5 had run before the end")
    assert place.keys("ended") == dict.fromkeys([f"k{n}" for n in range(5)], 1)
    assert place.keys("started") == place.keys("ended")
    stop(server)
    assert place.failures() == []


def post_slowly(server: Server, key: str) -> None:
    assert server.post(f"/slow/{key}", seconds=0.6) is None


def test_a_function_that_swallows_its_cancellation_does_not_run_beside_itself(
    place: Place,
) -> None:
    """Async or sync, it goes on after it was given up: its job is nobody else's until it ends."""
    options: dict[str, Any] = {"shutdown_grace": 0.2, "cancel_patience": 0.2}
    one = place.worker(**options)
    one.ask("enqueue", task="stubborn", keys=["async"], args=[30])
    one.ask("enqueue", task="work_sync", keys=["sync"], args=[30])
    place.wait_for("started", ["async", "sync"])
    two = place.worker()
    # It closes its runner and lives on, as a script does that has more to do.
    one.ask("close_and_stay")
    time.sleep(0.5)
    assert place.keys("started") == {"async": 1, "sync": 1}
    assert two.ask("counts") == {"running": 2}
    death = one.kill()
    wait_until(lambda: place.keys("started") == {"async": 2, "sync": 2}, "they run elsewhere")
    print(f"\nstarted elsewhere {now() - death:.3f} s after the process's end")
    assert outcomes(place) == {"interrupted": 2}
    assert place.rows("SELECT sum(failures), sum(crashes) FROM jobs") == [(0, 0)]


def test_a_sync_job_that_ends_within_the_grace_counts(place: Place) -> None:
    worker = place.worker(shutdown_grace=5)
    worker.ask("enqueue", task="work_sync", keys=["k"], args=[0.5])
    place.wait_for("started", ["k"])
    worker.leave()
    assert place.states() == {"succeeded": 1}
    assert place.process_files() == []


@pytest.mark.parametrize("task", ["work", "work_sync"])
@pytest.mark.parametrize(("on_crash", "state"), [("hold", "held"), ("fail", "failed")])
def test_what_must_not_run_twice_does_not_run_again_when_a_shutdown_cuts_it_off(
    place: Place, task: str, on_crash: str, state: str
) -> None:
    one = place.worker(shutdown_grace=0.2)
    one.ask("enqueue", task=task, keys=["cut"], args=[30], options={"on_crash": on_crash})
    place.wait_for("started", ["cut"])
    one.leave()
    two = place.worker()
    wait_until(lambda: two.ask("counts") == {state: 1}, f"it is {state}")
    assert place.keys("started") == {"cut": 1}
    assert place.rows("SELECT reason, crashes FROM jobs") == [
        ("Its process was stopped while it ran.", 0)
    ]


def test_a_timed_out_thread_is_not_retried_beside_itself_and_its_failure_is_kept(
    place: Place,
) -> None:
    options = {"timeout": 0.2, "max_attempts": 3, "backoff": [0]}
    one = place.worker()
    one.ask("enqueue", task="work_sync", keys=["k"], args=[30], options=options)
    place.wait_for("started", ["k"])
    two = place.worker()
    time.sleep(0.6)
    assert place.keys("started") == {"k": 1}
    assert "ignore that they were stopped" in one.ask("health")[0]
    one.kill()
    wait_until(lambda: place.keys("started") == {"k": 2}, "it is retried elsewhere")
    assert two.ask("counts") == {"running": 1}
    assert place.rows("SELECT failures, crashes, attempt FROM jobs") == [(1, 0, 2)]
    assert outcomes(place) == {"timed out": 1}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_is_told_only_once_to_end(place: Place, number: signal.Signals) -> None:
    """Our handler stands before the server's, which still hears the signal."""
    server = place.server(shutdown_grace=GRACE)
    server.ready()
    server.post("/tasks/long", seconds=30)
    place.wait_for("started", ["long"])
    begun = now()
    server.signal(number)
    server.wait()
    assert now() - begun < GRACE + MARGIN
    assert place.of("long") == ["started", "cancelled"]
    assert place.states() == {"queued": 1}
    assert place.failures() == []
