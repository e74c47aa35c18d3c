"""The status routes for an app's own users: each sees and cancels the jobs that are theirs.

What lives here: `status_router`. What does not: what operators see (`routes`). Included by users
in their app.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypedDict, Unpack

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from pydantic import BaseModel, Field

from embedded_tasks.admin.access import Access, Role
from embedded_tasks.admin.desk import Desk, Endpoint, check_options
from embedded_tasks.admin.feed import Pace
from embedded_tasks.admin.fields import JobId, LastEventId
from embedded_tasks.admin.models import JobProgress
from embedded_tasks.admin.moments import Moment, known_moment, moment
from embedded_tasks.admin.origins import origins_of
from embedded_tasks.admin.shown import progress_of
from embedded_tasks.admin.streams import JOB_STREAM, JobStream
from embedded_tasks.errors import ConfigurationError, JobNotFoundError, JobStateError
from embedded_tasks.handle import CancelAnswer
from embedded_tasks.job import FINISHED, JobRecord, ShownState
from embedded_tasks.reported import FeedKind
from embedded_tasks.runner import Runner

__all__ = ["OwnJob", "StatusOptions", "status_router"]

_LONGEST_WAIT = 30
_CALLER = "embedded_tasks.caller"
_MOVES = frozenset(
    {
        FeedKind.STARTED,
        FeedKind.PROGRESS,
        FeedKind.ATTEMPT,
        FeedKind.OPERATOR,
        FeedKind.FINISHED,
        FeedKind.RESET,
    }
)


class OwnJob(BaseModel):
    """A job as its owner sees it: nothing of how it is done."""

    id: str
    state: ShownState
    finished: Annotated[bool, Field(description="Whether there is nothing more to wait for.")]
    progress: JobProgress | None
    created_at: Moment
    started_at: Moment | None
    finished_at: Moment | None
    result: Annotated[Any, Field(description="What it came to, where that is shown.")] = None
    reason: Annotated[str | None, Field(description="Why it failed, where that is shown.")] = None


class StatusOptions(TypedDict, total=False):
    """What `status_router` takes beside the runner, the caller and a name.

    Args:
        results: Show what a job returned, its secrets masked (default True).
        reasons: Show why a job failed, which is the text of an exception (default False).
        cancel: Let owners cancel their jobs (default True).
        secrets: Further names whose values are masked, such as "iban".
        allowed_origins: Origins of other front ends whose pages may cancel.
        pace: How long streams wait and live.
    """

    results: bool
    reasons: bool
    cancel: bool
    secrets: Iterable[str]
    allowed_origins: Iterable[str]
    pace: Pace


def status_router(
    runner: Runner,
    *,
    caller: Callable[..., Any],
    name: str = "jobs",
    **options: Unpack[StatusOptions],
) -> APIRouter:
    """Return routes by which an app's users see and cancel the jobs that are theirs.

    A job is theirs when it was enqueued with `options(owner=...)` and `caller` names that owner.
    Others' jobs are answered as if they were not there.

    Args:
        runner: The app's runner.
        caller: A dependency of yours that returns who asks, as text; None is answered with 401.
        name: Begins the operation ids and is their tag; `accepted(job, router=name)` finds it.
        options: See `StatusOptions`.

    Raises:
        ConfigurationError: `caller` is no function, or an option is unknown.

    Example:
        ```python
        app.include_router(admin.status_router(runner, caller=user_id), prefix="/jobs")
        ```
    """
    check_options("status_router", options, StatusOptions.__annotations__)
    may_cancel = () if options.get("cancel", True) else None
    desk = Desk(
        runner,
        Access((Depends(_guard(caller)),), may_cancel, None),
        name=name,
        who=_caller,
        allowed_origins=origins_of(options.get("allowed_origins", ())),
        secrets=options.get("secrets", ()),
        pace=options.get("pace", Pace()),
    )
    router = desk.router()
    desk.add(router, _endpoints(desk, options))
    return router


def _guard(caller: Callable[..., Any]) -> Callable[..., Any]:
    """Return a dependency that lets those through of whom it is known who they are."""
    if not callable(caller):
        raise ConfigurationError(
            f"status_router(caller={caller!r}): expected a dependency, a function that returns "
            "who asks."
        )

    async def remember(request: Request, who: Any = Depends(caller)) -> None:
        if who is None or str(who) == "":
            raise HTTPException(401, "It is not known who asks.")
        request.scope[_CALLER] = str(who)

    return remember


def _caller(request: Request) -> str:
    return str(request.scope[_CALLER])


def _endpoints(desk: Desk, options: StatusOptions) -> list[Endpoint]:
    each = _Endpoints(
        desk, results=options.get("results", True), reasons=options.get("reasons", False)
    )
    later = {
        "Retry-After": {
            "description": "While it is not finished: seconds to wait before asking again.",
            "schema": {"type": "string"},
        }
    }
    return [
        Endpoint(
            "GET",
            "/{job_id}",
            each.get_status,
            OwnJob,
            statuses=(404, 422),
            responses={200: {"headers": later}},
        ),
        Endpoint(
            "GET",
            "/{job_id}/events",
            each.stream_status,
            None,
            statuses=(404, 422),
            responses=JOB_STREAM,
            answers=Response,
        ),
        Endpoint(
            "POST",
            "/{job_id}/cancel",
            each.cancel,
            OwnJob,
            role=Role.OPERATE,
            status=202,
            statuses=(404, 409, 422),
        ),
    ]


class _Endpoints:
    """Their docstrings are what the OpenAPI document says."""

    def __init__(self, desk: Desk, *, results: bool, reasons: bool) -> None:
        self._desk = desk
        self._results = results
        self._reasons = reasons

    async def get_status(
        self,
        job_id: JobId,
        request: Request,
        response: Response,
        wait: Annotated[
            int,
            Query(
                description="Seconds to wait for its end before answering.",
                ge=0,
                le=_LONGEST_WAIT,
            ),
        ] = 0,
    ) -> OwnJob:
        """Tell how a job is; with `wait`, when it has ended or that time is over."""
        record = await self._own(job_id, request)
        if wait and record.state not in FINISHED:
            await self._wait(record.id, wait)
            record = await self._own(job_id, request)
        if record.state not in FINISHED:
            response.headers["Retry-After"] = "1"
        return self._shown(record)

    async def stream_status(
        self, job_id: JobId, request: Request, last_event_id: LastEventId = None
    ) -> Response:
        """Stream how a job is, each time that this changes; at last `done`."""
        record = await self._own(job_id, request)
        stream = JobStream(
            self._desk,
            record.id,
            data=lambda found: self._shown(found).model_dump(mode="json"),
            looks_at=_MOVES,
        )
        return await stream.answer(record, last_event_id)

    async def cancel(self, job_id: JobId, request: Request) -> OwnJob:
        """Cancel a job: at once if it waits, as far as that can be done if it runs."""
        record = await self._own(job_id, request)
        answer = await self._desk.runner.control.cancel(
            record.id, by=self._desk.who(request), reason="It was cancelled by its owner."
        )
        record = await self._own(job_id, request)
        if answer is CancelAnswer.FINISHED:
            raise JobStateError(record.id, record.shown, "cancelled")
        return self._shown(record)

    async def _own(self, job_id: JobId, request: Request) -> JobRecord:
        """Return a job of the caller's; of others' it is not even told that they are there."""
        record = await self._desk.runner.reports.job(str(job_id))
        if record.belongs_to is None or record.belongs_to != _caller(request):
            raise JobNotFoundError(str(job_id))
        return record

    async def _wait(self, job_id: str, seconds: int) -> None:
        runner = self._desk.runner
        ended = asyncio.ensure_future(runner.wait(job_id, float(seconds)))
        stopped = asyncio.ensure_future(runner.stopping.wait())
        try:
            await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            stopped.cancel()
            await asyncio.gather(ended, stopped, return_exceptions=True)

    def _shown(self, record: JobRecord) -> OwnJob:
        shown = self._desk.shown
        masking = shown.masking_for(record)
        return OwnJob(
            id=record.id,
            state=record.shown,
            finished=record.state in FINISHED,
            progress=None if record.progress is None else progress_of(record.progress, masking),
            created_at=known_moment(record.created_at),
            started_at=moment(record.started_at),
            finished_at=moment(record.finished_at),
            result=shown.result(record).result if self._results else None,
            reason=record.reason and masking.text(record.reason) if self._reasons else None,
        )
