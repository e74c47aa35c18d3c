"""Failures by kind, with one button to retry all of a kind.

What lives here: the page of errors. What does not: single failures (`job`). Included by `pages`.
"""

from __future__ import annotations

from fastapi import Request, Response

from embedded_tasks.admin.dashboard.page import Page
from embedded_tasks.admin.dashboard.site import Site
from embedded_tasks.admin.figures import group_of

__all__ = ["pages"]

_MOST = 100


def pages(site: Site) -> list[Page]:
    """Return the routes."""
    return [Page("GET", "/errors", site.live(_Pages(site).errors))]


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def errors(self, request: Request) -> Response:
        """Show kinds of failures: the same error class, raised at the same place."""
        desk, task = self._site.desk, request.query_params.get("task") or None
        groups = await desk.runner.reports.error_groups(limit=_MOST, task=task)
        return await self._site.page(
            request,
            "errors.html",
            here="errors",
            title="Errors",
            task=task,
            groups=[group_of(group, await desk.masking_for(group.sample)) for group in groups],
        )
