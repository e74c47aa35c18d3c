"""Who may press which button: asked of the app's own dependencies, for each page.

What lives here: trying the guards of a role without doing anything. What does not: keeping anybody
out; each route does that itself. Called by `site`.
"""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from fastapi import params
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from embedded_tasks.admin.access import Role
from embedded_tasks.admin.desk import Desk

__all__ = ["Roles"]

_YES = 204


class Roles:
    """Knows what the sender of a request may do.

    Args:
        desk: Has the guards.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._trials: WeakKeyDictionary[Starlette, dict[Role, APIRoute]] = WeakKeyDictionary()

    async def of(self, request: Request) -> frozenset[Role]:
        """Return the roles; who asks has passed the readers' guards already."""
        found = {Role.READ}
        for role in (Role.OPERATE, Role.ADMIN):
            guards = self._desk.access.beyond_read(role)
            if not self._desk.access.allows(role):
                break
            # One answer for all roles, where they were not given one by one.
            if guards and not await self._passes(request, role, guards):
                break
            found.add(role)
        return frozenset(found)

    async def _passes(self, request: Request, role: Role, guards: Sequence[params.Depends]) -> bool:
        trials = self._trials.setdefault(request.app, {})
        if role not in trials:
            trials[role] = self._desk.route_class(
                "/",
                _nothing,
                dependencies=list(guards),
                methods=["GET"],
                status_code=_YES,
                dependency_overrides_provider=request.app,
            )
        told: list[int] = []

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                told.append(message["status"])

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        # The same request, as far as guards can tell, in a scope of its own.
        scope = {**request.scope, "method": "GET", "path_params": {}}
        await trials[role].handle(scope, receive, send)
        return told == [_YES]


async def _nothing() -> Response:
    return Response(status_code=_YES)
