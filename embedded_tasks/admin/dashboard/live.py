"""The stream that pages follow: that something has changed, not what.

What lives here: its route. What does not: how often it is told (`runner.reports.changes`).
Included by `pages`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Query, Response

from embedded_tasks.admin.dashboard.page import Page
from embedded_tasks.admin.dashboard.site import Site
from embedded_tasks.admin.feed import until_stopped
from embedded_tasks.admin.fields import LastEventId
from embedded_tasks.admin.sse import KEEP_ALIVE, EventStream, frame, retry

__all__ = ["pages"]


def pages(site: Site) -> list[Page]:
    """Return the routes."""
    return [Page("GET", "/changes", _Pages(site).changes)]


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def changes(
        self,
        since: Annotated[str | None, Query(max_length=100, pattern=r"^[0-9-]*$")] = None,
        last_event_id: LastEventId = None,
    ) -> Response:
        """Tell that something has changed since a page was made, and whenever it does."""
        # Where the runner is not there, that is told by a status.
        _ = self._site.desk.runner
        return EventStream(self._frames(last_event_id or since))

    async def _frames(self, after: str | None) -> AsyncIterator[bytes]:
        runner = self._site.desk.runner
        yield retry()
        last = after or await runner.reports.mark()
        yield frame("open", {}, last)
        source = runner.reports.changes(last)
        async for change in until_stopped(source, runner.stopping, self._site.desk.pace):
            if change is None:
                yield KEEP_ALIVE
            else:
                yield frame("changed", {"within": round(change.within, 2)}, change.mark)
