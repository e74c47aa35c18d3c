"""The endpoints that stream: all events, and those of one job.

What lives here: server-sent events for operators. What does not: how a stream waits and ends
(`feed`), and its bytes (`sse`). Included by `routes`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

from fastapi import Response

from embedded_tasks.admin.broadcast import Broadcast
from embedded_tasks.admin.desk import Desk, Endpoint
from embedded_tasks.admin.feed import data_of, until_stopped
from embedded_tasks.admin.fields import JobId, LastEventId
from embedded_tasks.admin.shown import lines_of
from embedded_tasks.admin.sse import KEEP_ALIVE, EventStream, frame, retry
from embedded_tasks.errors import JobNotFoundError
from embedded_tasks.job import FINISHED, JobRecord
from embedded_tasks.masking import Masking
from embedded_tasks.reported import FeedEvent, FeedKind

__all__ = ["JOB_STREAM", "STREAM", "JobStream", "endpoints"]

_DONE_MARK = ".done"

_EVENT: dict[str, Any] = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "id": {"type": "string", "description": "Hand it back as `Last-Event-ID`."},
        "event": {"type": "string"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"type": "object"},
        },
    },
}

STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `id`, `event` and `data`, which is JSON.",
        "content": {"text/event-stream": {"itemSchema": _EVENT}},
    }
}
"""What the OpenAPI document says of a stream."""
JOB_STREAM: dict[int | str, dict[str, Any]] = {
    **STREAM,
    204: {"description": "The job has finished, and the client has been told all of it."},
}
"""What it says of the stream of one job."""


def endpoints(desk: Desk) -> list[Endpoint]:
    """Return the routes."""
    each = _Endpoints(desk)
    return [
        Endpoint(
            "GET",
            "/events",
            each.stream_events,
            None,
            statuses=(422,),
            responses=STREAM,
            answers=Response,
        ),
        Endpoint(
            "GET",
            "/jobs/{job_id}/events",
            each.stream_job,
            None,
            statuses=(404, 422),
            responses=JOB_STREAM,
            answers=Response,
        ),
    ]


class _Endpoints:
    """Their docstrings are what the OpenAPI document says."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._broadcast = Broadcast(desk)

    async def stream_events(self, last_event_id: LastEventId = None) -> Response:
        """Stream what happens, from now on or from behind `Last-Event-ID` on.

        `reset` means that it is not known what happened meanwhile: read everything anew. A stream
        ends after an hour, and when the process is told to end; come again with the last id.
        """
        # Where the runner is not there, that is told by a status.
        _ = self._desk.runner
        return EventStream(self._broadcast.frames(last_event_id))

    async def stream_job(self, job_id: JobId, last_event_id: LastEventId = None) -> Response:
        """Stream what happens to one job: first how it is, at last `done`.

        A client that comes again after `done` gets 204, at which browsers stop coming.
        """
        record = await self._desk.runner.reports.job(str(job_id))
        shown = self._desk.shown
        masking = shown.masking_for(record)

        def data(found: JobRecord) -> dict[str, Any]:
            return shown.line(found, masking).model_dump(mode="json")

        stream = JobStream(self._desk, record.id, data=data, tells=masking)
        return await stream.answer(record, last_event_id)


class JobStream:
    """The events of one job, from how it is now to its end.

    Args:
        desk: What all endpoints share.
        job_id: The job.
        data: Returns what is told of how the job is.
        tells: Each event is told too, as this masks it; None tells only how the job is.
        looks_at: The kinds of events after which is told how the job is.
    """

    def __init__(
        self,
        desk: Desk,
        job_id: str,
        *,
        data: Callable[[JobRecord], dict[str, Any]],
        tells: Masking | None = None,
        looks_at: Collection[FeedKind] = (FeedKind.FINISHED, FeedKind.RESET),
    ) -> None:
        self._desk = desk
        self._job_id = job_id
        self._data = data
        self._tells = tells
        self._looks_at = looks_at
        self._last: str | None = None
        self._line = 0

    async def answer(self, record: JobRecord, last_event_id: str | None) -> Response:
        """Return the stream, or 204 to a client that has been told all.

        Args:
            record: How the job is.
            last_event_id: The id of the last event that the client has seen.
        """
        seen = last_event_id or ""
        if seen.endswith(_DONE_MARK) and record.state in FINISHED:
            return Response(status_code=204)
        self._last = seen.removesuffix(_DONE_MARK) or None
        return EventStream(self._frames())

    async def _frames(self) -> AsyncIterator[bytes]:
        runner = self._desk.runner
        yield retry()
        # From before it is looked at: nothing falls between the look and the listening.
        here = await runner.reports.place()
        words, done = await self._look()
        yield words
        if done:
            return
        self._last = self._last or here
        source = runner.reports.events(self._last, job_id=self._job_id)
        async for event in until_stopped(source, runner.stopping, self._desk.pace):
            if event is None:
                yield KEEP_ALIVE
                continue
            self._last = event.id
            if self._tells is not None:
                yield await self._told(event, self._tells)
            if event.kind in self._looks_at:
                words, done = await self._look()
                yield words
                if done:
                    return

    async def _told(self, event: FeedEvent, masking: Masking) -> bytes:
        if event.kind is FeedKind.LOG:
            return await self._lines(masking)
        return frame(event.kind.value, data_of(event, masking), event.id)

    async def _lines(self, masking: Masking) -> bytes:
        """Return the lines that were logged since the last look."""
        try:
            page = await self._desk.runner.reports.logs(self._job_id, after=self._line)
        except JobNotFoundError:
            return b""
        if page.lines:
            self._line = page.lines[-1].id
        lines = lines_of(page, masking)
        return b"".join(frame("log", line.model_dump(mode="json"), self._last) for line in lines)

    async def _look(self) -> tuple[bytes, bool]:
        """Return how the job is, and whether that is the last word.

        An event may tell of an end that a retry has undone: the row says how it is.
        """
        try:
            record = await self._desk.runner.reports.job(self._job_id)
        except JobNotFoundError:
            gone = {"id": self._job_id, "state": None}
            return frame("done", gone, f"{self._last or ''}{_DONE_MARK}"), True
        if record.state not in FINISHED:
            return frame("job", self._data(record), self._last), False
        rest = b"" if self._tells is None else await self._lines(self._tells)
        return rest + frame("done", self._data(record), f"{self._last or ''}{_DONE_MARK}"), True
