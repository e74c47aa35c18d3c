"""Responses that never end by themselves: an app's event streams, when the process is told to end.

What lives here: ending them, after the time that jobs have too. What does not: other long
responses, which are the server's to wait for. Used by the edge of an app.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from embedded_tasks.clock import Clock, SystemClock, pause
from embedded_tasks.runner import Runner

__all__ = ["EventStreams"]

_log = structlog.get_logger("embedded_tasks")

_NAME_LENGTH = len(b"content-type")
_LAST: Message = {"type": "http.response.body", "body": b"", "more_body": False}


class EventStreams:
    """The open event streams of one app.

    A server waits for open responses before it ends the lifespan, and an event stream never ends.
    Its client connects again by itself, to the next process, so it may be ended here. Any other
    response is left alone: a download that is cut short looks like a whole one.

    Args:
        runner: The app's; it tells when the process is to end, and how long the grace is.
        clock: Where the time comes from.
    """

    def __init__(self, runner: Runner, clock: Clock | None = None) -> None:
        self._runner = runner
        self._clock = clock or SystemClock()
        self._open: set[asyncio.Task[object]] = set()
        self._cut: set[asyncio.Task[object]] = set()
        self._watch: asyncio.Task[None] | None = None

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app for one request, and end its event stream when its time is over."""
        # Under test an app may be called on another loop, where there is nothing to watch.
        task = self._runner.current_task()
        if task is None or scope["type"] != "http":
            await app(scope, receive, send)
            return

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                if _is_event_stream(message.get("headers", ())):
                    self._opened(task)
            elif task in self._open and not message.get("more_body", False):
                # What runs after the response is not cut off.
                self._closed(task)
            await send(message)

        try:
            await app(scope, receive, watched)
        except asyncio.CancelledError:
            if not self._was_cut(task):
                raise
            await send(_LAST)
        finally:
            if task in self._open:
                self._closed(task)

    def _opened(self, task: asyncio.Task[object]) -> None:
        self._open.add(task)
        if self._watch is None:
            self._watch = asyncio.create_task(self._end_all(), name="embedded_tasks streams")

    def _closed(self, task: asyncio.Task[object]) -> None:
        self._open.discard(task)
        if not self._open and self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _was_cut(self, task: asyncio.Task[object]) -> bool:
        """Return whether a cancellation was ours, and nobody else's too."""
        if task not in self._cut:
            return False
        self._cut.discard(task)
        return task.uncancel() == 0

    async def _end_all(self) -> None:
        await self._runner.stopping.wait()
        await pause(self._clock, self._runner.settings.shutdown_grace)
        _log.info("streams.ended", streams=len(self._open))
        for task in self._open:
            self._cut.add(task)
            task.cancel()


def _is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    for name, value in headers:
        if len(name) == _NAME_LENGTH and name.lower() == b"content-type":
            return value.lower().startswith(b"text/event-stream")
    return False
