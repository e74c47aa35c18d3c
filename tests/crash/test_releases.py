"""A release beside the one before, after it, and the one before again: on one file.

What lives here: real processes, some of which run an old release of the package (`tests/releases`)
with an old release of an app. What does not: deploys of one release (`test_deploys.py`). The judges
are the jobs' own effects.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from embedded_tasks.store.opening import SCHEMA_VERSION
from tests.crash.harness import LIMIT, ROOT, Place, Worker, wait_until

RELEASES = ROOT / "tests" / "releases"
OLD_RELEASE = RELEASES / "embedded_tasks-0.1.0-py3-none-any.whl"
FIRST_SCHEMA = 1

COMMON = """
from __future__ import annotations
import asyncio, os, time
from embedded_tasks import task

def note(word, key):
    number = os.open(os.environ["CRASH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(number, f"{word} {key} {os.getpid()} {time.monotonic_ns()}\\n".encode())
    os.close(number)

async def send(key):
    note("send", key)

async def stay(key):
    note("stay", key)
    await asyncio.sleep(600)
"""
OLD_SHOP = (
    COMMON
    + """
async def charge(key):
    note("charge", key)

def report(key):
    note("report", key)

def gone(key):
    note("gone", key)
"""
)
NEW_SHOP = (
    COMMON
    + """
def upgrade(version, args, kwargs):
    assert version == 1
    return (*args, "EUR"), kwargs

@task(version=2, upgrade=upgrade)
async def charge(key: str, currency: str) -> None:
    note(f"charge.{currency}", key)

@task(name="summary", aliases=("shop:report",))
def summarize(key: str) -> None:
    note("summary", key)

def added(key):
    note("added", key)
"""
)


@pytest.fixture(scope="session")
def old_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("release")
    with zipfile.ZipFile(OLD_RELEASE) as wheel:
        wheel.extractall(folder)
    return folder


class Programs:
    """Programs of the old and the new release on the file of a place."""

    def __init__(self, place: Place, folder: Path, old_release: Path) -> None:
        self._place = place
        self._paths: dict[str, str] = {}
        for name, release, source in (("old", old_release, OLD_SHOP), ("new", ROOT, NEW_SHOP)):
            shop = folder / name / "shop.py"
            shop.parent.mkdir()
            shop.write_text(source)
            self._paths[name] = f"{release}:{shop.parent}"
        self._old_release = str(old_release)

    def begin(self, name: str, *, run: bool = True) -> Worker:
        environment = self._place.environment({}) | {"PYTHONPATH": self._paths[name]}
        command = [sys.executable, str(RELEASES / "program.py"), "run" if run else "enqueue"]
        program = Worker(self._place._start(command, environment))
        self._place._stack.callback(program.end)
        return program

    def check(self) -> tuple[int, str]:
        """Run the check with the new code; return its exit code and what it says."""
        environment = self._place.environment({}) | {"PYTHONPATH": self._paths["new"]}
        command = [sys.executable, str(RELEASES / "program.py"), "check"]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT
        )
        assert done.stderr == ""
        return done.returncode, done.stdout

    def start(self, name: str, *, run: bool = True) -> Worker:
        program = self.begin(name, run=run)
        program.ready()
        root = self._old_release if name == "old" else str(ROOT)
        assert program.ask("root") == {"root": root}
        return program


@pytest.fixture
def programs(place: Place, tmp_path: Path, old_release: Path) -> Programs:
    return Programs(place, tmp_path, old_release)


def keys(prefix: str, count: int = 3) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def enqueue(program: Worker, task: str, names: list[str], *args: Any, **options: Any) -> list[str]:
    ids: list[str] = program.ask("enqueue", task=task, keys=names, args=args, options=options)
    return ids


def fact(file: Path, sql: str) -> Any:
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(sql).fetchone()[0]


def held(place: Place) -> dict[str, int]:
    return dict(
        place.rows(
            "SELECT tasks.name, count(*) FROM jobs JOIN tasks ON tasks.id = jobs.task "
            "WHERE state = 'held' GROUP BY tasks.name"
        )
    )


def pids(place: Place, names: list[str]) -> set[int]:
    return {effect.pid for effect in place.effects() if effect.key in names}


def test_the_new_release_migrates_the_file_and_keeps_a_copy(
    place: Place, programs: Programs
) -> None:
    old = programs.start("old", run=False)
    for task in ("send", "charge", "report", "gone"):
        enqueue(old, task, keys(task))
    old.kill()
    assert fact(place.file, "PRAGMA user_version") == FIRST_SCHEMA
    new = programs.start("new")
    assert fact(place.file, "PRAGMA user_version") == SCHEMA_VERSION
    copy = Path(f"{place.file}.before-schema-{FIRST_SCHEMA + 1}")
    assert fact(copy, "PRAGMA user_version") == FIRST_SCHEMA
    assert fact(copy, "SELECT count(*) FROM jobs") == 12
    assert fact(copy, "PRAGMA integrity_check") == "ok"
    place.wait_for("send", keys("send"))
    place.wait_for("charge.EUR", keys("charge"))  # their signature has changed
    place.wait_for("summary", keys("report"))  # their function was renamed
    wait_until(lambda: new.ask("counts") == {"succeeded": 9, "held": 3}, "the rest is held")
    assert held(place) == {"shop:gone": 3}
    ((reason,),) = place.rows("SELECT DISTINCT reason FROM jobs WHERE state = 'held'")
    assert reason == "No running process has a task of this name: shop:gone"
    old = programs.start("old")  # the code is back
    place.wait_for("gone", keys("gone"))
    assert pids(place, keys("gone")) == {old.pid}
    assert place.is_sound()
    assert place.failures() == []


def test_both_releases_run_side_by_side_and_each_runs_what_it_knows(
    place: Place, programs: Programs
) -> None:
    old = programs.start("old")
    before = old.begin("enqueue", task="send", keys=keys("before", 50), args=[])
    new = programs.start("new")  # migrates the file under the old one's hands
    old.reply(before)
    for program, prefix in ((old, "o"), (new, "n")):
        enqueue(program, "send", keys(prefix, 50))
    enqueue(old, "charge", keys("c1"))
    enqueue(old, "gone", keys("gone"))
    enqueue(new, "charge", keys("c2"), "USD")
    enqueue(new, "summarize", keys("s"))
    (id, *_) = enqueue(new, "added", keys("added"))
    everything = keys("before", 50) + keys("o", 50) + keys("n", 50)
    place.wait_for("send", everything)
    place.wait_for("gone", keys("gone"))
    place.wait_for("charge.USD", keys("c2"))
    place.wait_for("added", keys("added"))
    place.wait_for("summary", keys("s"))
    done = place.keys("charge") + place.keys("charge.EUR")
    wait_until(lambda: sum((place.keys("charge") + place.keys("charge.EUR")).values()) == 3)
    assert set(done) <= set(keys("c1"))
    assert pids(place, keys("gone")) == {old.pid}
    assert pids(place, keys("c2") + keys("added") + keys("s")) == {new.pid}
    count = len(everything) + 5 * 3
    wait_until(lambda: new.ask("counts") == {"succeeded": count}, "all are settled")
    assert old.ask("job", id=id)["state"] == "succeeded"  # and can be read by the old one
    assert set(place.keys("send").values()) == {1}
    assert place.rows("SELECT sum(failures), sum(crashes), max(attempt) FROM jobs") == [(0, 0, 1)]
    for program in (old, new):
        program.leave()
    assert place.is_sound()
    assert place.failures() == []


def test_after_a_rollback_the_old_release_runs_what_it_knows_and_leaves_the_rest(
    place: Place, programs: Programs
) -> None:
    old = programs.start("old", run=False)
    enqueue(old, "charge", keys("c1"))
    old.leave()
    new = programs.start("new", run=False)
    enqueue(new, "send", keys("send"))
    enqueue(new, "charge", keys("c2"), "USD")
    enqueue(new, "added", keys("added"))
    new.leave()
    old = programs.start("old")
    place.wait_for("send", keys("send"))
    place.wait_for("charge", keys("c1"))
    enqueue(old, "charge", keys("c3"))
    place.wait_for("charge", keys("c3"))
    wait_until(lambda: old.ask("counts") == {"succeeded": 9, "held": 6}, "the rest is held")
    assert held(place) == {"shop:added": 3, "shop:charge@2": 3}
    assert fact(place.file, "PRAGMA user_version") == SCHEMA_VERSION
    assert {effect.word for effect in place.effects()} == {"send", "charge"}
    new = programs.start("new")
    place.wait_for("charge.USD", keys("c2"))
    place.wait_for("added", keys("added"))
    wait_until(lambda: new.ask("counts") == {"succeeded": 15}, "all are done")
    assert pids(place, keys("c2") + keys("added")) == {new.pid}
    assert place.rows("SELECT sum(failures), sum(crashes) FROM jobs") == [(0, 0)]
    for program in (old, new):
        program.leave()
    assert place.is_sound()
    assert place.failures() == []


def test_a_killed_process_s_jobs_go_on_in_the_other_release(
    place: Place, programs: Programs
) -> None:
    old = programs.begin("old")
    new = programs.start("new")
    old.ready()
    enqueue(old, "stay", ["k"])
    place.wait_for("stay", ["k"])
    assert pids(place, ["k"]) == {old.pid}  # where it was enqueued, a slot was free
    old.kill()
    wait_until(lambda: place.keys("stay")["k"] == 2, "it runs in the new one")
    old = programs.start("old")
    new.kill()
    wait_until(lambda: place.keys("stay")["k"] == 3, "and in the old one again")
    assert [effect.pid == new.pid for effect in place.effects("stay")] == [False, True, False]
    assert place.rows("SELECT failures, crashes FROM jobs") == [(0, 2)]
    assert place.is_sound()
    assert place.failures() == []


def test_a_check_with_the_new_code_tells_what_it_could_not_run(
    place: Place, programs: Programs
) -> None:
    """While the old release runs, and again when it is gone; the file is not migrated."""
    old = programs.start("old")
    for task in ("send", "charge", "report", "gone"):
        enqueue(old, task, keys(task), delay=600)
    names = {path.name for path in place.folder.iterdir()}
    code, text = programs.check()
    print(f"\n{text}")
    assert code == 1
    assert "12 jobs have not finished" in text
    assert "3 of shop:gone could not be run" in text
    assert text.count("could not be run") == 1
    assert {path.name for path in place.folder.iterdir()} == names
    enqueue(old, "send", ["now"])  # it was not disturbed
    place.wait_for("send", ["now"])
    old.leave()
    names = {path.name for path in place.folder.iterdir()}
    assert f"{place.file.name}-wal" not in names
    assert programs.check() == (code, text)
    assert {path.name for path in place.folder.iterdir()} == names
    assert fact(place.file, "PRAGMA user_version") == FIRST_SCHEMA
    assert not list(place.folder.glob("*.before-schema-*"))
    assert place.is_sound()
    assert place.failures() == []
