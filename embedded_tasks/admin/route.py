"""One status route: its errors are problems, and other sites' pages cannot use it.

What lives here: what happens around each endpoint. What does not: the endpoints, and the form of
problems. Used by `desk`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar, Final

from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from embedded_tasks.admin.origins import refusal_of
from embedded_tasks.admin.problems import HANDLERS, MethodRefused, problem

__all__ = ["StatusRoute", "refuse_other_methods"]

_ALLOWED: Final = "embedded_tasks.allowed_methods"
_HANDLERS: Final = "starlette.exception_handlers"
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})


async def refuse_other_methods(request: Request) -> None:
    """Refuse a method that the path does not have; asked behind the guards of the readers.

    Raises:
        MethodRefused: It has others.
    """
    allowed = request.scope.get(_ALLOWED)
    if allowed is not None:
        raise MethodRefused(allowed)


class StatusRoute(APIRoute):
    """A route whose errors are problem details, whatever handlers the app has for its own."""

    allowed_origins: ClassVar[Collection[str]] = ()
    """Origins of other front ends whose pages may change things."""
    methods_at: ClassVar[Mapping[str, str]] = {}
    """The methods of a path, by the name of each route that has it."""
    words: ClassVar[Mapping[str, str]] = {}
    """The methods of routes by their last word, such as "bulk", where others have an id."""
    security_headers: ClassVar[Mapping[str, str]] = {
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    """Set on every answer that does not set them itself."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        scope, send = self.without_body(scope, send)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.security_headers.items():
                    headers.setdefault(name, value)
            await send(message)

        allowed = self._allowed_instead(scope)
        if allowed is not None:
            # Which methods there are is told to those whom the guards let through, as all is.
            scope = {**scope, _ALLOWED: allowed, "method": min(self.methods or ("GET",))}
        elif scope["method"] not in _SAFE:
            why = refusal_of(Headers(scope=scope), self.allowed_origins)
            if why is not None:
                await problem(403, "cross_site", why)(scope, receive, send_guarded)
                return
        # For this request only. The app's handlers for classes below ours still hold, and
        # an error passes through the dependencies before it becomes a response.
        handlers, _ = scope.get(_HANDLERS, ({}, {}))
        inner = {**scope, _HANDLERS: ({**handlers, **HANDLERS}, {})}
        await super().handle(inner, receive, send_guarded)

    def without_body(self, scope: Scope, send: Send) -> tuple[Scope, Send]:
        """Return what makes HEAD of GET: asked like it, the app's dependencies included."""
        streams = self.path.endswith(("/events", "/changes"))
        has_head = "GET" in (self.methods or ()) and not streams
        if scope["method"] != "HEAD" or not has_head:
            return scope, send

        async def send_head(message: Message) -> None:
            empty = message["type"] == "http.response.body"
            await send({**message, "body": b""} if empty else message)

        return {**scope, "method": "GET"}, send_head

    def _allowed_instead(self, scope: Scope) -> str | None:
        """Return the methods of this path, where this is none of them."""
        methods = self.methods or set()
        if scope["method"] not in methods:
            # There may be more routes at this path, with other methods.
            return self.methods_at.get(self.name) or ", ".join(sorted(methods))
        word = scope["path"].rpartition("/")[2]
        # "bulk" is no id, but the word of another route, which has another method.
        return self.words.get(word) if self.path.endswith("{job_id}") else None
