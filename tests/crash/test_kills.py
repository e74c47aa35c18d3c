"""A server that is killed while it works: what it has acknowledged is done, and what it had not
started is done once.

What lives here: real servers, SIGKILL at random and at named points. What does not: siblings. The
judges are the client's log and the jobs' own effects.
"""

from __future__ import annotations

import http.client
import itertools
import os
import random
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from tests.crash.harness import Place, Server, free_port, now, wait_until

CLIENTS = 6
UNSETTLED = 0.5  # seconds from a job's end to its outcome on disk; measured up to 0.03

# Every way in, with jobs short and less short, async and sync, alone and in a row.
POSTS: list[tuple[str, dict[str, Any]]] = [
    ("/tasks/", {"seconds": 0.005}),
    ("/tasks/", {"seconds": 0.05, "sync": True}),
    ("/plain/", {"seconds": 0.02}),
    ("/enqueue/", {"seconds": 0.02}),
    ("/tasks/", {"seconds": 0.01, "followers": 2}),
]


@dataclass
class Clients:
    """Threads that post, and their log: which keys were acknowledged, and which were not."""

    server: Server
    acknowledged: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    wanted: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._number = 0

    def run(self, wanted: int) -> list[threading.Thread]:
        self.wanted = wanted
        threads = [threading.Thread(target=self._post_all) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        return threads

    def have(self, count: float) -> bool:
        return len(self.acknowledged) >= count

    def _post_all(self) -> None:
        while len(self.acknowledged) < self.wanted:
            with self._lock:
                self._number += 1
                number = self._number
            path, query = POSTS[number % len(POSTS)]
            followers = range(1, query.get("followers", 0) + 1)
            keys = [f"k{number}", *(f"k{number}.{follower}" for follower in followers)]
            try:
                self.server.post(f"{path}{keys[0]}", **query)
            except ConnectionRefusedError:
                time.sleep(0.02)
            except (OSError, http.client.HTTPException):
                self.unknown += keys
            else:
                self.acknowledged += keys


def kill_at_random(
    place: Place, jobs: int, kills: int, *arguments: str, one_of_many: bool = False
) -> None:
    seed = random.randrange(1_000_000)
    print(f"\nseed {seed}")
    rng = random.Random(seed)
    port = free_port()
    server = place.server(*arguments, port=port)
    server.ready()
    clients = Clients(server)
    threads = clients.run(jobs)
    deaths: list[float] = []
    for number in range(kills):
        # Spread over the work: with little queued, and with much.
        share = jobs * (number + rng.random()) / kills
        wait_until(partial(clients.have, share), "more is acknowledged")
        if one_of_many:
            # The others go on, and the server puts a new one in its place.
            os.kill(who_answers(server), signal.SIGKILL)
            deaths.append(now())
            continue
        server.end()
        deaths.append(now())
        server = place.server(*arguments, port=port)
        server.ready()
    for thread in threads:
        thread.join()
    place.wait_for("ended", clients.acknowledged, 60)
    finish(place, server)
    judge(place, clients, deaths)


def who_answers(server: Server) -> int:
    while True:
        with suppress(OSError, http.client.HTTPException):
            return int(server.get("/ready"))


def finish(place: Place, server: Server) -> None:
    """Let the server do what is left, and end it as a deploy does."""

    def is_done() -> bool:
        counts = server.get("/counts")
        return bool(counts["queued"] + counts["running"] == 0)

    wait_until(is_done, "nothing is left to do")
    server.signal(signal.SIGTERM)
    assert server.wait() in (0, -15)
    assert place.is_sound()
    assert place.process_files() == []
    assert place.rows("SELECT * FROM processes") == []
    assert place.failures() == []


def judge(place: Place, clients: Clients, deaths: list[float]) -> None:
    ends, starts = place.by_key("ended"), place.by_key("started")
    assert set(clients.acknowledged) <= ends.keys() <= {*clients.acknowledged, *clients.unknown}
    for key, runs in starts.items():
        for run, next_run in itertools.pairwise(runs):
            assert any(run.at < death < next_run.at for death in deaths), f"{key} was not killed"
    for key, runs in ends.items():
        for run in runs[:-1]:
            # It came to its end, and its process was killed before that was on disk.
            assert any(run.at < death < run.at + UNSETTLED for death in deaths), key
        before, _, number = key.partition(".")
        if number:
            leader = before if number == "1" else f"{before}.{int(number) - 1}"
            assert starts[key][0].at > ends[leader][0].at, f"{key} overtook {leader}"
    assert place.states() == {"succeeded": len(ends)}
    again = sum(len(runs) > 1 for runs in starts.values())
    twice = sum(len(runs) > 1 for runs in ends.values())
    print(
        f"{len(clients.acknowledged)} acknowledged, {len(clients.unknown)} unknown, "
        f"{again} started again, {twice} ran to the end twice"
    )
    assert again > 0


def test_no_acknowledged_job_is_lost_when_a_server_is_killed_ten_times(place: Place) -> None:
    kill_at_random(place, 500, 10)


@pytest.mark.slow
@pytest.mark.parametrize("again", range(5))
def test_no_acknowledged_job_is_lost_when_one_of_four_workers_dies(
    place: Place, again: int
) -> None:
    kill_at_random(place, 3000, 30, "--workers", "4", one_of_many=True)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("again", range(5))
def test_no_acknowledged_job_is_lost_in_a_long_run(place: Place, workers: int, again: int) -> None:
    kill_at_random(place, 3000, 30, "--workers", str(workers))


@pytest.mark.parametrize("on_crash", ["fail", "hold"])
def test_a_job_that_never_started_runs_whatever_its_policy_says(
    place: Place, on_crash: str
) -> None:
    server = place.server()
    server.ready()
    with pytest.raises((OSError, http.client.HTTPException)):
        server.post("/doomed/a", on_crash=on_crash, followers=2)
    server.wait()
    assert place.states() == {"running": 1, "queued": 2}
    server = place.server()
    server.ready()
    place.wait_for("ended", ["a", "a.1", "a.2"])
    finish(place, server)
    assert [effect.key for effect in place.effects() if effect.word != "killed"] == [
        "a", "a", "a.1", "a.1", "a.2", "a.2",
    ]  # fmt: skip  # started and ended, one after another
    assert place.rows("SELECT state, attempt, crashes FROM jobs") == [("succeeded", 1, 0)] * 3
    (line,) = place.lines("runner.started", server.pid)
    assert line["recovered"] == 3


def test_a_job_whose_process_died_goes_on_as_its_policy_says(place: Place) -> None:
    server = place.server()
    server.ready()
    for on_crash in ("retry", "hold", "fail"):
        server.post(f"/tasks/{on_crash}", on_crash=on_crash, followers=1, seconds=0.5)
    place.wait_for("started", ["retry", "hold", "fail"])
    server.kill()
    assert place.keys("ended") == {}
    server = place.server()
    server.ready()
    place.wait_for("ended", ["retry", "retry.1", "hold.1", "fail.1"])
    finish(place, server)
    # Those behind one that is retried come after it; those behind the others do not wait.
    assert place.of("retry") == ["started", "started", "ended"]
    assert place.of("hold") == place.of("fail") == ["started"]
    starts, ends = place.by_key("started"), place.by_key("ended")
    assert starts["retry.1"][0].at > ends["retry"][0].at > starts["hold.1"][0].at
    rows = place.rows("SELECT state, attempt, failures, crashes, reason FROM jobs ORDER BY seq")
    assert [row[:4] for row in rows] == [
        ("succeeded", 2, 0, 1), ("succeeded", 1, 0, 0),
        ("held", 1, 0, 1), ("succeeded", 1, 0, 0),
        ("failed", 1, 0, 1), ("succeeded", 1, 0, 0),
    ]  # fmt: skip  # a leader and its follower in each line
    assert "died while it ran" in rows[2][4]
    assert "died while it ran" in rows[4][4]
    assert place.rows("SELECT number, outcome, error_type FROM attempts") == (
        [(1, "crashed", "ProcessDied")] * 3
    )
    assert len(place.lines("job.crashed")) == 3
