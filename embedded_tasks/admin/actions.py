"""The endpoints that change one job.

What lives here: retry, cancel, run now and delete. What does not: many at once (`bulk`). Included
by `routes`.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from embedded_tasks.admin.access import Role
from embedded_tasks.admin.desk import Desk, Endpoint
from embedded_tasks.admin.etags import etag_of, is_same
from embedded_tasks.admin.fields import IfMatch, JobId
from embedded_tasks.admin.models import JobCancellation, JobLine
from embedded_tasks.admin.problems import problem
from embedded_tasks.errors import JobStateError
from embedded_tasks.handle import CancelAnswer

__all__ = ["CANCELLED", "endpoints"]

CANCELLED = {
    CancelAnswer.CANCELLED: "It was not running, and will not run.",
    CancelAnswer.STOPPING: "Its async function is being cancelled.",
    CancelAnswer.TOLD: "Its sync function was told; it stops when it looks.",
}
"""What a cancellation came to, in words."""

_STATUSES = (404, 409, 412, 422)
_PLACE: dict[int | str, dict[str, Any]] = {
    202: {
        "headers": {"Location": {"description": "The job.", "schema": {"type": "string"}}},
    }
}


def endpoints(desk: Desk) -> list[Endpoint]:
    """Return the routes."""
    each = _Endpoints(desk)

    def change(path: str, call: Any, model: object) -> Endpoint:
        return Endpoint(
            "POST",
            f"/jobs/{{job_id}}/{path}",
            call,
            model,
            role=Role.OPERATE,
            status=202,
            statuses=_STATUSES,
            responses=_PLACE,
        )

    return [
        change("retry", each.retry_job, JobLine),
        change("cancel", each.cancel_job, JobCancellation),
        change("run-now", each.run_job_now, JobLine),
        Endpoint(
            "DELETE",
            "/jobs/{job_id}",
            each.delete_job,
            None,
            role=Role.ADMIN,
            status=204,
            statuses=_STATUSES,
            answers=Response,
        ),
    ]


class _Endpoints:
    """Their docstrings are what the OpenAPI document says."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def retry_job(
        self, job_id: JobId, request: Request, response: Response, if_match: IfMatch = None
    ) -> JobLine | Response:
        """Queue a finished or held job again; counters start anew, the history stays."""
        refused = await self._refused(str(job_id), if_match)
        if refused is not None:
            return refused
        await self._desk.runner.control.retry(str(job_id), by=self._desk.who(request))
        return await self._after(str(job_id), response)

    async def cancel_job(
        self, job_id: JobId, request: Request, response: Response, if_match: IfMatch = None
    ) -> JobCancellation | Response:
        """Cancel a job: at once if it waits, as far as that can be done if it runs."""
        refused = await self._refused(str(job_id), if_match)
        if refused is not None:
            return refused
        control = self._desk.runner.control
        answer = await control.cancel(str(job_id), by=self._desk.who(request))
        line = await self._after(str(job_id), response)
        if answer is CancelAnswer.FINISHED:
            raise JobStateError(line.id, line.state, "cancelled")
        return JobCancellation(
            id=line.id, answer=answer, detail=CANCELLED[answer], state=line.state
        )

    async def run_job_now(
        self, job_id: JobId, request: Request, response: Response, if_match: IfMatch = None
    ) -> JobLine | Response:
        """Make a scheduled or retrying job due now."""
        refused = await self._refused(str(job_id), if_match)
        if refused is not None:
            return refused
        await self._desk.runner.control.run_now(str(job_id), by=self._desk.who(request))
        return await self._after(str(job_id), response)

    async def delete_job(
        self, job_id: JobId, request: Request, if_match: IfMatch = None
    ) -> Response:
        """Remove a finished or held job, with its attempts, progress and log."""
        refused = await self._refused(str(job_id), if_match)
        if refused is not None:
            return refused
        await self._desk.runner.control.delete(str(job_id), by=self._desk.who(request))
        return Response(status_code=204)

    async def _refused(self, job_id: str, if_match: str | None) -> Response | None:
        """Return what a client is told whose job has changed since it was read."""
        if if_match is None:
            return None
        record = await self._desk.runner.reports.job(job_id)
        etag = etag_of(record)
        if is_same(etag, if_match):
            return None
        return problem(
            412,
            "changed",
            f"The job has changed since it was read, and is {record.shown} now. Read it again.",
            headers={"ETag": etag},
            state=record.shown.value,
        )

    async def _after(self, job_id: str, response: Response) -> JobLine:
        # Relative to this address: right behind every proxy, prefix and mount.
        response.headers["Location"] = f"../{job_id}"
        return await self._desk.line(await self._desk.runner.reports.job(job_id))
