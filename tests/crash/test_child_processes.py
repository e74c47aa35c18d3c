"""Child processes of `run_in="process"`: whose death is whose, and that none outlives its parent.

What lives here: real children of real workers, killed in every way. What does not: what hangs in
them (`test_hangs.py`). The judges are the jobs' own effects, and the system's list of processes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.crash.hang_tasks import DEATHS, HANGS_IN_CHILDREN
from tests.crash.harness import ROOT, Place, Worker, wait_until
from tests.crash.test_hangs import PROCESS, TASKS, children_of, enqueue, wait_for_counts


def result(worker: Worker, id: str, limit: float = 30.0) -> Any:
    return worker.reply(worker.begin("result", id=id, timeout=limit), limit + 5)[0]


def pid_of(place: Place, key: str) -> int:
    place.wait_for("started", [key])
    return place.by_key("started")[key][-1].pid


def is_there(pid: int) -> bool:
    with suppress(OSError):
        # A zombie has ended; only nobody has asked for its exit code yet.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_job_runs_in_a_child_which_is_used_again(place: Place) -> None:
    worker = place.worker()
    pids: list[int] = []
    for task in ("in_child", "in_child_async", "in_child"):
        (id,) = enqueue(worker, task, [f"{task}{len(pids)}"])
        pids.append(result(worker, id))
    assert len(set(pids)) == 1
    assert pids[0] != worker.pid
    assert children_of(worker.pid) == pids[:1]
    links = [str(path.readlink()) for path in Path(f"/proc/{pids[0]}/fd").iterdir()]
    assert [link for link in links if str(place.folder) in link] == []
    # Three of its own, its line to the parent, and its tie to the parent's life.
    assert len(links) == 5
    worker.leave()
    assert not is_there(pids[0])
    assert place.failures() == []


def test_the_death_of_a_child_is_charged_to_its_own_job_alone(place: Place) -> None:
    worker = place.worker(sync_concurrency=2)
    (bystander,) = worker.ask(
        "enqueue", task=f"{TASKS}:until_told", keys=["b"], args=[], options=PROCESS
    )
    beside = pid_of(place, "b")
    for how, said in DEATHS.items():
        (id,) = worker.ask(
            "enqueue",
            task=f"{TASKS}:die",
            keys=[how],
            args=[how],
            options=PROCESS | {"on_crash": "fail"},
        )
        assert said in result(worker, id)
        state = worker.ask("job", id=id)
        assert (state["state"], state["crashes"], state["failures"]) == ("failed", 1, 0)
        assert state["attempts"] == [[1, "crashed"]]
    # No zombie is left of them.
    assert children_of(worker.pid) == [beside]
    Path(f"{place.log}.go").touch()
    result(worker, bystander)
    assert worker.ask("job", id=bystander)["crashes"] == 0
    assert place.of("b") == ["started", "ended"]
    assert worker.ask("health") == []
    # faulthandler tells where it aborted; nobody else has anything to say.
    assert "Fatal Python error: Aborted" in str(place.failures()[0])


def test_a_job_that_kills_its_child_again_and_again_is_held(place: Place) -> None:
    worker = place.worker()
    options = PROCESS | {"priority": 1}
    (id,) = worker.ask(
        "enqueue", task=f"{TASKS}:die", keys=["poison"], args=["kill"],
        options=options,
    )  # fmt: skip  # as the line above
    keys = [f"healthy{number}" for number in range(20)]
    enqueue(worker, "healthy", keys)
    wait_for_counts(worker, 60.0, held=1, succeeded=20)
    state = worker.ask("job", id=id)
    assert (state["crashes"], state["failures"]) == (4, 0)
    assert state["attempts"] == [[number, "crashed"] for number in range(1, 5)]
    assert "4th time" in state["reason"]
    assert place.keys("started")["poison"] == 4
    assert place.failures() == []


def test_a_child_over_its_memory_limit_is_killed_and_the_job_says_so(place: Place) -> None:
    limit = 192 * 2**20
    worker = place.worker(child_memory_limit=limit)
    (id,) = enqueue(worker, "eat", ["a"], on_crash="hold", **PROCESS)
    assert "of memory, and child_memory_limit is 192 MiB" in result(worker, id)
    wait_until(lambda: not children_of(worker.pid), "the child is gone")
    (id,) = enqueue(worker, "in_child", ["b"])
    assert result(worker, id) != worker.pid
    assert place.failures() == []


def test_a_child_is_replaced_after_so_many_jobs(place: Place) -> None:
    worker = place.worker(child_max_jobs=2)
    pids: list[int] = []
    for number in range(3):
        (id,) = enqueue(worker, "in_child", [f"key{number}"])
        pids.append(result(worker, id))
    assert pids[0] == pids[1] != pids[2]
    wait_until(lambda: children_of(worker.pid) == pids[2:], "the first one has left")
    assert place.failures() == []


def test_no_child_outlives_its_parent_whatever_it_does(place: Place) -> None:
    busy = [*HANGS_IN_CHILDREN, "start_others"]
    worker = place.worker(sync_concurrency=len(busy), concurrency=len(busy))
    for task in busy:
        enqueue(worker, task, [task], **PROCESS)
    (id,) = enqueue(worker, "in_child", ["idle"])
    children = {result(worker, id, 60.0), *(pid_of(place, task) for task in busy)}
    assert children == set(children_of(worker.pid))
    wait_until(lambda: len(place.of("start_others")) == 2, "it has started a program")
    started = int(place.of("start_others")[1].removeprefix("pid"))
    assert is_there(started)
    worker.kill()
    left = {started, *children}
    took = wait_until(lambda: not any(map(is_there, left)), "no child is left")
    print(f"\n{len(children)} children were gone {took:.3f} s after their parent")


def test_what_a_child_has_started_dies_with_it(place: Place) -> None:
    worker = place.worker(cancel_patience=0.1)
    (id,) = enqueue(worker, "start_others", ["a"], **PROCESS)
    wait_until(lambda: len(place.of("a")) == 2, "it has started a program", 60.0)
    started = int(place.of("a")[1].removeprefix("pid"))
    assert is_there(started)
    worker.ask("cancel", id=id)
    assert "cancelled" in result(worker, id)
    wait_until(lambda: not is_there(started), "the program is gone")
    assert place.failures() == []


def test_signals_that_a_service_manager_sends_to_all_do_not_cut_a_job(place: Place) -> None:
    worker = place.worker()
    (id,) = worker.ask("enqueue", task=f"{TASKS}:work_in_child", keys=["a"], args=[0.5])
    # Even while it starts.
    wait_until(lambda: children_of(worker.pid), "there is a child")
    (child,) = children_of(worker.pid)
    while place.of("a") != ["started"]:
        os.kill(child, signal.SIGTERM)
        os.kill(child, signal.SIGINT)
        time.sleep(0.02)
    os.kill(child, signal.SIGTERM)
    os.kill(child, signal.SIGINT)
    assert result(worker, id) == child
    assert place.of("a") == ["started", "ended"]
    assert os.getpgid(child) == child
    assert place.failures() == []


def test_a_child_gives_way_to_the_app_from_its_first_moment(place: Place) -> None:
    worker = place.worker()
    (id,) = worker.ask("enqueue", task=f"{TASKS}:work_in_child", keys=["a"], args=[0.5])
    wait_until(lambda: children_of(worker.pid), "there is a child")
    (child,) = children_of(worker.pid)
    app = os.getpriority(os.PRIO_PROCESS, worker.pid)
    wait_until(lambda: os.getpriority(os.PRIO_PROCESS, child) == min(app + 10, 19), "it is nicer")
    # Linux may share the processors out among sessions first, and look at niceness only then.
    assert os.getsid(child) == os.getsid(worker.pid)
    assert result(worker, id) == child
    assert place.failures() == []


def test_a_job_that_listens_ends_when_it_is_cancelled_and_its_child_lives(place: Place) -> None:
    worker = place.worker(cancel_patience=20.0)
    for task, word in (("listen", "told"), ("listen_async", "cancelled")):
        (id,) = enqueue(worker, task, [task], **PROCESS)
        child = pid_of(place, task)
        assert worker.ask("cancel", id=id) == "STOPPING"
        assert "cancelled" in result(worker, id)
        assert place.of(task) == ["started", word]
        assert is_there(child)
    assert place.failures() == []


def test_a_shutdown_ends_what_is_left_after_the_grace_and_charges_nobody(place: Place) -> None:
    worker = place.worker(shutdown_grace=0.2, cancel_patience=1.0)
    enqueue(worker, "spin", ["spin"], **PROCESS)
    child = pid_of(place, "spin")
    begun = time.monotonic()
    worker.leave()
    took = time.monotonic() - begun
    print(f"\nended {took:.2f} s after it was told to, grace 0.2 s")
    assert not is_there(child)
    assert place.rows("SELECT state, attempt, failures, crashes, owner FROM jobs") == [
        ("queued", 1, 0, 0, None)
    ]
    assert place.rows("SELECT outcome FROM attempts") == [("interrupted",)]
    assert place.process_files() == []
    assert place.failures() == []


PROGRAM = """
import asyncio, sys
from embedded_tasks import TaskRunner

def say(word):
    print("said", word)
    return __name__

async def main():
    runner = TaskRunner("tasks.db", modules=["program"])
    async with runner.open(run_jobs=True):
        job = await runner.options(run_in="process").enqueue(say, "hello")
        try:
            print("it was", await job.result(timeout=60))
        except Exception as error:
            print("it was", error)

"""
GUARDED = 'if __name__ == "__main__":\n    asyncio.run(main())\n'


def run_program(folder: Path, text: str) -> str:
    (folder / "program.py").write_text(text)
    found = subprocess.run(
        [sys.executable, "-W", "error", "program.py"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=True,
    )
    return found.stdout


def test_what_a_child_prints_comes_out_of_the_app(tmp_path: Path) -> None:
    said = run_program(tmp_path, PROGRAM + GUARDED)
    assert "said hello" in said
    assert "it was program" in said


def test_a_program_without_a_guard_does_not_start_itself_in_its_children(tmp_path: Path) -> None:
    said = run_program(tmp_path, PROGRAM + "asyncio.run(main())\n")
    assert "said hello" not in said
    assert 'if __name__ == "__main__":' in said
