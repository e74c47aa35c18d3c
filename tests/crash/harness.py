"""Child processes with one file between them, and the log of what their jobs did.

What lives here: starting servers and workers, telling them things, killing them, and reading the
effects. What does not: what must hold. Called by the crash tests.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

from embedded_tasks.processes import list_processes, processes_folder
from tests.crash.forked import Forked

__all__ = ["LIMIT", "Child", "Effect", "Place", "Server", "Worker", "wait_until"]

ROOT = Path(__file__).parents[2]
LIMIT = 20.0
"""Seconds until a test gives up; what is promised is asserted apart."""


class Effect(NamedTuple):
    """One line of the effects: what happened to which key, in which process, and when."""

    word: str
    key: str
    pid: int
    at: float


def now() -> float:
    """The clock of the effects, which all processes of a machine share."""
    return time.monotonic_ns() / 1e9


def wait_until(holds: Callable[[], object], what: str = "", limit: float = LIMIT) -> float:
    """Wait; return the seconds that it took."""
    begun = now()
    while not holds():
        if now() - begun > limit:
            raise AssertionError(f"not within {limit} s: {what or holds}")
        time.sleep(0.005)
    return now() - begun


@dataclass(slots=True)
class Child:
    """A child process, leader of a group of its own."""

    popen: subprocess.Popen[bytes] | Forked

    @property
    def pid(self) -> int:
        return self.popen.pid

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> float:
        """Kill this process alone, at once; return when."""
        at = now()
        self.popen.kill()
        self.popen.wait(LIMIT)
        return at

    def wait(self, limit: float = LIMIT) -> int:
        return self.popen.wait(limit)

    def end(self) -> None:
        """Kill what is left of its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait(LIMIT)
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


class Worker(Child):
    """A `tests.crash.worker`, told what to do by lines of JSON."""

    def __init__(self, popen: subprocess.Popen[bytes] | Forked) -> None:
        super().__init__(popen)
        self._tokens = 0
        self._text = b""
        self._replies: dict[object, dict[str, Any]] = {}

    def begin(self, do: str, **fields: Any) -> int:
        """Tell it to do something; return the token of the reply."""
        self._tokens += 1
        line = json.dumps({"do": do, "token": self._tokens, **fields}) + "\n"
        assert self.popen.stdin is not None
        self.popen.stdin.write(line.encode())
        self.popen.stdin.flush()
        return self._tokens

    def reply(self, token: int, limit: float = LIMIT) -> Any:
        """Return the value of a reply, waiting for it."""
        reply = self._hear(lambda: self._replies.pop(token, None), limit)
        if "error" in reply:
            raise AssertionError(reply["error"])
        return reply["value"]

    def ask(self, do: str, **fields: Any) -> Any:
        return self.reply(self.begin(do, **fields))

    def ready(self) -> None:
        self._hear(lambda: self._replies.pop("ready", None), LIMIT)

    def leave(self, limit: float = LIMIT) -> None:
        """End it as a program ends that closes its runner."""
        self.begin("stop")
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        assert self.wait(limit) == 0

    def _hear(self, found: Callable[[], dict[str, Any] | None], limit: float) -> dict[str, Any]:
        until = now() + limit
        while (reply := found()) is None:
            assert self.popen.stdout is not None
            number = self.popen.stdout.fileno()
            readable, _, _ = select.select([number], [], [], max(0.0, until - now()))
            data = os.read(number, 65536) if readable else b""
            if not data:
                raise AssertionError("the worker ended" if readable else "the worker is silent")
            *lines, self._text = (self._text + data).split(b"\n")
            for line in map(json.loads, lines):
                self._replies[line.get("token", next(iter(line)))] = line
        return reply


class Server(Child):
    """A real uvicorn that serves `tests.crash.app`."""

    def __init__(self, popen: subprocess.Popen[bytes], port: int) -> None:
        super().__init__(popen)
        self.port = port

    def ready(self, limit: float = LIMIT) -> None:
        def answers() -> bool:
            if self.popen.poll() is not None:
                raise AssertionError(f"the server ended: {self.popen.returncode}")
            try:
                return self.get("/ready") is not None
            except OSError:
                return False

        wait_until(answers, "the server answers", limit)

    def get(self, path: str) -> Any:
        return self._request("GET", path)

    def post(self, path: str, **query: object) -> Any:
        return self._request("POST", f"{path}?{urlencode(query)}")

    def _request(self, method: str, path: str) -> Any:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)) as client:
            client.request(method, path)
            response = client.getresponse()
            text = response.read()
            assert 200 <= response.status < 300, (response.status, text)
            return json.loads(text)


class Place:
    """One database file, the log of effects, and the processes of one test."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder / "data"
        self.folder.mkdir()
        self.file = self.folder / "tasks.db"
        self.log = folder / "effects"
        self._lines = folder / "lines"
        self._errors = (folder / "errors").open("wb")
        stack.callback(self._errors.close)
        self._stack = stack

    def finally_do(self, end: Callable[[], object]) -> None:
        """Do something when the test is over."""
        self._stack.callback(end)

    def environment(self, options: dict[str, object]) -> dict[str, str]:
        return os.environ | {
            "EMBEDDED_TASKS_TESTING": "",  # they share a file, as in production
            "PYTHONPATH": str(ROOT),
            # uvicorn's supervisor leaves its socket to the interpreter's end.
            "PYTHONWARNINGS": "error,ignore:unclosed <socket:ResourceWarning",
            "CRASH_FILE": str(self.file),
            "CRASH_LOG": str(self.log),
            "CRASH_LINES": str(self._lines),
            "CRASH_OPTIONS": json.dumps(options),
        }

    def begin_worker(self, *, run: bool = True, code: Path | None = None, **options: Any) -> Worker:
        """Start a worker without waiting until it is ready; `code` is a folder to import from."""
        environment = self.environment(options)
        if code is not None:
            environment["PYTHONPATH"] += f":{code}"
        mode = "run" if run else "enqueue"
        worker = Worker(Forked(mode, environment, self._errors.fileno()))
        self._stack.callback(worker.end)
        return worker

    def worker(self, **options: Any) -> Worker:
        worker = self.begin_worker(**options)
        worker.ready()
        return worker

    def workers(self, number: int, **options: Any) -> list[Worker]:
        """Start some workers together."""
        workers = [self.begin_worker(**options) for _ in range(number)]
        for worker in workers:
            worker.ready()
        return workers

    def pair(self, **options: Any) -> tuple[Worker, Worker]:
        """Start a worker, and a process that only enqueues."""
        runner, asker = self.begin_worker(**options), self.begin_worker(run=False)
        runner.ready()
        asker.ready()
        return runner, asker

    def server(
        self, *arguments: str, port: int = 0, app: str = "tests.crash.app:app", **options: Any
    ) -> Server:
        """Start uvicorn without waiting until it is ready."""
        port = port or free_port()
        command = [sys.executable, "-m", "uvicorn", app, "--port", str(port)]
        command += ["--log-level", "error", *arguments]
        server = Server(self._start(command, self.environment(options)), port)
        self._stack.callback(server.end)
        return server

    def script(self, code: str, **environment: str) -> Child:
        """Start a program of its own."""
        child = Child(self._start([sys.executable, "-c", code], self.environment({}) | environment))
        self._stack.callback(child.end)
        return child

    def _start(
        self, command: Sequence[str], environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )

    # What can be seen from outside.

    def effects(self, word: str | None = None) -> list[Effect]:
        text = self.log.read_text() if self.log.exists() else ""
        parts = (line.split() for line in text.splitlines(keepends=True) if line.endswith("\n"))
        found = [Effect(part[0], part[1], int(part[2]), int(part[3]) / 1e9) for part in parts]
        return [effect for effect in found if word in (None, effect.word)]

    def keys(self, word: str) -> Counter[str]:
        """How often a word was said of each key."""
        return Counter(effect.key for effect in self.effects(word))

    def of(self, key: str) -> list[str]:
        """What its job said of a key, in its order."""
        effects = (effect for effect in self.effects() if effect.key == key)
        return [effect.word for effect in effects if effect.word != "enqueued"]

    def wait_for(self, word: str, keys: Sequence[str], limit: float = LIMIT) -> float:
        """Wait until a word was said of all these keys."""
        wanted = set(keys)
        what = f"{len(wanted)} keys that have {word}"
        return wait_until(lambda: self.keys(word).keys() >= wanted, what, limit)

    def lines(self, event: str, pid: int | None = None) -> list[dict[str, Any]]:
        """The log lines of an event, of one process or all."""
        pattern = f"{self._lines.name}.{'*' if pid is None else pid}"
        texts = [path.read_text() for path in sorted(self._lines.parent.glob(pattern))]
        whole = (
            part for text in texts for part in text.splitlines(keepends=True) if part[-1:] == "\n"
        )
        parsed = [json.loads(line) for line in whole if line.strip()]
        return [line for line in parsed if line["event"] == event]

    def failures(self) -> list[object]:
        """What no crash explains: loops that failed, and whatever was written to stderr."""
        events = ("loop.failed", "background_work.failed", "observer.failed", "job.not_settled")
        lines: list[object] = [line for event in events for line in self.lines(event)]
        return lines + Path(self._errors.name).read_text().splitlines()

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Read the file; only when every process has ended, or through SQLite's own locks."""
        with closing(sqlite3.connect(self.file)) as connection:
            return connection.execute(sql).fetchall()

    def states(self) -> dict[str, int]:
        return dict(self.rows("SELECT state, count(*) FROM jobs GROUP BY state"))

    def is_sound(self) -> bool:
        return self.rows("PRAGMA integrity_check") == [("ok",)]

    def process_files(self) -> list[str]:
        return list_processes(processes_folder(self.file))

    def by_key(self, word: str) -> dict[str, list[Effect]]:
        """What was said with a word, of each key."""
        found = defaultdict(list)
        for effect in self.effects(word):
            found[effect.key].append(effect)
        return dict(found)


def free_port() -> int:
    """Return a port below those that the system gives away, so that nobody gets it meanwhile."""
    while True:
        port = random.randrange(20_000, 32_000)
        if is_free(port):
            return port


def is_free(port: int) -> bool:
    """Whether a server can listen there, as servers do that have just been restarted."""
    with closing(socket.socket()) as found, suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(("127.0.0.1", port))
        return True
    return False
