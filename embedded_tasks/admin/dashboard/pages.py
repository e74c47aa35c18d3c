"""The routes of the pages.

What lives here: `add_pages`, and what happens around each page: its headers, and errors as pages.
What does not: the pages. Called by `admin.routes`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from embedded_tasks.admin.dashboard import (
    bulk,
    faults,
    job,
    jobs,
    live,
    overview,
    queues,
    storage,
    tasks,
)
from embedded_tasks.admin.dashboard.page import Page
from embedded_tasks.admin.dashboard.site import Site
from embedded_tasks.admin.desk import Desk
from embedded_tasks.admin.route import StatusRoute

__all__ = ["PageRoute", "add_pages"]

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_PROBLEM: Final = b"application/problem+json"
_DROPPED: Final = frozenset({b"content-type", b"content-length"})


class PageRoute(StatusRoute):
    """A route whose errors are pages for browsers, and problems for everybody else."""

    site: ClassVar[Site]
    security_headers: ClassVar[Mapping[str, str]] = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": _POLICY,
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope, send = self.without_body(scope, send)
        accepted = b",".join(value for key, value in scope["headers"] if key == b"accept")
        if b"text/html" in accepted:
            send = _Pages(self.site, Request(scope), send)
        await super().handle(scope, receive, send)


class _Pages:
    """Sends problems as pages, and everything else as it is."""

    def __init__(self, site: Site, request: Request, send: Send) -> None:
        self._site = site
        self._request = request
        self._send = send
        self._held: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_problem(message):
            self._held = message
        elif self._held is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                await self._send_page(self._held)

    async def _send_page(self, start: Message) -> None:
        problem = json.loads(self._body)
        body = self._site.error(self._request, start["status"], problem["title"], problem["detail"])
        kept = [pair for pair in start["headers"] if pair[0].lower() not in _DROPPED]
        headers = [
            *kept,
            (b"content-type", b"text/html; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
        ]
        await self._send({**start, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})


def _is_problem(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(_PROBLEM)
        for name, value in message["headers"]
    )


def add_pages(desk: Desk, router: APIRouter) -> None:
    """Add the dashboard to a router.

    Args:
        desk: What the pages share with the JSON routes.
        router: Asks the readers' guards.

    Raises:
        ConfigurationError: Jinja2 is not installed.
    """
    site = Site(desk)
    kind = type("PageRoute", (PageRoute, desk.route_class), {"site": site, "words": {}})
    files = [Page("GET", "/static/{asset}", _Files(site).static_file)]
    # Fixed paths stand before those with an id in the same place.
    for pages in (overview, live, bulk, jobs, job, faults, queues, tasks, storage):
        _add(desk, router, kind, pages.pages(site))
    _add(desk, router, kind, files)


def _add(desk: Desk, router: APIRouter, kind: type[PageRoute], pages: Iterable[Page]) -> None:
    for page in pages:
        if desk.access.allows(page.role):
            router.add_api_route(
                page.path,
                page.call,
                methods=[page.method],
                name=f"{desk.name}_page_{page.call.__name__}",
                dependencies=desk.access.beyond_read(page.role),
                include_in_schema=False,
                response_model=None,
                response_class=Response,
                route_class_override=kind,
            )


class _Files:
    def __init__(self, site: Site) -> None:
        self._site = site

    async def static_file(self, asset: str, request: Request) -> Response:
        """Send a static file."""
        found = self._site.assets.answer(request, asset)
        return found or Response(status_code=404)
