"""One status route: its errors are problems, and other sites' pages cannot use it.

What lives here: what happens around each endpoint. What does not: the endpoints (`routes`) and the
form of problems. Used by `routes`.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from embedded_tasks.admin.problems import HANDLERS, problem

__all__ = ["StatusRoute", "refusal_of"]

_HANDLERS: Final = "starlette.exception_handlers"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_PORTS: Final = {"http": 80, "https": 443}


class StatusRoute(APIRoute):
    """A route whose errors are problem details, whatever handlers the app has for its own."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Cache-Control"] = "no-store"
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        methods = self.methods or set()
        refusal = None if scope["method"] in _SAFE else refusal_of(Headers(scope=scope))
        if scope["method"] not in methods:
            allowed = ", ".join(sorted(methods))
            response = problem(
                405, "method_not_allowed", f"Use {allowed}.", headers={"Allow": allowed}
            )
            await response(scope, receive, send_guarded)
        elif refusal is not None:
            await problem(403, "cross_site", refusal)(scope, receive, send_guarded)
        else:
            # For this request only. The app's handlers for classes below ours still hold, and
            # an error passes through the dependencies before it becomes a response.
            handlers, _ = scope.get(_HANDLERS, ({}, {}))
            inner = {**scope, _HANDLERS: ({**handlers, **HANDLERS}, {})}
            await super().handle(inner, receive, send_guarded)


def refusal_of(headers: Headers) -> str | None:
    """Return why a request that changes something is refused, or None.

    A browser says itself where a request comes from; a client that is none says nothing, and has
    no cookies that another site could use.

    Args:
        headers: The headers of the request.
    """
    sites = headers.getlist("sec-fetch-site")
    if sites:
        if all(site in ("same-origin", "none") for site in sites):
            return None
        return "A page of another origin sent this request (Sec-Fetch-Site)."
    origins, hosts = headers.getlist("origin"), headers.getlist("host")
    if not origins or (len(origins) == len(hosts) == 1 and _is_same(origins[0], hosts[0])):
        return None
    return (
        "A page of another origin sent this request: Origin and Host differ. "
        "A proxy in front of the app must pass the Host header on."
    )


def _is_same(origin: str, host: str) -> bool:
    try:
        page, here = urlsplit(origin), urlsplit(f"//{host}")
        port = _PORTS.get(page.scheme)
        return (
            port is not None
            and page.hostname is not None
            and (page.hostname, page.port or port) == (here.hostname, here.port or port)
            and _is_bare(page)
            and _is_bare(here)
        )
    except ValueError:  # no host, or a port that is no number
        return False


def _is_bare(parts: SplitResult) -> bool:
    return "@" not in parts.netloc and not (parts.path or parts.query or parts.fragment)
