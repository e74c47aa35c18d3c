"""Other packages that run jobs, each in an environment of its own, beside ours.

What lives here: which they are, how durable each is, their environments, and starting them. What
does not: how they are driven and measured, which is in `peers/`. Called by `__main__`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.figures import Figure
from benchmarks.files import Place
from benchmarks.redis_server import redis_server, redis_version

__all__ = ["FIGURES", "RIVALS", "Rival", "Rivals"]

_ROOT = Path(__file__).resolve().parents[1]
_ENVIRONMENTS = _ROOT / ".venv-peers"
_PATIENCE = 300.0


@dataclass(frozen=True)
class Rival:
    """One package in one setting.

    Args:
        name: What it is called in the table.
        module: What drives it: `peers/with_<module>`.
        packages: What its environment needs; none for ours.
        jobs: How many it gets at a time: fewer for one that is slow, as rates are compared.
        durability: What is synced to the disk, and when.
        kind: "async" or "sync" functions.
        redis: Whether it needs one, and if so whether every command is to be synced.
    """

    name: str
    module: str
    packages: tuple[str, ...]
    jobs: int
    durability: str
    kind: str = "sync"
    redis: bool | None = None


_FULL = "FULL: synced before enqueue returns, outcomes too"
_NORMAL = "NORMAL: synced at a checkpoint; an outage loses what was accepted last"
_MEMORY = "Redis as it comes: memory, and a snapshot after a minute or more"
_ALWAYS = "Redis, appendfsync always: each command synced before it is answered"

RIVALS: Final = [
    Rival("ours, async", "ours", (), 10_000, _FULL, "async"),
    Rival("ours, sync", "ours", (), 5_000, _FULL),
    Rival("tinyjobs, async", "tinyjobs", ("tinyjobs",), 2_000, _NORMAL, "async"),
    Rival("tinyjobs, sync", "tinyjobs", ("tinyjobs",), 1_000, _NORMAL),
    Rival("huey", "huey", ("huey",), 1_000, "FULL; a job is deleted before it runs"),
    Rival("DBOS", "dbos", ("dbos",), 100, "FULL, rollback journal; each step synced"),
    Rival(
        "fastapi-taskflow", "taskflow", ("fastapi-taskflow",), 500,
        "memory until a job has run; then its outcome, FULL", "async",
    ),
    Rival("plainjob (Node)", "plainjob", (), 5_000, _NORMAL, "async"),
    *(
        Rival(f"{name}, {short}", module, packages, jobs, durability, kind, redis)
        for redis, short, durability in ((False, "Redis", _MEMORY), (True, "Redis synced", _ALWAYS))
        for name, module, packages, jobs, kind in (
            ("arq", "arq", ("arq",), 200, "async"),
            ("RQ", "rq", ("rq",), 100, "sync"),
            ("Celery", "celery", ("celery[redis]",), 300, "sync"),
            ("dramatiq", "dramatiq", ("dramatiq[redis]",), 2_000, "sync"),
        )
    ),
]  # fmt: skip  # a rival is a line or two

FIGURES = [
    Figure("enqueue.one", "enqueue, one caller", "jobs/s"),
    Figure("enqueue.hundred", "enqueue, 100 callers", "jobs/s"),
    Figure("drained", "run, when all are enqueued", "jobs/s"),
    Figure("whole", "enqueued, then run", "jobs/s"),
    Figure("meanwhile", "enqueued by 100 callers meanwhile", "jobs/s"),
    Figure("busy.p50", "... from the call to the first line, median", "ms"),
    Figure("busy.p99", "... the same, 99th percentile", "ms"),
    Figure("idle.p50", "one job, nothing else to do: call to first line, median", "ms"),
    Figure("idle.p99", "... the same, 99th percentile", "ms"),
]


@dataclass
class Rivals:
    """Measures what runs on this machine.

    Args:
        place: Where their files are made.
        scale: How much is done; 1 for a full run.
        names: Only rivals whose name has one of these words in it; all if empty.
    """

    place: Place
    scale: float
    names: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        """Make the environments, and find out what cannot run."""
        for rival in self.chosen():
            problem = _problem(rival)
            if problem is None and rival.packages:
                problem = _install(rival)
            if problem is not None:
                self._miss(rival, problem)

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure of each rival."""
        values: dict[str, float] = {}
        for rival in self.chosen():
            if rival.name not in self.missing:
                found = self._one(rival)
                values |= {f"peer.{rival.name}.{key}": value for key, value in found.items()}
        return values

    def chosen(self) -> list[Rival]:
        """Return those that are asked for, and always ours."""
        return [
            rival
            for rival in RIVALS
            if not self.names
            or rival.module == "ours"
            or any(name in rival.name for name in self.names)
        ]

    def _one(self, rival: Rival) -> dict[str, float]:
        folder = self.place.fresh().parent.resolve()
        with ExitStack() as stack:
            environment = {
                **os.environ,
                "PYTHONPATH": str(_ROOT),
                "BENCH_FOLDER": str(folder),
                "BENCH_JOBS": str(int(rival.jobs * self.scale)),
                "BENCH_KIND": rival.kind,
            }
            if rival.redis is not None:
                server = redis_server(folder, synced=rival.redis)
                environment["BENCH_REDIS"] = stack.enter_context(server)
            command, home = _command(rival)
            done = subprocess.run(
                command, cwd=home, env=environment, capture_output=True, text=True,
                timeout=_PATIENCE, check=False,
            )  # fmt: skip  # one call
        if done.returncode:
            self._miss(rival, (done.stderr.strip().splitlines() or ["it failed"])[-1])
            return {}
        answer = json.loads(done.stdout.splitlines()[-1])
        self.versions[rival.name] = answer["version"]
        values: dict[str, float] = answer["values"]
        return values

    def _miss(self, rival: Rival, problem: str) -> None:
        self.missing[rival.name] = problem
        print(f"skipped: {rival.name}: {problem}", file=sys.stderr)


def _problem(rival: Rival) -> str | None:
    """Return why a rival cannot run here."""
    if rival.redis is not None and redis_version() is None:
        return "redis-server is not installed"
    if rival.module == "plainjob":
        if shutil.which("node") is None or shutil.which("npm") is None:
            return "Node is not installed"
        return _install_for_node()
    return None


def _install(rival: Rival) -> str | None:
    """Make a rival's environment, once; return what went wrong."""
    home = _ENVIRONMENTS / rival.module
    stamp = home / "installed"
    if stamp.exists():
        return None
    print(f"installing {', '.join(rival.packages)}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    pip = [str(home / "bin" / "pip"), "install", "-q", "--disable-pip-version-check"]
    if subprocess.run([*pip, *rival.packages], check=False).returncode:
        return "pip could not install it"
    stamp.touch()
    return None


def _install_for_node() -> str | None:
    home = _ENVIRONMENTS / "plainjob"
    if (home / "node_modules" / "plainjob").exists():
        return None
    home.mkdir(parents=True, exist_ok=True)
    (home / "package.json").write_text("{}\n")
    command = ["npm", "install", "--no-fund", "--no-audit", "plainjob", "better-sqlite3"]
    done = subprocess.run(command, cwd=home, stdout=sys.stderr, check=False)
    return "npm could not install it" if done.returncode else None


def _command(rival: Rival) -> tuple[list[str], Path]:
    if rival.module == "plainjob":
        program = _ROOT / "benchmarks" / "peers" / "with_plainjob.mjs"
        return ["node", str(program)], _ENVIRONMENTS / "plainjob"
    python = sys.executable
    if rival.packages:
        python = str(_ENVIRONMENTS / rival.module / "bin" / "python")
    return [python, "-m", f"benchmarks.peers.with_{rival.module}"], _ROOT
