"""The endpoints, and the router that is included in the app.

What lives here: what is asked of the runner for each route. What does not: how errors are told
(`problems`, `route`) and what values look like (`models`). Called by users through `admin`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Response, params

from embedded_tasks.admin.cursors import CURSOR, cursor_of, key_of
from embedded_tasks.admin.models import (
    JobAttempt,
    JobCancellation,
    JobDetails,
    JobLine,
    JobLines,
    RunnerHealth,
    StateCounts,
    attempts_of,
    counts_of,
    details_of,
    health_of,
    line_of,
)
from embedded_tasks.admin.problems import documented, problem
from embedded_tasks.admin.route import StatusRoute
from embedded_tasks.errors import ConfigurationError, JobStateError, NotStartedError
from embedded_tasks.handle import CancelAnswer
from embedded_tasks.job import ShownState
from embedded_tasks.runner import Runner
from embedded_tasks.store import JobFilter

__all__ = ["router"]

_EXAMPLE = (
    "Write admin.router(runner, dependencies=[Depends(require_admin)]), where require_admin is "
    "your own function that raises HTTPException(401) or (403) unless an operator asks. The "
    "routes show and change all jobs, so they are never open."
)
_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
_LONGEST_TASK = 500
_LONGEST_LABEL = 200
_LONGEST_PAGE = 200
_LARGE = 50_000

_JobId = Annotated[UUID, Path(description="The id that `enqueue` returned.")]
_WORDS = {
    CancelAnswer.CANCELLED: "It was not running, and will not run.",
    CancelAnswer.STOPPING: "Its async function is being cancelled.",
    CancelAnswer.TOLD: "Its sync function was told; it stops when it looks.",
}


def router(
    runner: Runner,
    *,
    dependencies: Sequence[params.Depends] | None = None,
    name: str = "tasks",
    include_in_schema: bool = True,
) -> APIRouter:
    """Return routes that show what the jobs do and let an operator retry and cancel them.

    Args:
        runner: The app's runner.
        dependencies: At least one `Depends(...)` that lets operators through and nobody else.
        name: Begins the operation ids and is their tag; give each router of an app its own.
        include_in_schema: Whether the app's OpenAPI document shows the routes.

    Raises:
        ConfigurationError: There are no dependencies; the message says what to write.

    Example:
        ```python
        router = admin.router(runner, dependencies=[Depends(require_admin)])
        app.include_router(router, prefix="/admin/tasks")
        ```
    """
    if not isinstance(runner, Runner):
        raise ConfigurationError(f"admin.router({runner!r}): expected the runner. {_EXAMPLE}")
    if not name.isidentifier():
        raise ConfigurationError(f"name={name!r}: expected a name such as 'tasks'.")
    made = APIRouter(
        dependencies=_checked(dependencies),
        route_class=StatusRoute,
        responses=documented(401, 403, 503),
        tags=[name],
        include_in_schema=include_in_schema,
    )
    _add_routes(made, _Endpoints(runner), name)
    return made


def _checked(dependencies: Sequence[params.Depends] | None) -> list[params.Depends]:
    if not dependencies:
        raise ConfigurationError(f"The status routes need dependencies=. {_EXAMPLE}")
    given: Any = dependencies
    items = list(given) if isinstance(given, Sequence) else []
    if not items or not all(isinstance(item, params.Depends) and item.dependency for item in items):
        raise ConfigurationError(f"dependencies={given!r}: expected a list of Depends. {_EXAMPLE}")
    return items


def _add_routes(made: APIRouter, endpoints: _Endpoints, name: str) -> None:
    routes: list[tuple[str, str, Callable[..., Any], object, tuple[int, ...]]] = [
        ("GET", "/jobs", endpoints.list_jobs, JobLines, (422,)),
        ("GET", "/jobs/{job_id}", endpoints.get_job, JobDetails, (404, 422)),
        ("GET", "/jobs/{job_id}/attempts", endpoints.list_attempts, list[JobAttempt], (404, 422)),
        ("POST", "/jobs/{job_id}/retry", endpoints.retry_job, JobLine, (404, 409, 422)),
        ("POST", "/jobs/{job_id}/cancel", endpoints.cancel_job, JobCancellation, (404, 409, 422)),
        ("GET", "/counts", endpoints.get_counts, StateCounts, ()),
        ("GET", "/health", endpoints.get_health, RunnerHealth, ()),
    ]
    for method, path, endpoint, model, statuses in routes:
        made.add_api_route(
            path,
            endpoint,
            methods=[method],
            status_code=200 if method == "GET" else 202,
            response_model=model,
            operation_id=f"{name}_{endpoint.__name__}",
            name=f"{name}_{endpoint.__name__}",
            responses=documented(*statuses),
        )


class _Endpoints:
    """The endpoints of one runner. Their docstrings are what the OpenAPI document says."""

    def __init__(self, runner: Runner) -> None:
        self._own = runner

    @property
    def _runner(self) -> Runner:
        if not self._own.runs_on_this_loop():
            raise NotStartedError("The status routes")
        return self._own

    async def list_jobs(
        self,
        state: Annotated[ShownState | None, Query(description="Only jobs in this state.")] = None,
        task: Annotated[
            str | None,
            Query(description="Its full name.", max_length=_LONGEST_TASK, pattern=_PRINTABLE),
        ] = None,
        queue: Annotated[str | None, Query(max_length=_LONGEST_LABEL, pattern=_PRINTABLE)] = None,
        limit: Annotated[int, Query(ge=1, le=_LONGEST_PAGE)] = 50,
        cursor: Annotated[
            str | None, Query(description="`next_cursor` of the page before.", pattern=CURSOR)
        ] = None,
    ) -> JobLines:
        """List jobs, newest first, without their arguments."""
        before = None if cursor is None else key_of(cursor)
        # One more than asked for tells whether there is a next page.
        wanted = JobFilter(state, task, queue, before, limit + 1)
        found = await self._runner.jobs(wanted)
        page = found[:limit]
        more = len(found) > limit
        return JobLines(
            items=[line_of(job.record) for _, job in page if job.record is not None],
            next_cursor=cursor_of(page[-1][0]) if more else None,
        )

    async def get_job(self, job_id: _JobId) -> JobDetails:
        """Show all of one job: its arguments, result and attempts, secrets masked."""
        record = await self._runner.fetch(str(job_id))
        parameters = self._runner.parameters_of(record.task)
        if len(record.args or "") + len(record.result or "") < _LARGE:
            return details_of(record, parameters)
        # It may be a megabyte of text: other requests go on meanwhile.
        return await to_thread.run_sync(details_of, record, parameters)

    async def list_attempts(self, job_id: _JobId) -> list[JobAttempt]:
        """List the attempts of one job that have ended."""
        return attempts_of((await self._runner.fetch(str(job_id))).attempts)

    async def retry_job(self, job_id: _JobId, response: Response) -> JobLine:
        """Queue a finished or held job again; counters start anew, the history stays."""
        await self._runner.retry(str(job_id))
        response.headers["Location"] = f"../{job_id}"
        return line_of(await self._runner.fetch(str(job_id)))

    async def cancel_job(self, job_id: _JobId, response: Response) -> JobCancellation:
        """Cancel a job: at once if it waits, as far as that can be done if it runs."""
        answer = await self._runner.cancel(str(job_id), reason="It was cancelled by an operator.")
        record = await self._runner.fetch(str(job_id))
        if answer is CancelAnswer.FINISHED:
            raise JobStateError(record.id, record.shown, "cancelled")
        response.headers["Location"] = f"../{job_id}"
        return JobCancellation(
            id=record.id, answer=answer, detail=_WORDS[answer], state=record.shown
        )

    async def get_counts(self) -> StateCounts:
        """Count the jobs in each state, up to a cap."""
        return counts_of(await self._runner.counts())

    async def get_health(self) -> RunnerHealth | Response:
        """Tell whether everything is well in this process; 503 says what is not, in words."""
        health = await self._runner.health()
        if health.ok:
            return health_of(health)
        return problem(503, "unhealthy", " ".join(health.problems), problems=health.problems)
