"""The load whose disk is recorded: a runner that does all it can do, is killed, and starts again.

What lives here: the jobs, and what a client asks for, with a line for each answer that it got. What
does not: recording (`recording.py`), judging. Started by `recording.py`; the judge runs the jobs.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.types import Message

from embedded_tasks import (
    BackgroundTasks,
    Job,
    JobContext,
    JobFailedError,
    Retention,
    Retry,
    Snooze,
    TaskRunner,
    task,
)
from embedded_tasks.store import checkpoint
from tests.crash.old_release import make_old_file
from tests.crash.power.recording import ACKNOWLEDGEMENTS

__all__ = ["fail", "main", "say", "snooze", "twice", "wait", "work"]

_LONG = "x" * 9_000
_snoozed: set[str] = set()


def say(word: str, key: str) -> None:
    """Write one line, which says what happened to a key, in one system call."""
    path = os.path.join(os.environ["POWER_FOLDER"], ACKNOWLEDGEMENTS)  # noqa: PTH118  # one call
    number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(number, f"{word} {key}\n".encode())
    os.close(number)


async def work(key: str, text: str = "") -> str:
    say("did", key)
    return key + text


async def fail(key: str) -> None:
    say("did", key)
    raise ValueError(key)


@task(max_attempts=3)
async def twice(key: str, ctx: JobContext) -> None:
    """Succeed at the second attempt."""
    if ctx.attempt == 1:
        raise Retry(after=0)
    say("did", key)


async def snooze(key: str) -> None:
    """Say "not now" once."""
    if key not in _snoozed:
        _snoozed.add(key)
        raise Snooze(0)
    say("did", key)


async def wait(key: str) -> None:
    """Take longer than the process lives; a second time, be done at once."""
    if "POWER_LOG" in os.environ and "POWER_SECOND" not in os.environ:
        await asyncio.sleep(600)
    say("did", key)


class Client:
    """Somebody who asks for things, and writes down what was answered.

    Args:
        runner: What is asked.
        prefix: What its keys begin with.
    """

    def __init__(self, runner: TaskRunner, prefix: str) -> None:
        self.runner = runner
        self.app = FastAPI()
        runner.install(self.app)
        self.app.add_api_route("/{key}", _endpoint, methods=["POST"], status_code=202)
        self._prefix = prefix
        self._number = 0

    def key(self) -> str:
        self._number += 1
        return f"{self._prefix}{self._number}"

    async def enqueue(self, function: Callable[..., Any], **options: Any) -> Job[Any]:
        key = self.key()
        texts = [_LONG] if options.pop("long", False) else []
        job = await self.runner.options(**options).enqueue(function, key, *texts)
        say("accepted", key)
        return job

    async def round(self) -> None:
        """Everything once."""
        await asyncio.gather(*(self.enqueue(work) for _ in range(3)))
        await self.post()
        for function in (work, fail, twice, snooze):
            await self.result(await self.enqueue(function))
        await self.result(await self.enqueue(work, long=True))
        await self.cancel(await self.enqueue(work, delay=60))
        await self.retry(await self.enqueue(work))

    async def result(self, job: Job[Any]) -> str:
        key = self._last()
        try:
            await job.result(20)
        except JobFailedError:
            say("failed", key)
        else:
            say("succeeded", key)
        return key

    def _last(self) -> str:
        return f"{self._prefix}{self._number}"

    async def cancel(self, job: Job[Any]) -> None:
        key = self._last()
        say("cancelling", key)
        await job.cancel()
        say("cancelled", key)

    async def retry(self, job: Job[Any]) -> None:
        key = await self.result(job)
        say("retrying", key)
        await job.retry()
        say("retried", key)
        await job.result(20)

    async def post(self) -> None:
        """Reserve two jobs in a request; they are acknowledged when its answer begins."""
        key = self.key()

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                assert message["status"] == 202, message
                say("accepted", f"{key}a")
                say("accepted", f"{key}b")

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST",
            "path": f"/{key}", "raw_path": f"/{key}".encode(), "query_string": b"", "headers": [],
            "scheme": "http", "server": ("test", 80), "client": ("test", 1), "root_path": "",
        }  # fmt: skip  # what a server would say
        await self.app(scope, receive, send)


async def _endpoint(key: str, background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(work, f"{key}a")
    background_tasks.add_task(work, f"{key}b")


def _make_runner() -> TaskRunner:
    path = os.path.join(os.environ["POWER_FOLDER"], "tasks.db")  # noqa: PTH118  # as above
    options = json.loads(os.environ["POWER_OPTIONS"])
    keep = Retention(cancelled=0.01)
    return TaskRunner(path, modules=["tests"], retention=keep, concurrency=4, **options)


async def _life_of_an_old_release() -> None:
    path = Path(os.environ["POWER_FOLDER"], "tasks.db")
    make_old_file(path, f"{__name__}:work", "old", time.time())
    say("accepted", "old")


async def _first_life(rounds: int) -> None:
    runner = _make_runner()
    async with runner.open(run_jobs=True):
        client = Client(runner, "a")
        for _ in range(rounds):
            await client.round()
        await asyncio.gather(*(client.enqueue(wait) for _ in range(3)))
        await client.enqueue(work)
        os.kill(os.getpid(), signal.SIGKILL)


async def _second_life(rounds: int, prefix: str) -> None:
    runner = _make_runner()
    async with runner.open(run_jobs=True):
        client = Client(runner, prefix)
        for _ in range(rounds):
            await client.round()


def _in_child(life: Callable[[], Coroutine[Any, Any, None]], signal_number: int) -> None:
    with warnings.catch_warnings(action="ignore"):  # of threads; there are none yet
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio.run(life())
            code = 0
        except BaseException:  # noqa: BLE001  # as the interpreter does at its end
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal_number


def main() -> None:
    """Live four times: as an old release, killed, closed, closed."""
    rounds = int(os.environ["POWER_SIZE"])
    # Often, and with a WAL that is cut now and then.
    checkpoint.Checkpointer.__init__.__defaults__ = (11,)
    checkpoint._LARGE_WAL = 250_000
    _in_child(_life_of_an_old_release, 0)
    _in_child(partial(_first_life, rounds), signal.SIGKILL)
    os.environ["POWER_SECOND"] = "1"
    _in_child(partial(_second_life, rounds, "b"), 0)
    _in_child(partial(_second_life, 1, "c"), 0)
