"""A process that opens the runner and does what it is told by lines of JSON.

What lives here: the commands. What does not: starting it, and judging. Started by `forked.py`.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import importlib.util
import json
import multiprocessing
import os
import random
import shutil
import signal
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from embedded_tasks import Job, JobEndedError, NotDurableError, TaskRunner
from embedded_tasks.errors import JobStateError, ResultTimeoutError
from tests.crash import tasks

__all__ = ["main", "make_runner"]


def make_runner() -> TaskRunner:
    """Return a runner as the environment describes it, with its log lines in a file."""
    lines = Path(f"{os.environ['CRASH_LINES']}.{os.getpid()}").open("a", buffering=1)  # noqa: SIM115  # closed at exit
    atexit.register(lines.close)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=str),
        ],
        logger_factory=structlog.WriteLoggerFactory(lines),
    )
    options = json.loads(os.environ.get("CRASH_OPTIONS", "{}"))
    return TaskRunner(os.environ["CRASH_FILE"], modules=modules(), **options)


def modules() -> list[str]:
    """Return the packages of this process: that of the tests, and the one that some have beside."""
    return ["tests", "extra"] if importlib.util.find_spec("extra") else ["tests"]


def say(**fields: Any) -> None:
    os.write(1, json.dumps(fields, default=str).encode() + b"\n")


MANNERS: dict[str, Any] = {
    "delay": 0.1,
    "priority": 5,
    "max_attempts": 3,
    "backoff": [0.01],
    "timeout": 0.1,
    "start_within": 0.2,
    "finish_within": 1.0,
    "queue": "other",
    "on_crash": "fail",
}
"""Options of which a job in a storm has some."""


class Commands:
    """What the process can be told to do; each command is a method, its reply a value."""

    def __init__(self, runner: TaskRunner, opened: AsyncExitStack) -> None:
        self.runner = runner
        self.opened = opened
        self.others: dict[str, AsyncExitStack] = {}

    async def enqueue(
        self, task: str, keys: list[str], args: list[Any], options: dict[str, Any] | None = None
    ) -> list[str]:
        module, _, name = task.rpartition(":")
        source = importlib.import_module(module) if module else tasks
        function: Callable[..., Awaitable[Any]] = getattr(source, name)
        adder = self.runner.options(**options) if options else self.runner
        jobs = await asyncio.gather(*(adder.enqueue(function, key, *args) for key in keys))
        tasks.note("enqueued", keys[0])
        return [job.id for job in jobs]

    async def enqueue_and_die(self, task: str, key: str, args: list[Any]) -> None:
        await self.runner.enqueue(getattr(tasks, task), key, *args)
        tasks.note("killed", key)
        os.kill(os.getpid(), signal.SIGKILL)

    async def result(self, id: str, timeout: float) -> list[Any]:
        try:
            value = await (await self.runner.get(id)).result(timeout)
        except JobEndedError as error:
            value = repr(error)
        return [value, time.monotonic_ns()]

    async def cancel(self, id: str) -> str:
        return (await self.runner.cancel(id)).name

    async def retry(self, id: str) -> None:
        await self.runner.retry(id)

    async def job(self, id: str) -> dict[str, Any]:
        job = await self.runner.get(id)
        record = job.record
        assert record is not None
        return {
            "state": record.state,
            "reason": record.reason,
            "attempt": record.attempt,
            "failures": record.failures,
            "crashes": record.crashes,
            "attempts": [[item.number, item.outcome] for item in record.attempts],
        }

    async def counts(self) -> dict[str, int]:
        return {str(state): count for state, count in (await self.runner.counts()).items() if count}

    async def eat_memory(self) -> None:
        await asyncio.to_thread(tasks.eat)

    async def health(self) -> list[str]:
        return (await self.runner.health()).problems

    async def adopt(self) -> None:
        await self.runner.adopt()

    async def archive(self, target: str) -> str:
        folder = Path(os.environ["CRASH_FILE"]).parent
        return await asyncio.to_thread(partial(shutil.make_archive, target, "zip", folder))

    async def fork(self, how: str) -> int:
        # Since Python 3.12 one is warned of forks beside threads; users fork all the same.
        warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
        if how == "multiprocessing":
            process = multiprocessing.get_context("fork").Process(target=_outlive)
            process.start()
            assert process.pid is not None
            return process.pid
        pid = os.fork()
        if pid == 0:
            try:
                _outlive()
                # What a program does at its end, as far as its child shares it.
                atexit._run_exitfuncs()
                gc.collect()
            finally:
                os._exit(0)
        return pid

    async def stir(self, seed: float, count: int, prefix: str) -> None:
        """Do what users do, at random."""
        rng = random.Random(seed)
        jobs: list[Job[Any]] = []
        for number in range(count):
            options = {name: value for name, value in MANNERS.items() if rng.random() < 0.1}
            function, args = rng.choice(tasks.ALL)
            jobs.append(
                await self.runner.options(**options).enqueue(function, f"{prefix}{number}.", *args)
            )
            if rng.random() < 0.2:
                await rng.choice(jobs).cancel()
            if rng.random() < 0.1:
                with contextlib.suppress(JobStateError):
                    await rng.choice(jobs).retry()
            if rng.random() < 0.1:
                with contextlib.suppress(JobEndedError, ResultTimeoutError, NotDurableError):
                    await rng.choice(jobs).result(0.05)

    async def close_and_stay(self) -> None:
        await self.opened.aclose()

    async def open_other(self, name: str) -> None:
        stack = self.others[name] = AsyncExitStack()
        other = TaskRunner(os.environ["CRASH_FILE"], modules=modules())
        await stack.enter_async_context(other.open(run_jobs=True))

    async def close_other(self, name: str) -> None:
        await self.others.pop(name).aclose()


def _outlive() -> None:
    """Stay until the file appears, as a forked child that forgot its parent."""
    tasks.note("forked", "child")
    while not Path(os.environ["CRASH_LOG"] + ".end").exists():
        time.sleep(0.02)


async def orders() -> AsyncIterator[dict[str, Any]]:
    """What the test tells this process to do, until it says stop."""
    text = b""
    # Not sys.stdin, whose lock a forked child would wait for.
    while data := await asyncio.to_thread(os.read, 0, 65536):
        *lines, text = (text + data).split(b"\n")
        for order in map(json.loads, lines):
            if order["do"] == "stop":
                return
            yield order


async def serve(runner: TaskRunner, *, run_jobs: bool) -> None:
    async with AsyncExitStack() as opened:
        await opened.enter_async_context(runner.open(run_jobs=run_jobs))
        say(ready=os.getpid())
        commands = Commands(runner, opened)
        pending: set[asyncio.Task[None]] = set()
        async for order in orders():
            task = asyncio.create_task(_obey(commands, order))
            pending.add(task)
            task.add_done_callback(pending.discard)
        for task in pending:
            task.cancel()
    say(stopped=os.getpid())


async def _obey(commands: Commands, order: dict[str, Any]) -> None:
    token, name = order.pop("token"), order.pop("do")
    try:
        say(token=token, value=await getattr(commands, name)(**order))
    except Exception as error:  # noqa: BLE001  # told to the test
        say(token=token, error=repr(error))


def main(mode: str) -> None:
    """Be the worker until it is told to stop; in mode "enqueue" it runs no jobs."""
    asyncio.run(serve(make_runner(), run_jobs=mode == "run"))
