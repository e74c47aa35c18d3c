"""Processes that live the script and are killed at one place of it, and the process that goes on.

What lives here: naming the places, forking, killing, and the runner that starts afterwards. What
does not: what must hold (`judging.py`). Called by test_crash_points.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import structlog

from embedded_tasks import TaskRunner
from embedded_tasks.job import FINISHED
from tests.crash.points.judging import check_sound, judge, read_log, states
from tests.crash.points.script import Script

__all__ = ["Point", "each_killed", "points"]

_COMMENT = re.compile(r"^\s*--.*$", re.MULTILINE)
_CONTROL = ("PRAGMA", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


@dataclass(frozen=True, slots=True)
class Point:
    """A place at which the process is killed.

    Args:
        number: How many came before it.
        step: In which step of the script.
        what: Before what: a named statement, one of SQLite's own, "turn" or "done".
    """

    number: int
    step: str
    what: str


class _Named(dict[str, str]):
    """The named statements, which remember which was asked for last."""

    def __init__(self, queries: Mapping[str, str]) -> None:
        super().__init__(queries)
        self.last = ""

    def __getitem__(self, name: str) -> str:
        self.last = name
        return super().__getitem__(name)


class Watch:
    """Counts the places, and does something at one of them.

    Args:
        at: The number of the place.
        act: What to do there.
    """

    def __init__(self, at: int, act: Callable[[], None]) -> None:
        self.points: list[Point] = []
        self._at = at
        self._act = act
        self._step = ""
        self._names: list[_Named] = []

    def boundary(self, what: str) -> None:
        if what.startswith("step "):
            self._step = what.removeprefix("step ")
            return
        if len(self.points) == self._at:
            self._act()
        self.points.append(Point(len(self.points), self._step, what))

    def install(self) -> None:
        """See every statement of this process, of whatever connection."""
        for name, module in list(sys.modules.items()):
            queries = getattr(module, "QUERIES", None)
            if name.startswith("embedded_tasks.") and isinstance(queries, Mapping):
                named = _Named(queries)
                self._names.append(named)
                module.QUERIES = named  # type: ignore[attr-defined]  # it has one
        connect = sqlite3.connect

        def watched(*args: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **options)
            connection.set_trace_callback(self._statement)
            return connection

        sqlite3.connect = watched  # type: ignore[assignment]  # in this process alone

    def _statement(self, text: str) -> None:
        words = _COMMENT.sub("", text).split()
        if words[0].upper() in _CONTROL:
            is_pragma = words[0] == "PRAGMA"
            self.boundary(" ".join(words).partition("(")[0] if is_pragma else words[0])
            return
        name = next((named.last for named in self._names if named.last), "")
        for named in self._names:
            named.last = ""
        self.boundary(name or " ".join(words[:3]))


def points(folder: Path) -> list[Point]:
    """Live the script to its end; return its places."""
    counted, error = folder / "points", folder.with_suffix(".error")

    def work() -> None:
        with _written(error):
            watch = _live(folder, Watch(-1, lambda: None))
        found = [[point.number, point.step, point.what] for point in watch.points]
        counted.write_text(json.dumps(found))

    assert _ended(_fork(work)) == 0, error.read_text()
    return [Point(*row) for row in json.loads(counted.read_text())]


def each_killed(folder: Path, chosen: Sequence[Point], parallel: int = 6) -> None:
    """Live the script once for each of these places, be killed there, go on, and be judged.

    Raises:
        AssertionError: Something does not hold after some of the kills.
    """
    waiting, running = list(reversed(chosen)), dict[int, Point]()
    failed: list[Point] = []
    while waiting or running:
        while waiting and len(running) < parallel:
            point = waiting.pop()
            running[_fork(partial(_one_killed, folder / str(point.number), point))] = point
        # Of these children only: the test run may have others.
        for pid in list(running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                point = running.pop(pid)
                if status:
                    failed.append(point)
        time.sleep(0.002)
    told = [(folder / f"{point.number}.error").read_text() for point in failed[:3]]
    assert not failed, "\n".join([f"{len(failed)} of {len(chosen)}: {failed}", *told])


def _one_killed(folder: Path, point: Point) -> None:
    with _written(folder.with_suffix(".error")):
        watch = Watch(point.number, lambda: os.kill(os.getpid(), signal.SIGKILL))
        assert _ended(_fork(lambda: _live(folder, watch))) == -signal.SIGKILL, point
        judge(folder, read_log(folder / "log"), *_second_life(folder))
    shutil.rmtree(folder)


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """Write an error to a file, for the test run to show."""
    try:
        yield
    except BaseException:
        path.write_text(traceback.format_exc())
        raise


def _live(folder: Path, watch: Watch) -> Watch:
    folder.mkdir()
    os.environ["POINTS_LOG"] = str(folder / "log")
    watch.install()
    asyncio.run(Script(folder / "tasks.db", watch.boundary).live())
    return watch


def _second_life(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Start a runner as a supervisor would, until all is done; return its log and the states."""
    os.environ["POINTS_LOG"] = str(folder / "again")
    path = folder / "tasks.db"
    if path.exists():
        check_sound(path)
    asyncio.run(_run(path))
    check_sound(path)
    return read_log(folder / "again"), states(path)


async def _run(path: Path) -> None:
    runner = TaskRunner(path, modules=["tests"], synchronous="OFF")
    async with runner.open(run_jobs=True):
        until = time.monotonic() + 20
        while left := set(states(path).values()) - {*FINISHED}:
            assert time.monotonic() < until, f"not ended: {left} {states(path)}"
            await asyncio.sleep(0.01)


def _fork(work: Callable[[], object]) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings(action="ignore"):  # of threads: pytest's watchdog is one
        pid = os.fork()
    if pid == 0:
        _become(work)
    return pid


def _ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _become(work: Callable[[], object]) -> NoReturn:
    code = 1
    try:
        os.environ["EMBEDDED_TASKS_TESTING"] = ""  # the file is theirs, as in production
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
        asyncio.set_event_loop(None)
        work()
        code = 0
    finally:
        os._exit(code)
