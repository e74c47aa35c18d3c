"""What becomes of jobs while nobody can run them: for want of their code, or of any process.

What lives here: names that some processes do not know, and times that pass while all are down.
What does not: deaths in an attempt.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.crash.harness import Place, wait_until

EXTRA = """
import asyncio
from tests.crash.tasks import note

async def work(key, seconds):
    note("started", key)
    await asyncio.sleep(seconds)
    note("ended", key)

def work_sync(key):
    note("started", key)
    note("ended", key)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "extra").mkdir(parents=True)
    (folder / "extra" / "__init__.py").write_text(EXTRA)
    return folder


def keys(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def is_held(place: Place, count: int) -> None:
    sql = "SELECT reason FROM jobs WHERE state = 'held' AND held_for = 'unknown_task'"
    wait_until(lambda: len(place.rows(sql)) == count, f"{count} are held", 5)
    assert all("extra:work" in reason for (reason,) in place.rows(sql))


def test_a_job_that_no_living_process_knows_is_held_until_one_does(
    place: Place, code: Path
) -> None:
    script = place.begin_worker(run=False, code=code)
    without = place.worker()
    script.ready()
    ids = script.ask("enqueue", task="extra:work", keys=keys("a", 3), args=[0])
    is_held(place, 3)
    # Told once that the name is unknown, the next job of it is held as well.
    script.ask("enqueue", task="extra:work", keys=keys("b", 2), args=[0])
    is_held(place, 5)
    assert "No running process" in without.ask("job", id=ids[0])["reason"]
    assert "No running process" in script.ask("result", id=ids[0], timeout=5)[0]
    without.ask("enqueue", task="work", keys=["known"], args=[0])
    place.wait_for("ended", ["known"])
    runner = place.worker(code=code)
    place.wait_for("ended", keys("a", 3) + keys("b", 2))
    assert {e.pid for e in place.effects("started") if e.key != "known"} == {runner.pid}
    for worker in (without, script, runner):
        worker.leave()
    assert place.states() == {"succeeded": 6}
    assert place.failures() == []


def test_a_process_never_takes_a_name_that_it_does_not_know(place: Place, code: Path) -> None:
    knowing = place.begin_worker(concurrency=2, code=code)
    without = place.worker(concurrency=20)
    knowing.ready()
    first = knowing.begin("enqueue", task="extra:work", keys=keys("x", 60), args=[0.01])
    second = without.begin("enqueue", task="work", keys=keys("y", 200), args=[0.01])
    knowing.reply(first)
    without.reply(second)
    place.wait_for("ended", keys("x", 60) + keys("y", 200))
    assert {e.pid for e in place.effects() if e.key in keys("x", 60)} == {knowing.pid}
    assert place.keys("ended") == dict.fromkeys(keys("x", 60) + keys("y", 200), 1)
    assert place.rows("SELECT 1 FROM attempts") == []  # none was ever held or failed
    knowing.leave()
    without.leave()
    assert place.failures() == []


@pytest.mark.parametrize("how", ["killed", "leaves"])
def test_when_the_last_process_that_knows_a_name_goes_its_jobs_are_held(
    place: Place, code: Path, how: str
) -> None:
    knowing = place.begin_worker(concurrency=1, code=code, shutdown_grace=0.5)
    without = place.worker()
    knowing.ready()
    options = {"max_attempts": 3}
    knowing.ask("enqueue", task="extra:work", keys=["long"], args=[30], options=options)
    place.wait_for("started", ["long"])
    knowing.ask("enqueue", task="extra:work", keys=keys("x", 5), args=[0])
    wait_until(lambda: without.ask("counts").get("held", 0) == 0)
    if how == "killed":
        knowing.kill()
    else:
        knowing.leave()
    is_held(place, 6)
    assert place.keys("started") == {"long": 1}
    runner = place.worker(code=code)
    place.wait_for("ended", keys("x", 5))
    place.wait_for("started", ["long"])
    assert {e.pid for e in place.effects("ended")} == {runner.pid}
    assert place.failures() == []


def test_a_held_job_that_is_retried_without_its_code_is_held_again(
    place: Place, code: Path
) -> None:
    script = place.begin_worker(run=False, code=code)
    without = place.worker()
    script.ready()
    (id,) = script.ask("enqueue", task="extra:work_sync", keys=["k"], args=[])
    is_held(place, 1)
    without.ask("retry", id=id)
    is_held(place, 1)
    runner = place.worker(code=code)
    place.wait_for("ended", ["k"])
    runner.leave()
    assert place.failures() == []


def test_what_is_retried_starts_in_the_process_that_has_its_code(place: Place, code: Path) -> None:
    knowing = place.begin_worker(code=code)
    without = place.worker()
    knowing.ready()
    (id,) = knowing.ask("enqueue", task="extra:work", keys=["k"], args=[0])
    place.wait_for("ended", ["k"])
    wait_until(lambda: without.ask("counts") == {"succeeded": 1})
    without.ask("retry", id=id)
    wait_until(lambda: place.keys("ended") == {"k": 2}, "it ran again", 5)
    assert {e.pid for e in place.effects("ended")} == {knowing.pid}


def test_what_expired_while_no_process_ran_is_expired_and_counted_at_the_start(
    place: Place,
) -> None:
    worker = place.worker(concurrency=2)
    worker.ask("enqueue", task="work", keys=["r0"], args=[30], options={"finish_within": 0.8})
    worker.ask("enqueue", task="work", keys=["r1"], args=[0.3], options={"start_within": 0.8})
    place.wait_for("started", ["r0", "r1"])
    for name in ("start_within", "finish_within"):
        worker.ask("enqueue", task="work", keys=keys(name, 3), args=[0], options={name: 0.5})
    worker.ask("enqueue", task="work", keys=["patient"], args=[0])
    worker.kill()
    time.sleep(1)
    worker = place.worker()
    place.wait_for("ended", ["r1", "patient"])
    wait_until(lambda: worker.ask("counts") == {"expired": 7, "succeeded": 2})
    (line,) = place.lines("runner.started", worker.pid)
    assert (line["recovered"], line["expired"]) == (2, 7)
    reasons = place.rows("SELECT reason, count(*) FROM jobs WHERE state = 'expired' GROUP BY 1")
    assert reasons == [
        ("It was not finished within its time (finish_within).", 4),
        ("It was not started within its time (start_within).", 3),
    ]
    # One that has started in time may go on after its start_within.
    assert place.keys("started") == {"r0": 1, "r1": 2, "patient": 1}
    worker.leave()
    assert place.failures() == []


def test_a_delayed_job_starts_in_time_after_its_enqueuer_is_gone(place: Place) -> None:
    sleeper, script = place.pair()
    script.ask("enqueue", task="work", keys=["k"], args=[0], options={"delay": 0.5})
    begun = time.monotonic()
    script.leave()
    place.wait_for("started", ["k"], 5)
    late = place.effects("started")[0].at - begun - 0.5
    print(f"\nstarted {late * 1000:.1f} ms after its time")
    assert late < 0.2
    sleeper.leave()
    assert place.failures() == []
