"""Events as streams that end by themselves: when the process does, and when they have lived long.

What lives here: how a stream waits, breathes and ends. What does not: where events come from
(`runner.reports`, `broadcast`). Called by the streams of this folder.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from embedded_tasks.admin.moments import known_moment
from embedded_tasks.masking import Masking
from embedded_tasks.reported import FeedEvent

__all__ = ["Pace", "data_of", "until_stopped"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a stream waits and lives, in seconds.

    Args:
        keep_alive: A comment is sent when nothing happened for so long (default 15).
        life: The stream ends then; its client comes again and goes on where it was (default an
            hour).
    """

    keep_alive: float = 15.0
    life: float = 3600.0


async def until_stopped(
    source: AsyncIterator[T], stopping: asyncio.Event, pace: Pace
) -> AsyncIterator[T | None]:
    """Yield what comes, and None when nothing came for a while; end when it is time.

    Args:
        source: Where it comes from; closed at the end.
        stopping: Set when the process is told to end: an open stream would hold its server up.
        pace: How long to wait and to live.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + pace.life
    stopped = asyncio.ensure_future(stopping.wait())
    following: asyncio.Future[T] | None = None
    try:
        while not stopped.done() and (left := end - loop.time()) > 0:
            if following is None:
                following = asyncio.ensure_future(_next(source))
            await asyncio.wait(
                (following, stopped),
                timeout=min(pace.keep_alive, left),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if stopped.done():
                return
            if not following.done():
                yield None
                continue
            done, following = following, None
            if isinstance(done.exception(), _EndError):
                return
            yield done.result()
    finally:
        await _given_up(stopped, following)
        close: Callable[[], Awaitable[None]] | None = getattr(source, "aclose", None)
        if close is not None:
            await close()


def data_of(event: FeedEvent, masking: Masking) -> dict[str, Any]:
    """Return what an event tells, without what it does not know, secrets masked."""
    told: dict[str, Any] = {
        "at": known_moment(event.at).isoformat().replace("+00:00", "Z"),
        "job": event.job_id,
        "task": event.task,
        "queue": event.queue,
        "state": event.state and event.state.value,
        "attempt": event.attempt,
        "outcome": event.outcome,
        **masking.values(event.details),
    }
    return {name: value for name, value in told.items() if value is not None}


class _EndError(Exception):
    """The source has ended."""


async def _next(source: AsyncIterator[T]) -> T:
    try:
        return await anext(source)
    except StopAsyncIteration:
        # A task cannot carry this one.
        raise _EndError from None


async def _given_up(*futures: asyncio.Future[Any] | None) -> None:
    waiting = [future for future in futures if future is not None]
    for future in waiting:
        future.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
