"""Many jobs at once: first how many it would be, then doing it.

What lives here: the page that asks "are you sure", and what its form does. What does not: one job
(`job`). Included by `pages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from fastapi import Request, Response
from starlette.exceptions import HTTPException

from embedded_tasks.admin.access import Role
from embedded_tasks.admin.bulk import chosen_of, note_of
from embedded_tasks.admin.dashboard.page import Fields, Page
from embedded_tasks.admin.dashboard.search import search_of
from embedded_tasks.admin.dashboard.site import Site
from embedded_tasks.control import BULK_CAP, Action, BulkReport
from embedded_tasks.store import JobFilter

__all__ = ["pages"]

_MOST: Final = 10_000
_NEXT: Final = "Go back to the jobs and choose again."


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a form asks for."""

    action: Action
    query: str
    ids: list[str]
    cap: int


def pages(site: Site) -> list[Page]:
    """Return the routes."""
    each = _Pages(site)
    return [
        Page("GET", "/jobs/bulk", each.preview, Role.OPERATE),
        Page("POST", "/jobs/bulk", each.change, Role.OPERATE),
        Page("POST", "/jobs/bulk/delete", each.remove, Role.ADMIN),
    ]


class _Pages:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def preview(self, request: Request) -> Response:
        """Tell how many jobs it would be; nothing is changed."""
        asked = _asked(request.query_params.multi_items())
        report = await self._do(asked, request, dry_run=True)
        return await self._site.page(
            request,
            "bulk.html",
            here="jobs",
            title="Many jobs at once",
            asked=asked,
            report=report,
            note=self._note(asked),
            stream=None,
        )

    async def change(self, request: Request, fields: Fields) -> Response:
        """Retry, cancel or run now many jobs."""
        asked = _asked(fields)
        if asked.action is Action.DELETE:
            raise HTTPException(422, f"Deleting has a form of its own. {_NEXT}")
        return await self._done(asked, request)

    async def remove(self, request: Request, fields: Fields) -> Response:
        """Delete many jobs."""
        asked = _asked([*fields, ("action", Action.DELETE.value)])
        return await self._done(asked, request)

    async def _done(self, asked: _Asked, request: Request) -> Response:
        report = await self._do(asked, request, dry_run=False)
        return self._site.see(
            request,
            "jobs",
            q=asked.query,
            did=asked.action.value,
            n=report.changed,
            more="1" if report.capped else None,
        )

    async def _do(self, asked: _Asked, request: Request, *, dry_run: bool) -> BulkReport:
        desk = self._site.desk
        return await desk.runner.control.bulk(
            asked.action,
            asked.ids or await self._chosen(asked),
            dry_run=dry_run,
            cap=asked.cap,
            by=desk.who(request),
        )

    def _note(self, asked: _Asked) -> str | None:
        query = search_of(asked.query, self._site.now()).query
        return None if asked.ids or query is None else note_of(asked.action, query)

    async def _chosen(self, asked: _Asked) -> JobFilter | list[str]:
        search = search_of(asked.query, self._site.now())
        if search.query is None:
            raise HTTPException(422, f"{search.problem} {_NEXT}")
        return await chosen_of(self._site.desk, search.query, asked.cap)


def _asked(fields: Sequence[tuple[str, str]]) -> _Asked:
    last = dict(fields)
    ids = [value for key, value in fields if key == "id"]
    try:
        action = Action(last.get("action", ""))
        ids = [str(UUID(each)) for each in ids]
        cap = int(last.get("cap") or BULK_CAP)
    except ValueError:
        raise HTTPException(422, f"The form is not one of this page. {_NEXT}") from None
    if last.get("all") != "1" and not ids:
        raise HTTPException(422, f"No job is chosen. {_NEXT}")
    chosen = [] if last.get("all") == "1" else ids
    return _Asked(action, last.get("q", ""), chosen, min(max(cap, 1), _MOST))
