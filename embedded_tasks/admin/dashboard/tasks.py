"""The tasks: how often they succeed, how long they take, and what they are given.

What lives here: the list of tasks, and the page of one. What does not: their jobs. Included by
`pages`.
"""

from __future__ import annotations

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from embedded_tasks.admin.dashboard.drawing import RANGES
from embedded_tasks.admin.dashboard.overview import charts_of, range_of
from embedded_tasks.admin.dashboard.page import Page
from embedded_tasks.admin.dashboard.search import quoted
from embedded_tasks.admin.dashboard.site import Site
from embedded_tasks.admin.figures import JobTask, task_of

__all__ = ["pages"]


def pages(site: Site) -> list[Page]:
    """Return the routes."""
    each = _Pages(site)
    return [
        Page("GET", "/tasks", site.live(each.tasks)),
        Page("GET", "/task", site.live(each.task)),
    ]


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def tasks(self, request: Request) -> Response:
        """Show every task that was ever enqueued."""
        return await self._site.page(
            request, "tasks.html", here="tasks", title="Tasks", tasks=await self._tasks()
        )

    async def task(self, request: Request) -> Response:
        """Show one task."""
        name, wanted = request.query_params.get("name", ""), range_of(request)
        found = next((task for task in await self._tasks() if task.name == name), None)
        if found is None:
            raise HTTPException(404, "No job of a task with this name was ever enqueued.")
        return await self._site.page(
            request,
            "task.html",
            here="tasks",
            title=name,
            task=found,
            query=f"task:{quoted(name)}",
            charts=await charts_of(self._site, wanted, name),
            ranges=list(RANGES.values()),
            wanted=wanted,
        )

    async def _tasks(self) -> list[JobTask]:
        desk = self._site.desk
        return [task_of(each, desk.shown.masking) for each in await desk.runner.reports.tasks()]
