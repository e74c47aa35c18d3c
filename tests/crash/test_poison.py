"""Jobs that kill their process, among healthy ones, under a supervisor that restarts it at once.

What lives here: how many deaths they cost, and that they take nobody along. What does not: the
rules (`tests/unit/test_recovery.py`).
"""

from __future__ import annotations

import os
import signal
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from embedded_tasks.job import MAX_CRASHES, SUSPECT_AFTER
from embedded_tasks.processes import processes_folder
from embedded_tasks.processes.layout import lock_path
from embedded_tasks.processes.records import HEADER_SIZE, decode_file, encode_header
from tests.crash.harness import Place, now, wait_until
from tests.crash.poison import Supervisor

HEALTHY = [f"h{number}" for number in range(200)]
MOST = 40.0  # seconds for all of it; measured 4 to 8


def fill(place: Place, poison: dict[str, str]) -> None:
    """Store poison in the middle of healthy jobs, while nobody runs them."""
    asker = place.worker(run=False)
    half = len(HEALTHY) // 2
    asker.ask("enqueue", task="work", keys=HEALTHY[:half:2], args=[0.01])
    asker.ask("enqueue", task="work_sync", keys=HEALTHY[1:half:2], args=[0.01])
    for key, task in poison.items():
        asker.ask("enqueue", task=f"tests.crash.poison:{task}", keys=[key], args=[])
    asker.ask("enqueue", task="work", keys=HEALTHY[half:], args=[0.01])
    asker.leave()


def settled(place: Place, held: int) -> bool:
    healthy, poison = len(HEALTHY), held
    return place.states() == {"succeeded": healthy, "held": poison}


def judge(place: Place, poison: dict[str, str]) -> None:
    assert place.keys("ended").keys() == set(HEALTHY)
    # No healthy one is a suspect in the end, and none had been through more than two deaths.
    worst = "SELECT max(crashes) FROM jobs WHERE state = 'succeeded'"
    ((crashes,),) = place.rows(worst)
    assert crashes < SUSPECT_AFTER
    assert max(place.keys("started")[key] for key in HEALTHY) <= MAX_CRASHES
    rows = place.rows("SELECT reason, held_for, crashes FROM jobs WHERE state = 'held'")
    assert len(rows) == len(poison)
    for reason, held_for, deaths in rows:
        assert (held_for, deaths) == ("crash", MAX_CRASHES)
        assert "died while it ran" in reason
        assert f"the {MAX_CRASHES}th time" in reason
    # Of two that start together, one may die before the other's first line: it is charged too.
    assert all(0 < place.keys("started")[key] <= MAX_CRASHES for key in poison)
    assert place.is_sound()
    assert place.lines("loop.failed") == []


@pytest.mark.parametrize("task", ["exit_at_once", "abort", "kill_itself"])
def test_one_poison_job_among_two_hundred_costs_four_deaths_and_takes_nobody_along(
    place: Place, task: str
) -> None:
    poison = {"p": task}
    fill(place, poison)
    supervisor = Supervisor(place)
    seconds = supervisor.until(lambda: settled(place, 1), MOST)
    judge(place, poison)
    print(f"\n{task}: {supervisor.deaths} deaths, all done after {seconds:.1f} s")
    assert supervisor.deaths == place.keys("started")["p"] == MAX_CRASHES
    supervisor.worker.leave()


@pytest.mark.slow
def test_three_poison_jobs_together_cost_at_most_four_deaths_each(place: Place) -> None:
    poison = {"p": "exit_at_once", "q": "kill_itself", "r": "abort"}
    fill(place, poison)
    supervisor = Supervisor(place)
    seconds = supervisor.until(lambda: settled(place, len(poison)), MOST * 2)
    judge(place, poison)
    print(f"\nthree together: {supervisor.deaths} deaths, all done after {seconds:.1f} s")
    assert supervisor.deaths <= MAX_CRASHES * len(poison)
    supervisor.worker.leave()


def started_all(place: Place, keys: list[str], turn: int) -> bool:
    return all(place.keys("started")[key] == turn for key in keys)


def die_twice(place: Place, keys: list[str], seconds: float) -> None:
    """Make suspects of jobs: something else kills their process while they run."""
    worker = place.worker()
    worker.ask("enqueue", task="tests.crash.poison:wait_long", keys=keys, args=[seconds])
    for turn in range(1, SUSPECT_AFTER + 1):
        wait_until(partial(started_all, place, keys, turn), f"run {turn}")
        worker.kill()
        if turn < SUSPECT_AFTER:
            worker = place.worker()


@pytest.mark.parametrize("seconds", [60.0])
def test_ten_suspects_of_a_minute_each_do_not_stop_the_healthy(
    place: Place, seconds: float
) -> None:
    suspects = [f"s{number}" for number in range(10)]
    die_twice(place, suspects, seconds)
    worker = place.worker()
    worker.ask("enqueue", task="work", keys=HEALTHY[::2], args=[0.01])
    worker.ask("enqueue", task="work_sync", keys=HEALTHY[1::2], args=[0.01])
    took = place.wait_for("ended", HEALTHY, 20)
    wait_until(lambda: sum(place.keys("started").values()) == 2 * 10 + 200 + 1, "one suspect runs")
    print(f"\n200 healthy jobs beside ten suspects: {took:.1f} s")
    running = "SELECT count(*) FROM jobs WHERE state = 'running' AND crashes = 2"
    assert place.rows(running) == [(1,)]
    worker.kill()


def test_suspects_run_one_after_the_other_and_are_acquitted(place: Place) -> None:
    suspects = [f"s{number}" for number in range(4)]
    die_twice(place, suspects, 0.4)
    worker = place.worker()
    place.wait_for("ended", suspects)
    wait_until(lambda: place.states() == {"succeeded": 4})
    assert place.rows("SELECT sum(crashes) FROM jobs") == [(0,)]
    last = {effect.key: effect.at for effect in place.effects("started")}
    ends = {effect.key: effect.at for effect in place.effects("ended")}
    turns = sorted(suspects, key=last.__getitem__)
    assert all(ends[one] <= last[two] for one, two in pairwise(turns))
    worker.leave()


def test_a_suspect_rests_in_every_sibling_and_not_only_in_the_one_that_put_it_back(
    place: Place,
) -> None:
    asker = place.worker(run=False)
    place.workers(4)
    begun = now()
    wait_until(lambda: now() - begun > 2.0, "the rest after their own start")
    asker.ask("enqueue", task="tests.crash.poison:exit_at_once", keys=["p"], args=[])
    wait_until(lambda: place.states() == {"held": 1})
    starts = [effect.at for effect in place.effects("started")]
    assert len(starts) == MAX_CRASHES
    rests = [two - one for one, two in pairwise(starts)][SUSPECT_AFTER - 1 :]
    # A little less than the second, and the 1.8, for the wall clock has a say in it.
    assert min(rests) >= 0.9
    assert rests[-1] >= 1.7
    asker.leave()


@pytest.mark.slow
def test_ten_suspects_of_a_minute_each_all_end(place: Place) -> None:
    suspects = [f"s{number}" for number in range(10)]
    die_twice(place, suspects, 60.0)
    worker = place.worker()
    # Each is acquitted after half a minute, and the next one starts.
    took = place.wait_for("ended", suspects, 660)
    print(f"\nten suspects of a minute: {took:.0f} s")
    wait_until(lambda: place.states() == {"succeeded": 10})
    worker.leave()


def test_a_retry_by_hand_of_a_held_job_resets_its_counters_and_keeps_its_history(
    place: Place,
) -> None:
    asker = place.worker(run=False)
    task, options = "tests.crash.poison:kill_itself", {"on_crash": "hold"}
    (job_id,) = asker.ask("enqueue", task=task, keys=["p"], args=[], options=options)
    for turn in (1, 2):
        worker = place.worker()
        wait_until(lambda: place.states() == {"held": 1}, "it is held")
        worker.wait()
        job = asker.ask("job", id=job_id)
        assert (job["crashes"], job["failures"]) == (1, 0)
        assert job["attempts"] == [[number, "crashed"] for number in range(1, turn + 1)]
        asker.ask("retry", id=job_id)
        wait_until(lambda: place.states() == {"queued": 1}, "it waits")
        assert asker.ask("job", id=job_id)["crashes"] == 0
    asker.leave()


# Ends that are nobody's crash.


def reboot(place: Place) -> None:
    """Let the files of the dead say what they would say after a reboot of the machine."""
    folder = processes_folder(place.file)
    for process_id in place.process_files():
        path = Path(lock_path(folder, process_id))
        data = path.read_bytes()
        pid = decode_file(data).pid
        assert pid is not None
        path.write_bytes(encode_header(pid, "the boot before") + data[HEADER_SIZE:])


def has_begun(place: Place, turn: int) -> bool:
    """Whether a job runs that an earlier turn did not start."""
    return sum(place.keys("started").values()) > 20 * (turn - 1)


def test_a_reboot_charges_nobody(place: Place) -> None:
    workers = place.workers(2)
    keys = [f"k{number}" for number in range(20)]
    workers[0].ask("enqueue", task="tests.crash.poison:wait_long", keys=keys, args=[0.7])
    for turn in range(1, MAX_CRASHES + 2):
        wait_until(partial(has_begun, place, turn), f"turn {turn}")
        for worker in workers:
            os.kill(worker.pid, signal.SIGSTOP)  # so that none sees the other die
        for worker in workers:
            worker.kill()
        reboot(place)
        workers = place.workers(2)
    place.wait_for("ended", keys)
    wait_until(lambda: place.states() == {"succeeded": 20})
    assert place.rows("SELECT sum(crashes) FROM jobs") == [(0,)]
    assert place.rows("SELECT DISTINCT outcome FROM attempts") == [("crashed",)]
    texts = place.rows("SELECT DISTINCT error_message FROM attempts")
    assert texts == [("Its process ended, perhaps with the machine; the job may have started.",)]
    for worker in workers:
        worker.leave()
