"""What else a program does with its folder and itself: archives, forks, a second runner, its tests.

What lives here: things that drop file locks or copy descriptors, under load. What does not: plain
deaths (`test_siblings.py`).
"""

from __future__ import annotations

import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from tests.crash.harness import Place, Worker, wait_until


def keys(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def ran_once(place: Place, expected: list[str]) -> None:
    place.wait_for("ended", expected)
    assert place.keys("started") == dict.fromkeys(expected, 1)
    assert place.keys("ended") == dict.fromkeys(expected, 1)


def load(worker: Worker, prefix: str, count: int = 400) -> int:
    return worker.begin("enqueue", task="work", keys=keys(prefix, count), args=[0.005])


def test_an_archive_of_the_folder_made_inside_a_process_harms_nobody(
    place: Place, tmp_path: Path
) -> None:
    one, two = place.workers(2)
    one.ask("enqueue", task="work", keys=["long"], args=[3])
    place.wait_for("started", ["long"])
    for turn in range(4):
        tokens = [load(one, f"a{turn}."), load(two, f"b{turn}.")]
        archive = Path(one.ask("archive", target=str(tmp_path / f"copy{turn}")))
        assert "tasks.db" in zipfile.ZipFile(archive).namelist()
        one.reply(tokens[0])
        two.reply(tokens[1])
    # The archive dropped the locks of the process that made it. Its siblings come and go.
    two.leave()
    three = place.worker()
    three.ask("enqueue", task="work", keys=keys("c", 50), args=[0])
    one.ask("enqueue", task="work", keys=keys("d", 50), args=[0])
    three.leave()
    one.ask("enqueue", task="work", keys=keys("e", 50), args=[0])
    loaded = [key for turn in range(4) for name in "ab" for key in keys(f"{name}{turn}.", 400)]
    ran_once(place, ["long", *loaded, *keys("c", 50), *keys("d", 50), *keys("e", 50)])
    wait_until(lambda: one.ask("counts") == {"succeeded": 3351})
    assert one.ask("health") == []
    one.leave()
    assert place.states() == {"succeeded": 3351}
    assert place.is_sound()
    assert place.failures() == []
    assert place.lines("process.recovered") == []


@pytest.mark.parametrize("how", ["fork", "multiprocessing"])
def test_a_forked_child_that_outlives_its_killed_parent_keeps_no_job(
    place: Place, how: str
) -> None:
    parent, sibling = place.workers(2)
    parent.ask("enqueue", task="work", keys=keys("k", 5), args=[20])
    place.wait_for("started", keys("k", 5))
    child = parent.ask("fork", how=how)
    wait_until(lambda: place.keys("forked"), "the child runs")
    death = parent.kill()
    wait_until(lambda: set(place.keys("started").values()) == {2}, "taken over", 5)
    again = [effect.at - death for effect in place.effects("started") if effect.pid == sibling.pid]
    assert Path(f"/proc/{child}").exists()
    print(f"\nstarted again {max(again):.3f} s after the kill, beside the living child")
    assert max(again) < 1.0
    end_child(place, child)
    # It ended as a program ends, with copies of the parent's connections.
    token = load(sibling, "after", 100)
    sibling.reply(token)
    place.wait_for("ended", keys("after", 100))
    assert place.failures() == []
    sibling.kill()
    assert place.is_sound()


def end_child(place: Place, child: int) -> None:
    Path(f"{place.log}.end").touch()
    wait_until(lambda: is_gone(child), "the child has ended")


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("how", ["fork", "multiprocessing"])
def test_a_forked_child_makes_its_living_parent_look_neither_dead_nor_alive(
    place: Place, how: str
) -> None:
    parent, sibling = place.workers(2)
    parent.ask("enqueue", task="work", keys=keys("k", 5), args=[2])
    place.wait_for("started", keys("k", 5))
    token = load(parent, "load")
    child = parent.ask("fork", how=how)
    wait_until(lambda: place.keys("forked"), "the child runs")
    end_child(place, child)
    parent.reply(token)
    ran_once(place, keys("k", 5) + keys("load", 400))
    # The parent still hears its siblings, and they hear of its end.
    (id,) = sibling.ask("enqueue", task="work", keys=["heard"], args=[0.2])
    assert parent.ask("result", id=id, timeout=5)[0] == "heard"
    parent.leave()
    sibling.ask("enqueue", task="work", keys=["last"], args=[0])
    place.wait_for("ended", ["last"])
    sibling.leave()
    assert place.process_files() == []
    assert place.is_sound()
    assert place.failures() == []
    assert place.lines("process.recovered") == []


@pytest.mark.parametrize("first", ["own", "other"])
def test_two_runners_of_one_process_work_and_close_in_either_order(
    place: Place, first: str
) -> None:
    worker, sibling = place.workers(2, concurrency=5)
    worker.ask("open_other", name="other")
    worker.ask("enqueue", task="work", keys=keys("a", 300), args=[0.01])
    sibling.ask("enqueue", task="work_sync", keys=keys("b", 300), args=[0.01])
    worker.ask("enqueue", task="work", keys=["long"], args=[1])
    if first == "own":
        worker.ask("close_and_stay")
    else:
        worker.ask("close_other", name="other")
    assert len(place.process_files()) == 2
    sibling.ask("enqueue", task="work", keys=keys("c", 100), args=[0.01])
    ran_once(place, keys("a", 300) + keys("b", 300) + keys("c", 100) + ["long"])
    if first == "own":
        worker.ask("close_other", name="other")
    sibling.leave()
    worker.leave()
    assert place.process_files() == []
    assert place.states() == {"succeeded": 701}
    assert place.is_sound()
    assert place.failures() == []
    assert place.lines("process.recovered") == []


APP_UNDER_TEST = """
from fastapi import BackgroundTasks, FastAPI
from fastapi.testclient import TestClient
from embedded_tasks import TaskRunner
from tests.crash.tasks import work

runner = TaskRunner({path!r}, modules=["tests"])
app = FastAPI()
runner.install(app)

@app.post("/")
def post(tasks: BackgroundTasks):
    tasks.add_task(work, "tested", 0.0)

def test_app():
    with TestClient(app) as client:
        for _ in range(5):
            assert client.post("/").status_code == 200
"""


def test_a_test_run_of_the_app_leaves_the_dev_servers_jobs_alone(
    place: Place, tmp_path: Path
) -> None:
    server = place.worker(run=True, concurrency=0)
    ids = server.ask("enqueue", task="work", keys=keys("waiting", 10), args=[0])
    before = place.rows("SELECT * FROM jobs ORDER BY seq")
    files = sorted(path.name for path in place.folder.rglob("*"))
    (tmp_path / "test_app.py").write_text(APP_UNDER_TEST.format(path=str(place.file)))
    code = (
        "import sys, pytest; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '--rootdir', "
        f"{str(tmp_path)!r}, {str(tmp_path / 'test_app.py')!r}]))"
    )
    run = place.script(code, EMBEDDED_TASKS_TESTING="1", PYTHONWARNINGS="default")
    assert run.wait() == 0
    assert len(ids) == 10
    assert place.keys("ended") == {"tested": 5}
    assert place.rows("SELECT * FROM jobs ORDER BY seq") == before
    assert sorted(path.name for path in place.folder.rglob("*")) == files
    runner = place.worker()
    place.wait_for("ended", keys("waiting", 10))
    runner.leave()
    server.leave()
    assert place.failures() == []


def test_a_copy_of_the_file_taken_by_sqlite_is_sound(place: Place, tmp_path: Path) -> None:
    worker = place.worker()
    token = load(worker, "k")
    copy = sqlite3.connect(tmp_path / "copy.db")
    with closing(sqlite3.connect(place.file)) as source, closing(copy):
        source.backup(copy)
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    worker.reply(token)
    ran_once(place, keys("k", 400))
    worker.leave()
    assert place.is_sound()
    assert place.failures() == []
