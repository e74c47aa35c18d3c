"""A process that the kernel kills for want of memory, in a control group with a real limit.

What lives here: what its jobs say, and that others go on. What does not: the counters of other
systems (`tests/unit/test_processes_deaths.py`), and limits of ours (`test_child_processes.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.harness import Place, Worker, wait_until
from tests.support.memory_group import memory_group

LIMIT = 220 * 2**20
HINT = (
    "Perhaps memory ran out: since it began, the kernel has killed 1 process in its control group "
    "(container or service) for that."
)
JOIN = 'echo 0 > "$0" && exec "$@"'
MAIN = "from tests.crash.worker import main; main('run')"


@pytest.fixture
def group() -> Iterator[Path]:
    with memory_group(LIMIT) as made:
        yield made


def worker_in(group: Path, place: Place, **options: object) -> Worker:
    """Start a worker that is in the group before Python begins."""
    command = ["sh", "-c", JOIN, str(group / "cgroup.procs"), sys.executable, "-c", MAIN]
    worker = Worker(place._start(command, place.environment(options)))
    place.finally_do(worker.end)
    worker.ready()
    return worker


def crashed(place: Place) -> dict[str, str]:
    """What the attempts that crashed say, by key."""
    rows = place.rows(
        "SELECT json_extract(args, '$[1][0]'), error_message FROM attempts "
        "JOIN jobs ON jobs.seq = attempts.job WHERE outcome = 'crashed'"
    )
    return dict(rows)


def test_a_process_that_the_kernel_kills_for_want_of_memory_says_so_on_each_job(
    place: Place, group: Path
) -> None:
    doomed = worker_in(group, place)
    hold = {"on_crash": "hold"}
    doomed.ask("enqueue", task="work", keys=["a", "b"], args=[60], options=hold)
    place.wait_for("started", ["a", "b"])
    sibling = worker_in(group, place)
    sibling.ask("enqueue", task="work", keys=["healthy"], args=[0.0])
    doomed.ask("enqueue", task="work_sync", keys=["thread"], args=[60])
    Path(f"/proc/{doomed.pid}/oom_score_adj").write_text("1000")
    doomed.begin("eat_memory")
    wait_until(lambda: place.lines("process.recovered", sibling.pid), "the sibling has seen it")
    place.wait_for("ended", ["healthy"])
    wait_until(lambda: len(place.keys("started")) == 4, "what ran goes on or is held")
    told = crashed(place)
    assert {"a", "b"} <= told.keys()
    for message in told.values():
        print(f"\n{message}")
        assert f"Its process (pid {doomed.pid}) died while it ran, with " in message
        assert "killed by SIGKILL" in message
        assert HINT in message
    assert place.rows("SELECT count(*) FROM jobs WHERE state = 'held'") == [(2,)]
    assert doomed.wait() == -9
    sibling.kill()
    assert place.is_sound()


def test_the_next_start_in_the_same_group_tells_of_the_memory(place: Place, group: Path) -> None:
    doomed = worker_in(group, place)
    doomed.ask("enqueue", task="work", keys=["a"], args=[60], options={"on_crash": "hold"})
    place.wait_for("started", ["a"])
    Path(f"/proc/{doomed.pid}/oom_score_adj").write_text("1000")
    doomed.begin("eat_memory")
    assert doomed.wait() == -9  # and asked for: nobody can know the signal any more
    again = worker_in(group, place)
    ((key, message),) = crashed(place).items()
    assert key == "a"
    assert HINT in message
    assert "SIGKILL" not in message
    again.leave()


def test_a_child_process_that_the_kernel_kills_for_want_of_memory_costs_only_its_own_job(
    place: Place, group: Path
) -> None:
    worker = worker_in(group, place)
    worker.ask("enqueue", task="work", keys=["beside"], args=[3.0])
    place.wait_for("started", ["beside"])
    options = {"on_crash": "hold", "run_in": "process"}
    worker.ask("enqueue", task="eat_memory", keys=["eats"], args=[], options=options)
    wait_until(lambda: worker.ask("counts").get("held") == 1, "it is held")
    place.wait_for("ended", ["beside"])
    told = crashed(place)
    print(f"\n{told}")
    assert told.keys() == {"eats"}
    assert "SIGKILL" in told["eats"]
    assert place.keys("started") == {"beside": 1, "eats": 1}
    worker.leave()
    assert place.is_sound()
