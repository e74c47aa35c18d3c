"""A process of its own that does one thing with a runner, and says as JSON what came of it.

What lives here: what it does. What does not: what is made of it. Started by `start`, which the
modules that measure call.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import structlog

from benchmarks.figures import percentile
from benchmarks.jobs import linger, mark, marks, nothing
from benchmarks.observing import Settled
from embedded_tasks import TaskRunner

__all__ = ["BEGIN", "END", "ask", "command", "hear", "start", "tell"]

# What a trace of system calls is cut at.
BEGIN, END = b"benchmark begins\n", b"benchmark ends\n"

_ROOT = Path(__file__).resolve().parents[1]


def command(do: str, path: Path, **options: Any) -> list[str]:
    """Return the command line of a process that does this with a runner on that file."""
    given = json.dumps({"do": do, "path": str(path.resolve()), **options})
    return [sys.executable, "-m", "benchmarks.child", given]


def start(do: str, path: Path, **options: Any) -> subprocess.Popen[str]:
    """Start a process; it is ready when it has written a line."""
    process = subprocess.Popen(
        command(do, path, **options),
        cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip  # one call
    assert process.stdout is not None
    if not process.stdout.readline():
        raise RuntimeError(f"the process for {do!r} did not start; what it wrote is above")
    return process


def tell(process: subprocess.Popen[str]) -> None:
    """Let a process go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[str]) -> Any:
    """Return what came of it."""
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def ask(process: subprocess.Popen[str]) -> Any:
    """Let a process go on, and return what came of it."""
    tell(process)
    return hear(process)


def _say(value: Any = None) -> None:
    print(json.dumps(value), flush=True)


async def _heard() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


def _runner(options: dict[str, Any], *observers: Any, **settings: Any) -> TaskRunner:
    return TaskRunner(options["path"], modules=["benchmarks"], observers=observers, **settings)


async def _callers(options: dict[str, Any]) -> None:
    """Enqueue by so many callers for so many seconds."""
    times: list[float] = []
    async with _runner(options) as runner:
        await runner.enqueue(nothing, 0)
        _say()
        await _heard()
        begun = time.monotonic()
        end = begun + options["seconds"]

        async def call() -> None:
            while (before := time.monotonic()) < end:
                await runner.enqueue(nothing, 1)
                times.append((time.monotonic() - before) * 1000)

        await asyncio.gather(*(call() for _ in range(options["callers"])))
        rate = len(times) / (time.monotonic() - begun)
    _say({"rate": rate, "p50": percentile(times, 50), "p99": percentile(times, 99)})


async def _marks(options: dict[str, Any]) -> None:
    """Enqueue one job for each line, and say when it was stored."""
    async with _runner(options) as runner:
        _say()
        while await _heard():
            await runner.enqueue(mark, 1)
            _say(time.monotonic())


async def _life(options: dict[str, Any]) -> None:
    """Enqueue some jobs, open the file for running, run as many; say how fast each was."""
    _say()
    jobs, callers = options["jobs"], 100
    async with _runner(options) as runner:
        begun = time.monotonic()
        await asyncio.gather(*(_enqueue(runner, jobs // callers) for _ in range(callers)))
        enqueued = jobs / (time.monotonic() - begun)
    settled = Settled(jobs)
    begun = time.monotonic()
    async with _runner(options, settled).open(run_jobs=True):
        ready = time.monotonic() - begun
        begun = time.monotonic()
        await settled.all.wait()
        took = time.monotonic() - begun
        found = {"ready": ready, "enqueued": enqueued, "claimed": jobs / took, "took": took}
        await _heard()
        _say({**found, "memory": _memory()})


async def _enqueue(runner: TaskRunner, jobs: int) -> None:
    for number in range(jobs):
        await runner.enqueue(nothing, number)


async def _die(options: dict[str, Any]) -> None:
    """Run so many jobs at once, and die of SIGKILL."""
    jobs = options["jobs"]
    started = marks.renew()
    async with _runner(options) as runner:
        # Before all that waits already.
        first = runner.options(priority=1)
        await asyncio.gather(*(first.enqueue(linger, 1) for _ in range(jobs)))
    async with _runner(options, concurrency=jobs).open(run_jobs=True):
        for _ in range(jobs):
            await started.get()
        _say()
        os.kill(os.getpid(), signal.SIGKILL)


async def _open(options: dict[str, Any]) -> None:
    """Open the file for running, and say how long it took until the dead were recovered too."""
    _say()
    await _heard()
    begun = time.monotonic()
    async with _runner(options).open(run_jobs=True):
        _say(time.monotonic() - begun)
        os.kill(os.getpid(), signal.SIGKILL)


async def _churn(options: dict[str, Any]) -> None:
    """Let so many callers enqueue jobs and wait for each, between two marks for a trace."""
    async with _runner(options).open(run_jobs=True) as runner:
        await (await runner.enqueue(nothing, 0)).result(timeout=30)
        await asyncio.sleep(0.3)
        os.write(2, BEGIN)

        async def call() -> None:
            for number in range(options["jobs"] // options["callers"]):
                await (await runner.enqueue(nothing, number)).result(timeout=60)

        await asyncio.gather(*(call() for _ in range(options["callers"])))
        await asyncio.sleep(0.3)
        os.write(2, END)
    _say()


def _memory() -> float:
    """Return the resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024 / 1024


_DO: dict[str, Callable[[dict[str, Any]], Awaitable[None]]] = {
    "callers": _callers,
    "churn": _churn,
    "die": _die,
    "life": _life,
    "marks": _marks,
    "open": _open,
}


async def _run(options: dict[str, Any]) -> None:
    await _DO[options["do"]](options)


def main(arguments: Sequence[str]) -> None:
    """Do what the only argument says."""
    structlog.configure(
        # An error is what the process is for, where it finds another one dead.
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    asyncio.run(_run(json.loads(arguments[0])))


if __name__ == "__main__":
    main(sys.argv[1:])
