"""How the routes of a FastAPI app are reached, those that exist and those to come.

What lives here: finding routes, putting a dependency on them, seeing what their endpoints return.
What does not: what is done then. This is the one place that knows FastAPI's inside; called by
`installing.py`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Protocol

from anyio import from_thread
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_parameterless_sub_dependant
from fastapi.routing import APIRoute, APIWebSocketRoute, request_response
from starlette.responses import Response
from starlette.routing import BaseRoute, Host, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from embedded_tasks.fastapi.background import SCOPE

__all__ = [
    "add_dependency",
    "ends_at_once",
    "has_function_stack",
    "module_of",
    "mounted_apps",
    "needs",
    "route_of",
    "shows_its_tasks",
    "walk",
    "watch",
    "without",
]


class _Opening(Protocol):
    """What knows how to store tasks of a request that has none yet."""

    def endpoint_returned(self, tasks: Any) -> None:
        """The endpoint has returned, and perhaps put tasks into the list by hand."""
        ...


_Given = Callable[[Any], _Opening | None]
_Seen = Callable[[Response, Any], None]

_WATCHED = "_embedded_tasks_watched"
_SHOWS = "_embedded_tasks_shows"


def has_function_stack() -> bool:
    """Return whether this FastAPI keeps the exit stack that closes before the response is sent."""
    codes = [request_response.__code__]
    for code in codes:
        if "fastapi_function_astack" in code.co_consts:
            return True
        codes.extend(item for item in code.co_consts if hasattr(item, "co_consts"))
    return False


def walk(app: Any) -> Iterator[BaseRoute]:
    """Yield every route of an app: also of included and mounted routers, not of mounted apps."""
    for route in getattr(app, "routes", None) or ():
        yield route
        router = getattr(route, "original_router", None)
        if router is not None:
            # Since FastAPI 0.137 an included router stays a router; its routes are made on demand.
            yield from walk(router)
        elif isinstance(route, Mount | Host) and not list(_fastapi_of(route)):
            yield from walk(route)


def mounted_apps(app: Any) -> Iterator[tuple[str, FastAPI]]:
    """Yield the FastAPI apps that are mounted, each with the path or host of its mount."""
    for route in walk(app):
        for mounted in _fastapi_of(route):
            yield str(getattr(route, "path", "") or getattr(route, "host", "")), mounted


def _fastapi_of(route: BaseRoute) -> Iterator[FastAPI]:
    found = getattr(route, "app", None) if isinstance(route, Mount | Host) else None
    while found is not None:
        if isinstance(found, FastAPI):
            yield found
            return
        # A middleware around it.
        found = getattr(found, "app", None)


def add_dependency(app: FastAPI, depends: Any) -> None:
    """Put a dependency first onto every route that does not have it yet, and onto those to come."""
    dependencies = app.router.dependencies
    if depends not in dependencies:
        dependencies.insert(0, depends)
    _add_to_routes(app.router.routes, depends, included=False)


def _add_to_routes(routes: Any, depends: Any, *, included: bool) -> None:
    for route in routes:
        context = getattr(route, "include_context", None)
        if isinstance(route, APIRoute | APIWebSocketRoute):
            if not included:
                _add_to_route(route, depends)
        elif context is not None:
            if not included and depends not in context.dependencies:
                context.dependencies.insert(0, depends)
                _forget_made_routes(route)
            _add_to_routes(route.original_router.routes, depends, included=True)
        elif isinstance(route, Mount | Host) and not list(_fastapi_of(route)):
            _add_to_routes(route.routes, depends, included=False)


def _add_to_route(route: APIRoute | APIWebSocketRoute, depends: Any) -> None:
    if depends not in route.dependencies:
        sub = get_parameterless_sub_dependant(depends=depends, path=route.path_format)
        route.dependant.dependencies.insert(0, sub)
        route.dependencies.insert(0, depends)


def _forget_made_routes(route: BaseRoute) -> None:
    for name in list(vars(route)):
        if name.startswith("_effective") and name.endswith("_version"):
            setattr(route, name, None)


def route_of(scope: Scope, dependency: Callable[..., Any]) -> Any:
    """Return what holds the dependant of the route being called, with this dependency on it."""
    context = scope.get("fastapi", {}).get("effective_route_context")
    for found in (context, scope.get("route")):
        dependant = getattr(found, "dependant", None)
        if isinstance(dependant, Dependant) and any(
            item.call is dependency for item in dependant.dependencies
        ):
            return found
    return None


def module_of(endpoint: object) -> str:
    """Return the module that an endpoint comes from."""
    while isinstance(endpoint, functools.partial):
        endpoint = endpoint.func
    return str(endpoint.__module__)


def without(dependant: Dependant, dependency: Callable[..., Any]) -> list[Dependant]:
    """Return the dependencies of a route but for this one."""
    return [item for item in dependant.dependencies if item.call is not dependency]


def needs(dependencies: list[Dependant], wanted: Callable[[Dependant], bool]) -> bool:
    """Return whether any dependency, or one that it depends on, is wanted."""
    return any(wanted(item) or needs(item.dependencies, wanted) for item in dependencies)


def ends_at_once(call: object) -> bool:
    """Return whether a dependency is a plain function: done when it has returned."""
    return inspect.isfunction(call) and not (
        inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)
    )


def shows_its_tasks(route: Any) -> bool:
    """Return whether a watched route has no `BackgroundTasks`, or its endpoint is seen with it."""
    return route.dependant.background_tasks_param_name is None or hasattr(
        route.dependant.call, _SHOWS
    )


def watch(route: Any, given: _Given, seen: _Seen) -> bool:
    """Show what the route's endpoint is given, where that can be done on the event loop, and each
    response with a background that it returns itself.

    Both are called on the event loop, inside the request, before the response is sent.

    Args:
        route: An APIRoute, or what FastAPI makes of one for an included router.
        given: Gets the `BackgroundTasks` that an async endpoint is called with; what it returns is
            told when the endpoint has returned.
        seen: Gets the response, and those `BackgroundTasks` if they are known; both find the
            request by `SCOPE`.

    Returns:
        Whether that is new; a route is watched once.
    """
    dependant = route.dependant
    endpoint = dependant.call
    if hasattr(route, _WATCHED) or endpoint is None:
        return False
    setattr(route, _WATCHED, True)
    if not (inspect.isgeneratorfunction(endpoint) or inspect.isasyncgenfunction(endpoint)):
        # FastAPI has decided by now how to call it, so a wrapper may be of either kind.
        dependant.call = _watched(endpoint, dependant.background_tasks_param_name, given, seen)
    route.app = _with_scope(route.app)
    return True


def _watched(
    endpoint: Callable[..., Any], tasks: str | None, given: _Given, seen: _Seen
) -> Callable[..., Any]:
    if not inspect.iscoroutinefunction(endpoint):
        return _watched_in_a_thread(endpoint, seen)

    name = tasks or ""

    @functools.wraps(endpoint)
    async def call_with_tasks(*args: Any, **kwargs: Any) -> Any:
        of_request = kwargs[name]
        opening = given(of_request)
        response = await endpoint(*args, **kwargs)
        if isinstance(response, Response) and response.background is not None:
            seen(response, of_request)
        if opening is not None:
            opening.endpoint_returned(of_request)
        return response

    @functools.wraps(endpoint)
    async def call(*args: Any, **kwargs: Any) -> Any:
        response = await endpoint(*args, **kwargs)
        if isinstance(response, Response) and response.background is not None:
            seen(response, None)
        return response

    watched = call if tasks is None else call_with_tasks
    setattr(watched, _SHOWS, True)
    return watched


def _watched_in_a_thread(endpoint: Callable[..., Any], seen: _Seen) -> Callable[..., Any]:
    async def wait(result: Awaitable[Any]) -> Any:
        response = await result
        if isinstance(response, Response) and response.background is not None:
            seen(response, None)
        return response

    @functools.wraps(endpoint)
    def call(*args: Any, **kwargs: Any) -> Any:
        result = endpoint(*args, **kwargs)
        if inspect.isawaitable(result):
            return wait(result)
        if isinstance(result, Response) and result.background is not None:
            # In a thread: a `def` endpoint.
            from_thread.run_sync(seen, result, None)
        return result

    return call


def _with_scope(app: ASGIApp) -> ASGIApp:
    def with_scope(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # No coroutine of its own: this is in the way of every request.
        if SCOPE.get() is scope:
            return app(scope, receive, send)
        return _call_with(app, scope, receive, send)

    return with_scope


async def _call_with(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call the app of a route for a copy of a request's scope, which a middleware has made."""
    token = SCOPE.set(scope)
    try:
        await app(scope, receive, send)
    finally:
        SCOPE.reset(token)
