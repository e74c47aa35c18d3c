"""Several processes with one file: each job runs once, whoever dies, stops or is replaced.

What lives here: workers and servers side by side. What does not: results and cancellation across
processes (`test_between_siblings.py`).
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.crash.harness import Place, Server, Worker, now, wait_until

TAKEOVER = 1.0  # promised: seconds until a sibling has started a dead process's jobs


def keys(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def all_once(place: Place, expected: list[str]) -> None:
    assert place.keys("started") == dict.fromkeys(expected, 1)
    assert place.keys("ended") == dict.fromkeys(expected, 1)


def end_well(place: Place, *workers: Worker) -> None:
    """Everybody leaves; nothing is left behind, and nothing had failed."""
    for worker in workers:
        worker.leave()
    assert place.process_files() == []
    assert place.rows("SELECT * FROM processes") == []
    assert place.is_sound()
    assert place.failures() == []
    assert place.lines("process.recovered") == []


def test_two_processes_run_each_of_two_thousand_jobs_once(place: Place) -> None:
    one, two = place.workers(2)
    begun = now()
    first = one.begin("enqueue", task="work", keys=keys("a", 1000), args=[0.001])
    second = two.begin("enqueue", task="work_sync", keys=keys("b", 1000), args=[0.001])
    one.reply(first)
    two.reply(second)
    expected = keys("a", 1000) + keys("b", 1000)
    place.wait_for("ended", expected)
    print(f"\n2000 jobs in {now() - begun:.2f} s")
    wait_until(lambda: one.ask("counts") == {"succeeded": 2000})
    all_once(place, expected)
    assert len({effect.pid for effect in place.effects()}) == 2
    end_well(place, one, two)


def test_a_killed_process_s_jobs_are_started_by_its_sibling_within_a_second(place: Place) -> None:
    one = place.worker(concurrency=5)
    one.ask("enqueue", task="work", keys=keys("running", 5), args=[30])
    place.wait_for("started", keys("running", 5))
    two = place.worker(concurrency=20)
    one.ask("enqueue", task="work", keys=keys("fill", 20), args=[0.2])
    one.ask("enqueue", task="work", keys=keys("queued", 40), args=[0.02])
    place.wait_for("started", keys("fill", 20))
    death = one.kill()
    lost = keys("running", 5)
    wait_until(lambda: all(place.keys("started")[key] == 2 for key in lost), "taken over")
    place.wait_for("ended", keys("queued", 40))
    starts = [effect.at - death for effect in place.effects("started") if effect.pid == two.pid]
    mine = [e.at - death for e in place.effects("started") if e.key in lost and e.pid == two.pid]
    print(f"\nstarted again {max(mine):.3f} s after the kill; {len(starts)} started in all")
    assert max(mine) < TAKEOVER
    assert place.keys("started") == dict.fromkeys(keys("fill", 20) + keys("queued", 40), 1) | (
        dict.fromkeys(lost, 2)
    )
    (line,) = place.lines("process.recovered")
    assert line["recovered"] == 5
    assert place.failures() == []


def test_idle_siblings_take_over_at_once(place: Place) -> None:
    one, *others = place.workers(3)
    one.ask("enqueue", task="work", keys=keys("r", 10), args=[0.3])
    place.wait_for("started", keys("r", 10))
    death = one.kill()
    place.wait_for("ended", keys("r", 10))
    starts = [effect for effect in place.effects("started") if effect.pid != one.pid]
    print(f"\nstarted again {max(effect.at for effect in starts) - death:.3f} s after the kill")
    assert max(effect.at for effect in starts) - death < TAKEOVER
    assert sorted(effect.key for effect in starts) == sorted(keys("r", 10))
    assert len(place.lines("process.recovered")) == 1
    assert place.failures() == []
    for other in others:
        other.leave()
    assert len(place.lines("process.recovered")) == 1


@pytest.mark.parametrize("seconds", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_a_stopped_process_is_not_robbed(place: Place, seconds: float) -> None:
    one, two = place.workers(2)
    one.ask("enqueue", task="work", keys=keys("mine", 6), args=[seconds / 2])
    one.ask("enqueue", task="work_sync", keys=keys("sync", 4), args=[seconds / 2])
    mine = keys("mine", 6) + keys("sync", 4)
    place.wait_for("started", mine)
    time.sleep(0.2)  # it is idle then: no commit is under way
    one.signal(signal.SIGSTOP)
    stopped = now()
    two.ask("enqueue", task="work", keys=keys("other", 50), args=[0.01])
    place.wait_for("ended", keys("other", 50))
    time.sleep(max(0.0, stopped + seconds - now()))
    assert {effect.pid for effect in place.effects() if effect.key in mine} == {one.pid}
    assert two.ask("counts") == {"running": 10, "succeeded": 50}
    one.signal(signal.SIGCONT)
    place.wait_for("ended", mine)
    all_once(place, mine + keys("other", 50))
    wait_until(lambda: one.ask("counts") == {"succeeded": 60})
    end_well(place, one, two)


def end_server(place: Place, server: Server) -> None:
    server.signal(signal.SIGTERM)
    assert server.wait() in (0, -signal.SIGTERM)
    assert place.process_files() == []
    assert place.rows("SELECT * FROM processes") == []
    assert place.is_sound()
    assert place.failures() == []
    assert place.lines("process.recovered") == []


def test_four_workers_of_uvicorn_run_each_job_once(place: Place) -> None:
    server = place.server("--workers", "4")
    server.ready()
    wait_until(lambda: len(place.process_files()) == 4, "four processes")
    for number in range(100):
        server.post(f"/tasks/k{number}", followers=1, sync=number % 2 == 0)
    expected = keys("k", 100) + [f"{key}.1" for key in keys("k", 100)]
    place.wait_for("ended", expected)
    wait_until(lambda: server.get("/counts")["succeeded"] == 200)
    all_once(place, expected)
    end_server(place, server)
    print(f"\n{len({effect.pid for effect in place.effects()})} processes ran jobs")


def test_a_reload_runs_each_job_once(place: Place, tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    (watched / "code.py").write_text("")
    server = place.server("--reload", "--reload-dir", str(watched), shutdown_grace=1)
    server.ready()
    first = server.get("/ready")
    server.post("/tasks/short", seconds=1.0)
    server.post("/tasks/long", seconds=3.0)
    server.post("/tasks/in_a_row", seconds=0.3, followers=8)
    place.wait_for("started", ["short", "long", "in_a_row"])
    (watched / "code.py").write_text("changed = True")
    os.utime(watched / "code.py", (time.time() + 2, time.time() + 2))
    wait_until(lambda: first not in _ready(server), "it has reloaded")
    row = ["in_a_row", *(f"in_a_row.{number}" for number in range(1, 9))]
    place.wait_for("ended", ["short", "long", *row], 40)
    assert set(place.keys("ended").values()) == {1}
    again = {key for key, count in place.keys("started").items() if count > 1}
    assert "long" in again
    assert "short" not in again
    assert len(again) <= 2  # the long one, and the one of the row that ran as the grace ended
    wait_until(lambda: server.get("/counts")["succeeded"] == 11)
    assert place.rows("SELECT DISTINCT outcome FROM attempts") == [("interrupted",)]
    assert place.rows("SELECT sum(failures), sum(crashes) FROM jobs") == [(0, 0)]
    end_server(place, server)


def _ready(server: Server) -> set[object]:
    """Who answers, if anybody does."""
    try:
        return {server.get("/ready")}
    except OSError:
        return {server.get}  # nobody; the first one may be back in a moment
