"""Containers that are started anew, or stand side by side: each process is number 1 there.

What lives here: real namespaces of process ids, with one host name and one file. What does not:
other deaths (`test_kills.py`, `test_blame.py`). The judges are the jobs' own effects.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.crash.harness import Place, Worker, wait_until
from tests.support.needs import need_command

MAIN = "from tests.crash.worker import main; main('run')"


@pytest.fixture(autouse=True)
def _can_make_containers() -> None:
    unshare = need_command("unshare", "it starts a process as number 1")
    tried = subprocess.run([unshare, "--pid", "--fork", "true"], capture_output=True, check=False)
    if tried.returncode:
        reason = f"no namespace can be made here: {tried.stderr.decode().strip()}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def container(place: Place, **options: object) -> Worker:
    """Start a worker that sees itself as process 1, on this host name."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += [sys.executable, "-c", MAIN]
    worker = Worker(place._start(command, place.environment(options)))
    place.finally_do(worker.end)
    worker.ready()
    return worker


def test_a_container_that_is_started_anew_goes_on_with_its_jobs(place: Place) -> None:
    options = {"on_crash": "fail"}
    one = container(place)
    one.ask("enqueue", task="work", keys=["again"], args=[1.0])
    one.ask("enqueue", task="work", keys=["failed"], args=[60.0], options=options)
    place.wait_for("started", ["again", "failed"])
    assert {effect.pid for effect in place.effects("started")} == {1}
    one.kill()
    two = container(place)
    place.wait_for("ended", ["again"])
    wait_until(lambda: two.ask("counts") == {"succeeded": 1, "failed": 1}, "the other has failed")
    assert place.keys("started") == {"again": 2, "failed": 1}
    assert {effect.pid for effect in place.effects("started")} == {1}
    two.leave()
    assert place.process_files() == []
    assert place.is_sound()


def test_containers_side_by_side_rob_nobody_and_go_on_with_the_dead_one_s_jobs(
    place: Place,
) -> None:
    one, two = container(place), container(place)
    one.ask("enqueue", task="work", keys=["one"], args=[60.0])
    place.wait_for("started", ["one"])
    two.ask("enqueue", task="work", keys=["two"], args=[0.0])
    place.wait_for("ended", ["two"])
    three = container(place)
    time.sleep(0.3)
    assert place.keys("started") == {"one": 1, "two": 1}
    one.kill()
    wait_until(lambda: place.keys("started")["one"] == 2, "it is started elsewhere")
    for worker in (two, three):
        worker.kill()
    assert place.is_sound()
