"""Responses that never end by themselves: an app's event streams, when the process is told to end.

What lives here: ending them, after the time that jobs have too. What does not: other long
responses, which are the server's to wait for. Used by the edge of an app.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable

import structlog
from starlette.types import Message, Send

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
        self.are_open: bool = False
        """Whether there is any."""
        self._cut: set[asyncio.Task[object]] = set()
        self._watch: asyncio.Task[None] | None = None

    def watched(self, send: Send, task: asyncio.Task[object] | None) -> Send:
        """Return `send` for a request, which sees when an event stream begins and ends.

        It is in the way of every answer: no more than a look at its headers.

        Args:
            send: The server's.
            task: What is ended if it is one; the task that the request runs in.
        """
        is_open = False

        def see(message: Message) -> Awaitable[None]:
            nonlocal is_open
            if message["type"] == "http.response.start":
                # Under test an app may be called on another loop, where there is nothing to watch.
                if (
                    task is not None
                    and _is_event_stream(message.get("headers", ()))
                    and self._runner.runs_on_this_loop()
                ):
                    is_open = True
                    self._opened(task)
            elif is_open and not message.get("more_body", False):
                # What runs after the response is not cut off.
                self._closed(task)
            return send(message)

        return see

    def over(self, task: asyncio.Task[object] | None) -> None:
        """A request has ended, perhaps without the last word of its stream."""
        self._closed(task)

    async def was_ended(
        self, error: BaseException, task: asyncio.Task[object] | None, send: Send
    ) -> bool:
        """Return whether a request has raised because its stream was ended here; say so then."""
        if not (isinstance(error, asyncio.CancelledError) and self._was_cut(task)):
            return False
        await send(_LAST)
        return True

    def _opened(self, task: asyncio.Task[object]) -> None:
        self._open.add(task)
        self.are_open = True
        if self._watch is None:
            self._watch = asyncio.create_task(self._end_all(), name="embedded_tasks streams")

    def _closed(self, task: asyncio.Task[object] | None) -> None:
        if task is None or task not in self._open:
            return
        self._open.discard(task)
        self.are_open = bool(self._open)
        if not self._open and self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _was_cut(self, task: asyncio.Task[object] | None) -> bool:
        """Return whether a cancellation was ours, and nobody else's too."""
        if task is None or task not in self._cut:
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
