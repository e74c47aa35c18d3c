"""The queues: how long they are, how old, and whether they are paused.

What lives here: their page, and the forms on it. What does not: their jobs. Included by `pages`.
"""

from __future__ import annotations

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from embedded_tasks.admin.access import Role
from embedded_tasks.admin.dashboard.page import Fields, Page, field_of
from embedded_tasks.admin.dashboard.site import Site
from embedded_tasks.admin.figures import queue_of
from embedded_tasks.errors import ConfigurationError

__all__ = ["pages"]


def pages(site: Site) -> list[Page]:
    """Return the routes."""
    each = _Pages(site)
    return [
        Page("GET", "/queues", site.live(each.queues)),
        Page("POST", "/queues/pause", each.pause, Role.OPERATE),
        Page("POST", "/queues/resume", each.resume, Role.OPERATE),
    ]


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def queues(self, request: Request) -> Response:
        """Show the queues."""
        runner = self._site.desk.runner
        found, health = await runner.reports.queues(), await runner.health()
        return await self._site.page(
            request,
            "queues.html",
            here="queues",
            title="Queues",
            queues=[queue_of(queue) for queue in found],
            busy=any(each.depth.value or each.scheduled.value or each.running for each in found),
            health=health,
        )

    async def pause(self, request: Request, fields: Fields) -> Response:
        """Keep the jobs of a queue from starting."""
        return await self._set(request, fields, paused=True)

    async def resume(self, request: Request, fields: Fields) -> Response:
        """Let the jobs of a queue start again."""
        return await self._set(request, fields, paused=False)

    async def _set(self, request: Request, fields: Fields, *, paused: bool) -> Response:
        control = self._site.desk.runner.control
        change = control.pause if paused else control.resume
        try:
            await change(field_of(fields, "queue"), by=self._site.desk.who(request))
        except ConfigurationError as error:
            raise HTTPException(422, str(error)) from None
        return self._site.see(request, "queues", did="pause" if paused else "resume")
