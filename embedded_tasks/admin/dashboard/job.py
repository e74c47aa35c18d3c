"""One job: what it was given, what happened to it, and what can be done.

What lives here: its page, and the forms on it. What does not: many jobs (`bulk`). Included by
`pages`.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from embedded_tasks.admin.access import Role
from embedded_tasks.admin.dashboard.page import Fields, Page
from embedded_tasks.admin.dashboard.site import Site
from embedded_tasks.admin.dashboard.words import cut
from embedded_tasks.admin.fields import JobId
from embedded_tasks.admin.models import JobAttempt
from embedded_tasks.errors import JobStateError
from embedded_tasks.handle import CancelAnswer
from embedded_tasks.job import FINISHED, JobState, ShownState

__all__ = ["pages"]

_LINES = 500
_BEGUN = 200
_SUCCEEDED = (
    "The job has succeeded: what it does would be done twice. Go back to it, read its page anew, "
    "and tick “do it once more” if that is what you want."
)


def pages(site: Site) -> list[Page]:
    """Return the routes."""
    each = _Pages(site)
    return [
        Page("GET", "/jobs/{job_id}", each.job),
        Page("POST", "/jobs/{job_id}/retry", each.retry, Role.OPERATE),
        Page("POST", "/jobs/{job_id}/cancel", each.cancel, Role.OPERATE),
        Page("POST", "/jobs/{job_id}/run-now", each.run_now, Role.OPERATE),
        Page("POST", "/jobs/{job_id}/delete", each.delete, Role.ADMIN),
    ]


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def job(self, job_id: JobId, request: Request) -> Response:
        """Show all of one job."""
        desk = self._site.desk
        reports = desk.runner.reports
        record = await reports.job(str(job_id))
        steps = await reports.timeline(record.id)
        log = await reports.logs(record.id, limit=_LINES)
        details = desk.shown.details(record)
        ended = record.state in FINISHED or record.shown is ShownState.HELD
        return await self._site.page(
            request,
            "job.html",
            here="jobs",
            title=f"{record.task} {record.id}",
            job=details,
            lead=_without_messages(details.reason or "", details.attempts),
            steps=desk.shown.timeline(record, steps),
            log=desk.shown.log(record, log),
            can_retry=ended,
            can_cancel=record.state not in FINISHED,
            can_run_now=record.shown in (ShownState.SCHEDULED, ShownState.RETRYING),
            can_delete=ended,
            stream=self._site.route(request, "stream_job", job_id=record.id),
            done="done",
        )

    async def retry(self, job_id: JobId, request: Request, fields: Fields) -> Response:
        """Queue it again; what has succeeded, perhaps meanwhile, only if that is meant."""
        runner, who = self._site.desk.runner, self._site.desk.who(request)
        if ("sure", "yes") not in fields:
            record = await runner.reports.job(str(job_id))
            if record.state is JobState.SUCCEEDED:
                raise HTTPException(422, _SUCCEEDED)
        await runner.control.retry(str(job_id), by=who)
        return self._back(request, job_id, "retry", fields)

    async def cancel(self, job_id: JobId, request: Request, fields: Fields) -> Response:
        """Cancel it."""
        runner, who = self._site.desk.runner, self._site.desk.who(request)
        answer = await runner.control.cancel(str(job_id), by=who)
        if answer is CancelAnswer.FINISHED:
            record = await runner.reports.job(str(job_id))
            raise JobStateError(record.id, record.shown, "cancelled")
        return self._back(request, job_id, f"cancel-{answer.value}", fields)

    async def run_now(self, job_id: JobId, request: Request, fields: Fields) -> Response:
        """Make it due now."""
        who = self._site.desk.who(request)
        await self._site.desk.runner.control.run_now(str(job_id), by=who)
        return self._back(request, job_id, "run_now", fields)

    async def delete(self, job_id: JobId, request: Request, fields: Fields) -> Response:
        """Remove it."""
        if ("sure", "yes") not in fields:
            raise HTTPException(422, "Tick “I am sure” first: a deleted job cannot be had back.")
        who = self._site.desk.who(request)
        await self._site.desk.runner.control.delete(str(job_id), by=who)
        return self._site.see(request, "jobs", did="delete", n=1)

    def _back(self, request: Request, job_id: JobId, did: str, _fields: Fields) -> Response:
        return self._site.see(request, "job", job_id=str(job_id), did=did)


def _without_messages(reason: str, attempts: Sequence[JobAttempt]) -> str:
    """Return a reason that only begins with what its attempt tells whole."""
    for message in (each.error.message for each in attempts if each.error):
        reason = reason.replace(message, cut(message, _BEGUN)) if message else reason
    return reason
