"""A server that is killed while it works: what it has acknowledged is done, and what it had not
started is done once.

What lives here: real servers, SIGKILL at random and at named points. What does not: siblings. The
judges are the client's log and the jobs' own effects.
"""

from __future__ import annotations

import http.client
import random
import time

import pytest

from tests.crash.harness import Place, free_port
from tests.crash.nursery import Nursery
from tests.crash.storm import Clients, Death, finish, gaps, judge, kill, kill_all, who_answers


def seeded() -> random.Random:
    seed = random.randrange(1_000_000)
    print(f"\nseed {seed}")
    return random.Random(seed)


def kill_one_process(
    place: Place, kills: int, *, pause: float = 0.0, gap: float = 0.2, recovery: str = "on"
) -> dict[str, int]:
    """Kill a server of one process again and again, and start it anew each time."""
    rng, port = seeded(), free_port()
    nursery = Nursery(place, CRASH_RECOVERY=recovery)
    server = nursery.server(port)
    server.ready()
    deaths: list[Death] = []
    with Clients(port, pause) as clients:
        for _, seconds in zip(range(kills), gaps(rng, gap), strict=False):
            time.sleep(seconds)
            deaths.append(kill(server.pid))
            server.wait()
            server = nursery.server(port)
            server.ready()
    finish(place, server, 1)
    return judge(place, clients, deaths)


def kill_of_four(
    place: Place, kills: int, *, all_at_once: int, pause: float = 0.0, gap: float = 0.2
) -> dict[str, int]:
    """Kill one of four workers again and again, and now and then all of them."""
    rng, port = seeded(), free_port()
    nursery = Nursery(place, workers=4)
    server = nursery.server(port)
    server.ready()
    deaths: list[Death] = []
    together = set(rng.sample(range(kills // 4, kills), all_at_once))
    with Clients(port, pause) as clients:
        for number, seconds in zip(range(kills), gaps(rng, gap), strict=False):
            time.sleep(seconds)
            if number not in together:
                # The others go on, and the server puts a new one in its place.
                deaths.append(kill(who_answers(server)))
                continue
            deaths.append(kill_all(server))
            server = nursery.server(port)
            server.ready()
    finish(place, server, 4)
    return judge(place, clients, deaths)


def test_nothing_is_lost_and_nothing_stuck_when_a_server_is_killed_at_random(place: Place) -> None:
    figures = kill_one_process(place, 25)
    assert figures["cut off and started again"] > 0


def test_nothing_is_lost_and_nothing_stuck_when_four_workers_are_killed_at_random(
    place: Place,
) -> None:
    figures = kill_of_four(place, 25, all_at_once=1)
    assert figures["cut off and started again"] > 0


def test_the_judge_of_the_kills_fails_when_nothing_recovers_the_dead(place: Place) -> None:
    with pytest.raises(AssertionError, match=r"stuck|lost"):
        kill_one_process(place, 3, recovery="off")


@pytest.mark.slow
def test_nothing_is_lost_in_a_thousand_kills_of_one_process(place: Place) -> None:
    kill_one_process(place, 1000, pause=0.03, gap=0.4)


@pytest.mark.slow
def test_nothing_is_lost_in_a_thousand_kills_among_four_processes(place: Place) -> None:
    kill_of_four(place, 1000, all_at_once=50, pause=0.03, gap=0.4)


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
    finish(place, server, 1)
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
    finish(place, server, 1)
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
