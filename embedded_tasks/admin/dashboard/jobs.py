"""The list of jobs, and the words that its search box completes.

What lives here: their pages. What does not: acting on jobs (`bulk`, `job`). Included by `pages`.
"""

from __future__ import annotations

import re

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from embedded_tasks.admin.cursors import CURSOR, cursor_of
from embedded_tasks.admin.dashboard.page import Page
from embedded_tasks.admin.dashboard.search import KEYS, quoted, search_of
from embedded_tasks.admin.dashboard.site import Site
from embedded_tasks.admin.fields import JobQuery
from embedded_tasks.admin.jobs import page_of
from embedded_tasks.admin.moments import moment
from embedded_tasks.job import ShownState
from embedded_tasks.reported import JobPage

__all__ = ["pages"]

_SHOWN = 50


def pages(site: Site) -> list[Page]:
    """Return the routes."""
    each = _Pages(site)
    return [Page("GET", "/jobs", site.live(each.jobs)), Page("GET", "/jobs/words", each.words)]


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def jobs(self, request: Request) -> Response:
        """Show a page of jobs."""
        asked = request.query_params.get("cursor", "")
        cursor = asked if re.fullmatch(CURSOR, asked) else None
        text = request.query_params.get("q", "")
        search = search_of(text, self._site.now(), limit=_SHOWN, cursor=cursor)
        if search.job_id is not None:
            return self._site.see(request, "job", job_id=search.job_id)
        found = JobPage([])
        if search.query is not None:
            found = await page_of(self._site.desk, search.query)
        counts = await self._site.desk.runner.reports.counts()
        return await self._site.page(
            request,
            "jobs.html",
            here="jobs",
            title="Jobs",
            search=search,
            cursor=cursor,
            lines=[await self._site.desk.line(record) for record in found.jobs],
            following=None if found.next is None else cursor_of(found.next),
            stopped=found.stopped,
            read_back_to=moment(found.read_back_to),
            counts=counts,
            empty=not any(count.value for count in counts.values()),
            export=_export(search.query),
        )

    async def words(self) -> Response:
        """Send what the search box completes."""
        reports = self._site.desk.runner.reports
        return JSONResponse(
            {
                "keys": KEYS,
                "state": [state.value for state in ShownState],
                "task": [quoted(task.name) for task in await reports.tasks()],
                "queue": [quoted(queue.name) for queue in await reports.queues()],
                "after": ["1h", "24h", "7d", "today"],
                "before": ["1h", "24h", "7d", "today"],
            }
        )


def _export(query: JobQuery | None) -> dict[str, object] | None:
    """Return the parameters of an export of the same jobs."""
    if query is None:
        return None
    left_out = {"limit", "cursor", "total"}
    given = query.model_dump(mode="json", exclude=left_out, exclude_none=True)
    return {key: value for key, value in given.items() if value}
