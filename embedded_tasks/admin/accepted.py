"""What an app's own endpoint answers when it has enqueued a job: 202, and where to ask.

What lives here: `accepted` and its place in the OpenAPI document. What does not: what is answered
there (`status`). Called by users' endpoints.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.routing import NoMatchFound
from starlette.types import Receive, Scope, Send

from embedded_tasks.handle import Job
from embedded_tasks.job import ShownState

__all__ = ["ACCEPTED", "Accepted", "AcceptedJob", "accepted"]


class AcceptedJob(BaseModel):
    """A job that was stored and will run."""

    id: Annotated[str, Field(description="Ask for its status with it.")]
    state: ShownState


_HEADERS: Final = {
    "Location": {
        "description": "Where its status is.",
        "schema": {"type": "string", "format": "uri-reference"},
    },
    "Retry-After": {"description": "Seconds to wait before asking.", "schema": {"type": "integer"}},
}

ACCEPTED: Final[dict[int | str, dict[str, Any]]] = {
    202: {
        "model": AcceptedJob,
        "description": "The job is stored and will run.",
        "headers": _HEADERS,
    }
}
"""For a route's `responses=`: what the OpenAPI document says of `accepted`."""


class Accepted(JSONResponse):
    """The answer; where the job's status is, it finds when it is sent.

    Args:
        job: The job.
        router: The name of the status router.
        retry_after: Seconds to wait before asking.
    """

    def __init__(self, job: Job[Any], *, router: str, retry_after: int) -> None:
        self._job_id = job.id
        self._route = f"{router}_get_status"
        body = AcceptedJob(id=job.id, state=job.state)
        super().__init__(body.model_dump(mode="json"), 202, {"Retry-After": str(retry_after)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        place = self._place(Request(scope))
        if place is not None:
            self.headers["Location"] = place
        await super().__call__(scope, receive, send)

    def _place(self, request: Request) -> str | None:
        try:
            # The path alone: what proxies know the host by is theirs.
            return request.url_for(self._route, job_id=self._job_id).path
        except NoMatchFound:
            return None


def accepted(job: Job[Any], *, router: str = "jobs", retry_after: int = 1) -> Accepted:
    """Return the answer to a request whose job is stored: 202, with where to ask for its status.

    Args:
        job: The job.
        router: The `name` of the `status_router` that shows it; without such a router in the app
            the answer has no `Location`.
        retry_after: Seconds (default 1) that a client should wait before it asks.

    Example:
        ```python
        @app.post("/reports", status_code=202, responses=ACCEPTED)
        async def make_report(month: str, user: User) -> Accepted:
            return accepted(await runner.options(owner=user.id).enqueue(write_report, month))
        ```
    """
    return Accepted(job, router=router, retry_after=retry_after)
