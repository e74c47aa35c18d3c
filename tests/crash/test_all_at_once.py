"""Everything at once: what users do, what functions do and what happens to processes, at random.

What lives here: one storm, after which no job may be left over and no slot be lost. What does not:
the promises one by one, which have tests of their own.
"""

from __future__ import annotations

import random
import signal
import time
from functools import partial

import pytest

from tests.crash.harness import Place, Worker, wait_until

OPTIONS = {"concurrency": 4, "shutdown_grace": 0.3, "cancel_patience": 0.2}


def stir(place: Place, rng: random.Random, workers: list[Worker], rounds: int) -> None:
    """Let workers come, work, stop, leave and die."""
    for turn in range(rounds):
        tokens = [
            worker.begin("stir", seed=rng.random(), count=40, prefix=f"t{turn}.{number}.")
            for number, worker in enumerate(workers)
        ]
        time.sleep(rng.uniform(0.0, 0.3))
        fate = rng.choice(["dies", "leaves", "stops", "lives"])
        victim = rng.randrange(len(workers))
        print(f"{turn}: worker {victim} {fate}")
        if fate == "stops":
            workers[victim].signal(signal.SIGSTOP)
            time.sleep(0.1)
            workers[victim].signal(signal.SIGCONT)
        for number, (worker, token) in enumerate(zip(workers, tokens, strict=True)):
            if number != victim or fate in ("stops", "lives"):
                worker.reply(token)
        if fate == "dies":
            workers[victim].kill()
        elif fate == "leaves":
            workers[victim].leave()
        if fate in ("dies", "leaves"):
            workers[victim] = place.worker(**OPTIONS)


def nothing_is_left(worker: Worker) -> bool:
    counts = worker.ask("counts")
    return not (counts.get("queued", 0) or counts.get("running", 0))


def is_well(worker: Worker) -> bool:
    return not worker.ask("health")


def storm(place: Place, seed: int, rounds: int) -> None:
    print(f"\nseed {seed}")
    rng = random.Random(seed)
    workers = place.workers(3, **OPTIONS)
    stir(place, rng, workers, rounds)
    last = workers[0]
    wait_until(lambda: nothing_is_left(last), "nothing is left to do", 30)
    for worker in workers:
        # What was given up may need a moment more.
        wait_until(partial(is_well, worker), "it is well")
    for worker in workers[1:]:
        worker.leave()
    all_slots_are_free(place, last)
    last.leave()
    judge(place)


def all_slots_are_free(place: Place, worker: Worker) -> None:
    """As many jobs start together as there are slots."""
    keys = [f"{kind}{number}" for kind in ("work", "work_sync") for number in range(4)]
    for kind in ("work", "work_sync"):
        mine = [key for key in keys if key.rstrip("0123456789") == kind]
        worker.ask("enqueue", task=kind, keys=mine, args=[1.5])
    place.wait_for("ended", keys)
    starts, ends = place.by_key("started"), place.by_key("ended")
    assert max(starts[key][0].at for key in keys) < min(ends[key][0].at for key in keys)
    wait_until(lambda: nothing_is_left(worker), "they are settled")


def judge(place: Place) -> None:
    states = place.states()
    print(states)
    assert states.keys() <= {"succeeded", "failed", "cancelled", "expired", "held"}
    # A job is held here only for having been there when many processes died.
    held = place.rows("SELECT DISTINCT held_for FROM jobs WHERE state = 'held'")
    assert held in ([], [("crash",)])
    ended = place.keys("ended")
    done = place.rows("SELECT args ->> '$[1][0]' FROM jobs WHERE state = 'succeeded'")
    assert {key for (key,) in done} <= ended.keys()
    assert place.process_files() == []
    assert place.rows("SELECT * FROM processes") == []
    assert place.is_sound()
    assert place.failures() == []


def test_after_a_storm_no_job_is_left_and_no_slot_is_lost(place: Place) -> None:
    storm(place, random.randrange(1_000_000), 6)


@pytest.mark.slow
@pytest.mark.parametrize("again", range(10))
def test_after_long_storms_no_job_is_left_and_no_slot_is_lost(place: Place, again: int) -> None:
    storm(place, random.randrange(1_000_000), 40)
