"""What one process asks of a job that another one runs: its result, its end, its start.

What lives here: results, cancellation and wake-ups across processes, with their latencies printed.
What does not: deaths (`test_siblings.py`).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import pytest

from tests.crash.harness import Place, now, wait_until

START = 0.05  # promised: seconds from a commit to the start in another process; measured 0.003
WAKE = 0.05  # seconds from an outcome to the waiter in another process; measured 0.005


def shown(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.1f} ms, at most {max(seconds) * 1000:.1f} ms"


def at(place: Place, word: str, key: str) -> float:
    return next(effect.at for effect in place.effects(word) if effect.key == key)


def test_a_result_is_awaited_from_the_process_that_runs_the_job(place: Place) -> None:
    runner, asker = place.pair()
    waits: list[float] = []
    for number in range(10):
        key = f"k{number}"
        (id,) = asker.ask("enqueue", task="work", keys=[key], args=[0.05])
        value, woken = asker.ask("result", id=id, timeout=10)
        assert value == key
        waits.append(woken / 1e9 - at(place, "ended", key))
    print(f"\nfrom the function's end to the waiter: {shown(waits)}")
    assert statistics.median(waits) < WAKE
    runner.leave()
    asker.leave()
    assert place.failures() == []


def test_a_failure_reaches_the_waiter_in_another_process(place: Place) -> None:
    runner, asker = place.pair()
    (id,) = asker.ask("enqueue", task="refuse", keys=["k"], args=[])
    value, _ = asker.ask("result", id=id, timeout=10)
    assert "ValueError: k" in value
    runner.leave()
    asker.leave()


def test_a_waiter_learns_that_the_process_died_and_the_job_is_held(place: Place) -> None:
    runner, asker = place.pair()
    options = {"on_crash": "hold"}
    (id,) = asker.ask("enqueue", task="work", keys=["k"], args=[30], options=options)
    token = asker.begin("result", id=id, timeout=10)
    place.wait_for("started", ["k"])
    death = runner.kill()
    value, woken = asker.reply(token)
    print(f"\ntold {woken / 1e9 - death:.3f} s after the kill")
    assert "died while it ran" in value
    assert asker.ask("job", id=id)["state"] == "held"
    asker.leave()
    assert place.failures() == []


def started_in(place: Place, key: str) -> int:
    place.wait_for("started", [key])
    return next(effect.pid for effect in place.effects("started") if effect.key == key)


def test_a_running_async_job_of_a_sibling_is_cancelled(place: Place) -> None:
    runner, asker = place.pair()
    (id,) = asker.ask("enqueue", task="work", keys=["k"], args=[30])
    assert started_in(place, "k") == runner.pid
    begun = now()
    assert asker.ask("cancel", id=id) == "STOPPING"
    value, woken = asker.ask("result", id=id, timeout=10)
    print(f"\ncancelled after {woken / 1e9 - begun:.3f} s")
    assert "cancelled" in value
    assert place.of("k") == ["started", "cancelled"]
    job = asker.ask("job", id=id)
    assert (job["state"], job["attempts"]) == ("cancelled", [[1, "cancelled"]])
    assert asker.ask("cancel", id=id) == "FINISHED"
    runner.leave()
    asker.leave()
    assert place.failures() == []


def test_a_running_sync_job_of_a_sibling_is_told(place: Place) -> None:
    runner, asker = place.pair()
    (id,) = asker.ask("enqueue", task="watchful", keys=["k"], args=[30])
    (deaf,) = asker.ask("enqueue", task="work_sync", keys=["deaf"], args=[1])
    assert {started_in(place, key) for key in ("k", "deaf")} == {runner.pid}
    assert asker.ask("cancel", id=id) == "TOLD"
    assert asker.ask("cancel", id=deaf) == "TOLD"
    place.wait_for("told", ["k"])
    value, _ = asker.ask("result", id=id, timeout=10)
    assert "cancelled" in value
    # A sync function that does not look goes on, and what it did counts.
    assert asker.ask("result", id=deaf, timeout=10)[0] == "deaf"
    runner.leave()
    asker.leave()
    assert place.failures() == []


def test_a_waiting_job_is_cancelled_from_any_process(place: Place) -> None:
    runner, asker = place.pair(concurrency=1)
    (long,) = asker.ask("enqueue", task="work", keys=["long"], args=[1])
    place.wait_for("started", ["long"])
    (id,) = asker.ask("enqueue", task="work", keys=["k"], args=[0])
    token = runner.begin("result", id=id, timeout=10)
    assert asker.ask("cancel", id=id) == "CANCELLED"
    assert "cancelled" in runner.reply(token)[0]
    assert asker.ask("result", id=long, timeout=10)[0] == "long"
    assert place.of("k") == []
    runner.leave()
    asker.leave()
    assert place.failures() == []


@pytest.mark.parametrize("script", [False, True], ids=["async", "with"])
def test_what_an_enqueuing_process_stores_starts_in_the_worker_at_once(
    place: Place, script: bool
) -> None:
    runner = place.worker()
    if script:
        begin_script(place)
    else:
        asker = place.worker(run=True, concurrency=0)
        for number in range(10):
            asker.ask("enqueue", task="work", keys=[f"k{number}"], args=[0])
    place.wait_for("started", [f"k{number}" for number in range(10)])
    starts = [
        at(place, "started", f"k{number}") - at(place, "enqueued", f"k{number}")
        for number in range(10)
    ]
    print(f"\nfrom the commit to the start: {shown(starts)}")
    assert statistics.median(starts) < START
    assert {effect.pid for effect in place.effects("started")} == {runner.pid}
    runner.leave()
    assert place.failures() == []


def begin_script(place: Place) -> None:
    code = """
import time
from tests.crash.tasks import note, work
from tests.crash.worker import make_runner

runner = make_runner()
with runner:
    for number in range(10):
        runner.enqueue_sync(work, f"k{number}", 0.0)
        note("enqueued", f"k{number}")
        time.sleep(0.02)
"""
    assert place.script(code).wait() == 0


def test_a_job_starts_at_once_although_its_enqueuer_died_with_the_commit(place: Place) -> None:
    runner = place.worker()
    waits: list[float] = []
    for number in range(5):
        key = f"k{number}"
        asker = place.worker(run=False)
        asker.begin("enqueue_and_die", task="work", key=key, args=[0.0])
        asker.wait()
        place.wait_for("ended", [key])
        waits.append(at(place, "started", key) - at(place, "killed", key))
    print(f"\nfrom the enqueuer's death to the start: {shown(waits)}")
    assert statistics.median(waits) < START
    wait_until(lambda: len(place.process_files()) == 1, "their files are gone")
    wait_until(lambda: len(place.rows("SELECT id FROM processes")) == 1, "they are forgotten")
    runner.leave()
    assert place.failures() == []


def test_a_server_that_only_enqueues_does_not_wait_for_slots_that_it_has_not(
    place: Place,
) -> None:
    server = place.server(concurrency=0)
    server.ready()
    server.post("/mixed/k")
    place.wait_for("closure", ["k"], 5)
    runner = place.worker()
    place.wait_for("ended", ["k"], 5)
    runner.leave()
    assert place.failures() == []


def test_a_full_process_s_jobs_start_in_an_idle_sibling(place: Place) -> None:
    full, idle = place.worker(concurrency=2), place.worker(concurrency=20)
    # Due in future: told to nobody when they are stored, and due when their enqueuer is full.
    full.ask("enqueue", task="work", keys=["later"], args=[0], options={"delay": 0.5})
    full.ask("enqueue", task="work", keys=["x", "y"], args=[10])
    place.wait_for("started", ["x", "y"])
    begun = now()
    full.ask("enqueue", task="work", keys=["z"], args=[0])
    place.wait_for("ended", ["z"], 5)
    assert {e.pid for e in place.effects("started") if e.key == "z"} == {idle.pid}
    print(f"\nan overflowing job started after {at(place, 'started', 'z') - begun:.3f} s")
    place.wait_for("ended", ["later"], 5)


def test_a_job_claimed_ahead_does_not_wait_behind_a_slow_one(place: Place) -> None:
    one, two = place.workers(2, concurrency=2)
    quick = [f"q{number}" for number in range(200)]
    one.ask("enqueue", task="work", keys=quick, args=[0.001])
    slow = [f"s{number}" for number in range(4)]
    one.ask("enqueue", task="work", keys=slow, args=[20], options={"priority": -1})
    last = [f"l{number}" for number in range(6)]
    one.ask("enqueue", task="work", keys=last, args=[0], options={"priority": -2})
    # Claimed when everything was quick, they are given away when their slots do not come free.
    place.wait_for("started", slow, 5)
    three = place.worker(concurrency=2)
    place.wait_for("ended", last, 5)
    assert set(place.keys("started").values()) == {1}
    for worker in (one, two, three):
        assert worker.ask("health") == []
    assert place.failures() == []
