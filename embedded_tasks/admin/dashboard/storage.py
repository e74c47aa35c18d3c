"""How safe what is stored is, and what operators did.

What lives here: the pages of durability and of the audit trail. What does not: jobs. Included by
`pages`.
"""

from __future__ import annotations

import re

from fastapi import Request, Response

from embedded_tasks.admin.cursors import CURSOR, cursor_of, key_of
from embedded_tasks.admin.dashboard.page import Page
from embedded_tasks.admin.dashboard.site import Site
from embedded_tasks.admin.figures import audit_entry_of

__all__ = ["pages"]


def pages(site: Site) -> list[Page]:
    """Return the routes."""
    each = _Pages(site)
    return [
        Page("GET", "/durability", site.live(each.durability)),
        Page("GET", "/audit", site.live(each.audit)),
    ]


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def durability(self, request: Request) -> Response:
        """Show the file, its processes, and what is not durable."""
        desk = self._site.desk
        found = await desk.runner.reports.durability()
        sites = [(each, desk.shown.masking.text(each.reason)) for each in found.non_durable_sites]
        return await self._site.page(
            request, "durability.html", here="durability", title="Durability", it=found, sites=sites
        )

    async def audit(self, request: Request) -> Response:
        """Show what operators did."""
        asked = request.query_params.get("cursor", "")
        before = key_of(asked) if re.fullmatch(CURSOR, asked) else None
        page = await self._site.desk.runner.control.audit(before=before)
        masking = self._site.desk.shown.masking
        return await self._site.page(
            request,
            "audit.html",
            here="audit",
            title="Audit",
            entries=[audit_entry_of(entry, masking) for entry in page.entries],
            following=None if page.next is None else cursor_of(page.next),
            first=before is None,
        )
