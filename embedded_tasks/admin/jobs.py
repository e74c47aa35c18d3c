"""The endpoints that show jobs.

What lives here: lists of jobs and all of one job. What does not: changing any (`actions`).
Included by `routes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from anyio import to_thread
from fastapi import Query, Request, Response

from embedded_tasks.admin.cursors import cursor_of, key_of
from embedded_tasks.admin.desk import Desk, Endpoint
from embedded_tasks.admin.etags import etag_of, is_known
from embedded_tasks.admin.fields import IfNoneMatch, JobId, JobQuery, LogQuery, filter_of
from embedded_tasks.admin.figures import total_of
from embedded_tasks.admin.models import (
    JobAttempt,
    JobDetails,
    JobLines,
    JobLog,
    JobResult,
    JobStep,
    JobTotal,
)
from embedded_tasks.admin.moments import moment
from embedded_tasks.errors import JobStateError
from embedded_tasks.job import JobRecord, JobState
from embedded_tasks.reported import JobPage

__all__ = ["endpoints", "page_of"]

_LARGE = 50_000

T = TypeVar("T")
_NEXT: dict[str, Any] = {
    "Link": {
        "description": 'Where there is a next page: its address, with rel="next".',
        "schema": {"type": "string"},
    }
}
_TAG: dict[str, Any] = {
    "ETag": {"description": "The version of the job.", "schema": {"type": "string"}}
}


def endpoints(desk: Desk) -> list[Endpoint]:
    """Return the routes."""
    each = _Endpoints(desk)
    known: dict[int | str, dict[str, Any]] = {
        304: {"description": "The job is what `If-None-Match` names.", "headers": _TAG}
    }
    one = (404, 422)
    return [
        Endpoint(
            "GET",
            "/jobs",
            each.list_jobs,
            JobLines,
            statuses=(422,),
            responses={200: {"headers": _NEXT}},
        ),
        Endpoint(
            "GET",
            "/jobs/{job_id}",
            each.get_job,
            JobDetails,
            statuses=one,
            responses={200: {"headers": _TAG}, **known},
        ),
        Endpoint(
            "GET", "/jobs/{job_id}/attempts", each.list_attempts, list[JobAttempt], statuses=one
        ),
        Endpoint("GET", "/jobs/{job_id}/timeline", each.get_timeline, list[JobStep], statuses=one),
        Endpoint("GET", "/jobs/{job_id}/logs", each.get_logs, JobLog, statuses=one),
        Endpoint(
            "GET", "/jobs/{job_id}/result", each.get_result, JobResult, statuses=(404, 409, 422)
        ),
    ]


async def page_of(desk: Desk, query: JobQuery) -> JobPage:
    """Return a page of jobs; what is found in texts is found in what is shown of them."""
    before = None if query.cursor is None else key_of(query.cursor)
    wanted = filter_of(query, query.limit, before)
    return await desk.runner.reports.jobs(wanted, shows=desk.shown)


class _Endpoints:
    """Their docstrings are what the OpenAPI document says."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def list_jobs(
        self, request: Request, response: Response, query: Annotated[JobQuery, Query()]
    ) -> JobLines:
        """List jobs, newest first, without their arguments.

        A search in texts reads so many jobs at once; it then ends a page early, says `stopped`,
        and goes on by the cursor.
        """
        page = await page_of(self._desk, query)
        following = None if page.next is None else cursor_of(page.next)
        if following is not None:
            others = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
            link = urlencode([*others, ("cursor", following)])
            response.headers["Link"] = f'<?{link}>; rel="next"'
        return JobLines(
            items=[await self._desk.line(record) for record in page.jobs],
            next_cursor=following,
            stopped=page.stopped,
            read_back_to=moment(page.read_back_to),
            total=await self._total(query),
        )

    async def _total(self, query: JobQuery) -> JobTotal | None:
        wanted = filter_of(query)
        # Counting what is found in texts would find what is masked in them.
        if not query.total or wanted.searches:
            return None
        return total_of(await self._desk.runner.reports.count(wanted))

    async def get_job(
        self, job_id: JobId, response: Response, if_none_match: IfNoneMatch = None
    ) -> JobDetails | Response:
        """Show all of one job: its arguments, result and attempts, secrets masked."""
        record = await self._desk.runner.reports.job(str(job_id))
        etag = etag_of(record)
        if is_known(etag, if_none_match):
            return Response(status_code=304, headers={"ETag": etag})
        response.headers["ETag"] = etag
        return await self._made(record, self._desk.shown.details, record)

    async def list_attempts(self, job_id: JobId) -> list[JobAttempt]:
        """List the attempts of one job that have ended."""
        record = await self._desk.runner.reports.job(str(job_id))
        return await self._made(record, self._desk.shown.attempts, record)

    async def get_timeline(self, job_id: JobId) -> list[JobStep]:
        """Tell what happened to a job, in order, deaths and replays too."""
        reports = self._desk.runner.reports
        record = await reports.job(str(job_id))
        steps = await reports.timeline(record.id)
        return await self._made(record, self._desk.shown.timeline, record, steps)

    async def get_logs(self, job_id: JobId, query: Annotated[LogQuery, Query()]) -> JobLog:
        """List the lines that a job has logged, oldest first."""
        reports = self._desk.runner.reports
        record = await reports.job(str(job_id))
        page = await reports.logs(record.id, after=query.after, limit=query.limit)
        return await self._made(record, self._desk.shown.log, record, page)

    async def get_result(self, job_id: JobId) -> JobResult:
        """Show what a job's function returned; 409 while it has not, or where it did not."""
        record = await self._desk.runner.reports.job(str(job_id))
        if record.state is not JobState.SUCCEEDED:
            raise JobStateError(record.id, record.shown, "asked for a result")
        return await self._made(record, self._desk.shown.result, record)

    @staticmethod
    async def _made(record: JobRecord, make: Callable[..., T], *args: Any) -> T:
        if len(record.args or "") + len(record.result or "") < _LARGE:
            return make(*args)
        # It may be a megabyte of text: other requests go on meanwhile.
        return await to_thread.run_sync(make, *args)
