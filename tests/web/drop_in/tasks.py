"""Tasks as an app has them: functions at the top of a module.

What lives here: functions that note that they ran. What does not: any endpoint. Used by the tests
of the adapter.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.background import BackgroundTask

from embedded_tasks import JobContext, task

seen: list[Any] = []
"""What the tasks of the present test have noted, in order."""

SETTING: contextvars.ContextVar[str] = contextvars.ContextVar("SETTING", default="unset")


class TaskError(Exception):
    pass


def forget() -> None:
    seen.clear()
    STARTED.clear()
    GO_ON.clear()


def note(value: Any) -> None:
    seen.append(value)


async def anote(value: Any) -> None:
    await asyncio.sleep(0)
    seen.append(value)


async def slow_note(value: Any) -> None:
    for _ in range(20):
        await asyncio.sleep(0)
    seen.append(value)


def double(number: int) -> int:
    return 2 * number


def fail(value: Any = "failed") -> None:
    seen.append(value)
    raise TaskError(value)


async def afail(value: Any = "failed") -> None:
    seen.append(value)
    raise TaskError(value)


ATTEMPTS: list[str] = []


@task(max_attempts=2, backoff=[3600])
async def fail_until_tomorrow(value: str) -> None:
    seen.append(value)
    raise TaskError(value)


STARTED = threading.Event()
GO_ON = threading.Event()


def wait(value: str) -> None:
    """Runs until the test lets it go on."""
    STARTED.set()
    GO_ON.wait(30)
    seen.append(value)


def change(basket: dict[str, Any]) -> None:
    basket["changed"] = True
    seen.append(dict(basket))


def read_setting() -> None:
    seen.append(SETTING.get())


async def aread_setting() -> None:
    seen.append(SETTING.get())


async def read_log_context() -> None:
    seen.append(structlog.contextvars.get_contextvars())


def tell(ctx: JobContext) -> None:
    seen.append((ctx.attempt, ctx.request_id))


@dataclass
class Order:
    id: int


class Loud(BackgroundTask):
    """A user's own kind of BackgroundTask."""

    async def __call__(self) -> None:
        seen.append("loud")
        await super().__call__()
