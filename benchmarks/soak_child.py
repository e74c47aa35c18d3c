"""One process of the soak: it enqueues jobs of every fate, and runs what is due.

What lives here: the jobs and who enqueues them. What does not: restarts and measuring, which are in
`soak.py`. Started by `soak.py` as a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from embedded_tasks import EmbeddedTasksError, JobContext, Retention, Snooze, TaskRunner, task
from embedded_tasks.job import JobState

__all__ = ["main"]

_CALLERS = 20
_ROUND = 50
_TROUBLES = ("loop.failed", "background_work.failed", "observer.failed", "job.not_settled")


class FailureOnPurposeError(Exception):
    """Raised by a task of the soak."""


@task
async def succeed(number: int) -> int:
    return number


@task
def succeed_in_thread(number: int) -> int:
    return number


@task(max_attempts=2, backoff=[0.02])
async def fail_once(number: int, ctx: JobContext | None = None) -> None:
    if ctx is not None and ctx.attempt == 1:
        raise FailureOnPurposeError(number)


@task
async def fail(number: int) -> None:
    raise FailureOnPurposeError(number)


@task
async def snooze_once(number: int, ctx: JobContext | None = None) -> int:
    if ctx is not None and ctx.attempt == 1:
        raise Snooze(0.05)
    return number


@task
async def linger(number: int) -> int:
    await asyncio.sleep(0.05)
    return number


class Caller:
    """Enqueues one round of jobs after another until it is told to stop.

    Args:
        runner: Where to.
        progress: Told after each round how many there were.
    """

    def __init__(self, runner: TaskRunner, stop: asyncio.Event, progress: Progress) -> None:
        self._runner = runner
        self._stop = stop
        self._progress = progress

    async def run(self) -> None:
        """Keep what waits bounded: a round is followed by the next when its last job has ended."""
        while not self._stop.is_set():
            for number in range(_ROUND - 1):
                await self._one(number)
            last = await self._runner.enqueue(succeed, _ROUND)
            self._progress.add(_ROUND)
            while not self._stop.is_set():
                try:
                    await last.result(timeout=1)
                    break
                except TimeoutError:
                    continue
                except EmbeddedTasksError:
                    # Retention was quicker than we.
                    break

    async def _one(self, number: int) -> None:
        """Of fifty jobs: two cancelled, one expired, three failed, four retried, two snoozed."""
        runner = self._runner
        match number:
            case 7:
                # A kill may come before the cancel, and the end waits for what is left.
                job = await runner.options(delay=5).enqueue(succeed, number)
                await job.cancel()
            case 17:
                job = await runner.enqueue(linger, number)
                await job.cancel()
            case 27:
                past = datetime.now(UTC) - timedelta(seconds=10)
                await runner.options(run_at=past, start_within=1).enqueue(succeed, number)
            case 3 | 13 | 23:
                await runner.enqueue(fail, number)
            case 5 | 15 | 25 | 35:
                await runner.enqueue(fail_once, number)
            case 9 | 19:
                await runner.enqueue(snooze_once, number)
            case _ if number % 10 == 1:
                await runner.enqueue(succeed_in_thread, number)
            case _:
                await runner.enqueue(succeed, number)


class Progress:
    """How many jobs this process has enqueued, where another process can read it."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        self._total = 0

    def add(self, jobs: int) -> None:
        """Count some more; what is written survives a SIGKILL."""
        self._total += jobs
        os.pwrite(self._file, f"{self._total:20}".encode(), 0)


def main() -> None:
    """Work until standard input is closed; the arguments are JSON."""
    options = json.loads(sys.argv[1])
    structlog.configure(
        processors=[_only_troubles, structlog.processors.format_exc_info,
                    structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )  # fmt: skip
    asyncio.run(_work(options))


async def _work(options: dict[str, Any]) -> None:
    keep = options["keep"]
    runner = TaskRunner(
        options["path"],
        modules=["benchmarks"],
        retention=Retention(succeeded=keep, failed=keep, cancelled=keep, expired=keep),
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end() -> None:
        # It stays readable: nobody is to be told again and again.
        loop.remove_reader(0)
        stop.set()

    loop.add_reader(0, end)
    progress = Progress(options["progress"])
    async with runner.open(run_jobs=True):
        await asyncio.gather(*(Caller(runner, stop, progress).run() for _ in range(_CALLERS)))
        while options["drains"]:
            counts = await runner.counts()
            if not counts[JobState.QUEUED] + counts[JobState.RUNNING]:
                break
            await asyncio.sleep(0.05)


def _only_troubles(_logger: object, _name: str, event: MutableMapping[str, Any]) -> Any:
    if event["event"] in _TROUBLES:
        return event
    raise structlog.DropEvent
