"""The FastAPI adapter: `install`, and nothing of it in the user's code.

What lives here: how the runner gets into an app's lifespan, its requests and its routes. What does
not: what happens to the tasks of a request, which is in `background.py`. It is the top of what
users build; `TaskRunner` is defined here because it is the only name that knows FastAPI.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

import fastapi
from fastapi import Depends, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_parameterless_sub_dependant
from fastapi.routing import APIRoute, APIWebSocketRoute, request_response
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from embedded_tasks.background import RequestBatch
from embedded_tasks.config import OnCrash
from embedded_tasks.enqueue import Origin
from embedded_tasks.errors import ConfigurationError, NotInstalledWarning
from embedded_tasks.runner import Runner, current_origin
from embedded_tasks.settings import in_test_mode

__all__ = ["TaskRunner"]

_BATCHES = "embedded_tasks.batches"
_INSTALLED = "embedded_tasks_runner"


class TaskRunner(Runner):
    __doc__ = Runner.__doc__

    def install(
        self,
        app: FastAPI,
        *,
        background_tasks: bool = True,
        non_durable: Literal["run", "raise"] = "run",
        on_crash: OnCrash = "retry",
    ) -> None:
        """Make an app's `BackgroundTasks` durable, and run with the app's lifespan.

        Endpoints, imports and annotations stay as they are; a lifespan of the app's own is kept.

        Args:
            app: The app; its routes may exist already, or come later.
            background_tasks: False wires the lifespan alone.
            non_durable: What `add_task` does with what cannot be stored: "run" (default) runs it
                in the request with a `NotDurableWarning`, "raise" raises `NotDurableError`.
            on_crash: "retry" (default), "hold" or "fail": what happens to undecorated functions
                whose process died while they ran.

        Raises:
            ConfigurationError: A runner is installed already, or an option is wrong.

        Example:
            ```python
            app = FastAPI()
            runner = TaskRunner("tasks.db")
            runner.install(app)
            ```
        """
        if getattr(app.state, _INSTALLED, None) is not None:
            raise ConfigurationError("this app has a runner installed already; one is enough.")
        if non_durable not in ("run", "raise"):
            raise ConfigurationError(f'non_durable={non_durable!r}: expected "run" or "raise".')
        self.set_undecorated({"on_crash": on_crash})
        setattr(app.state, _INSTALLED, self)
        _compose_lifespan(self, app)
        if background_tasks:
            _Installation(self, app, refuse=non_durable == "raise").apply()


def _compose_lifespan(runner: Runner, app: FastAPI) -> None:
    """Put the runner around the app's lifespan, and the work inside it.

    The file is open before the app's own start-up code, which may enqueue; jobs run only while
    what that code has set up is there.
    """
    own: Callable[[Any], AbstractAsyncContextManager[Any]] = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        _know_packages(runner, app)
        _warn_of_mounts(app)
        async with runner.open(run_jobs=True, start_work=False), own(app) as state:
            _know_packages(runner, app)
            async with runner.working():
                yield state

    app.router.lifespan_context = lifespan


class _Installation:
    """One app with its BackgroundTasks made durable."""

    def __init__(self, runner: Runner, app: FastAPI, *, refuse: bool) -> None:
        self._runner = runner
        self._app = app
        self._refuse = refuse
        self._dependency = self._make_dependency()

    def apply(self) -> None:
        """Reach the routes that are there, those to come, and the outermost edge of the app."""
        depends = Depends(self._dependency, scope=_scope_of(self._dependency))
        self._app.router.dependencies.insert(0, depends)
        for route in self._app.router.routes:
            self._reach(route, depends)
        self._wrap()

    def _make_dependency(self) -> Callable[..., Any]:
        async def collect(conn: HTTPConnection, tasks: fastapi.BackgroundTasks) -> None:
            batch = self._batch(conn, tasks)
            if batch is not None:
                conn.scope["fastapi_function_astack"].push_async_exit(_storing(batch))

        async def collect_by_yield(
            conn: HTTPConnection, tasks: fastapi.BackgroundTasks
        ) -> AsyncIterator[None]:
            batch = self._batch(conn, tasks)
            yield
            if batch is not None:
                await batch.store()

        return collect if has_function_stack() else collect_by_yield

    def _batch(self, conn: HTTPConnection, tasks: fastapi.BackgroundTasks) -> RequestBatch | None:
        scope = conn.scope
        self._prune(scope)
        if type(tasks) is not fastapi.BackgroundTasks:
            return None
        endpoint = scope.get("endpoint")
        if endpoint is not None:
            self._runner.references.add_package(endpoint.__module__)
        batch = RequestBatch(self._runner, tasks, _origin(conn), refuse=self._refuse)
        scope["fastapi_inner_astack"].push_async_exit(_ending(batch, scope))
        return batch

    def _prune(self, scope: Scope) -> None:
        """Take the dependency off a route that has no use for it; its requests then cost nothing.

        Not under test, where a dependency override may bring a BackgroundTasks in.
        """
        if in_test_mode() or self._app.dependency_overrides:
            return
        context = scope.get("fastapi", {}).get("effective_route_context")
        dependant = getattr(context or scope.get("route"), "dependant", None)
        if not isinstance(dependant, Dependant):
            return
        others = [item for item in dependant.dependencies if item.call is not self._dependency]
        if dependant.background_tasks_param_name is None and not any(map(_wants_tasks, others)):
            # A new list: requests that are walking over the old one must not skip an entry.
            dependant.dependencies = others

    def _reach(self, route: BaseRoute, depends: Any) -> None:
        """Put the dependency onto a route that exists already."""
        if isinstance(route, APIRoute | APIWebSocketRoute):
            path = route.path_format
            sub = get_parameterless_sub_dependant(depends=depends, path=path)
            route.dependant.dependencies.insert(0, sub)
            route.dependencies.insert(0, depends)
            return
        context = getattr(route, "include_context", None)
        if context is not None:
            # Since FastAPI 0.136 an included router stays a router; its routes are made on demand.
            context.dependencies.insert(0, depends)
            _forget_made_routes(route)

    def _wrap(self) -> None:
        """Be the outermost part of the app, so that the end of a request is really its end."""
        app = self._app
        build = app.build_middleware_stack

        def build_wrapped() -> ASGIApp:
            return _edge(build())

        app.build_middleware_stack = build_wrapped  # type: ignore[method-assign]  # of this app only
        if app.middleware_stack is not None:
            app.middleware_stack = _edge(app.middleware_stack)


def _edge(app: ASGIApp) -> ASGIApp:
    """Return the app with an outermost wrapper: jobs of a request start when it has ended."""

    async def edge(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" or _BATCHES in scope:
            await app(scope, receive, send)
            return
        batches: list[RequestBatch] = []
        scope[_BATCHES] = batches
        try:
            await app(scope, receive, send)
        except BaseException:
            for batch in batches:
                batch.give_up()
                batch.start()
            raise
        for batch in batches:
            await batch.request_ended()

    return edge


def _storing(batch: RequestBatch) -> Callable[..., Any]:
    async def store(exc_type: Any, exc: Any, traceback: Any) -> None:
        # The endpoint raised: nothing of it is stored, as nothing would run with plain.
        if exc_type is None:
            await batch.store()

    return store


def _ending(batch: RequestBatch, scope: Scope) -> Callable[..., Any]:
    async def end(exc_type: Any, exc: Any, traceback: Any) -> None:
        """The response is sent and the request's dependencies are closed."""
        batches: list[RequestBatch] | None = scope.get(_BATCHES)
        if batches is not None:
            batches.append(batch)
        if exc_type is None:
            # Again for what came late; and for all, when Starlette never called them.
            await batch.run_in_request()
        else:
            batch.give_up()
        if batches is None:
            await batch.request_ended()

    return end


def has_function_stack() -> bool:
    """Return whether this FastAPI keeps the exit stack that closes before the response is sent."""
    codes = [request_response.__code__]
    for code in codes:
        if "fastapi_function_astack" in code.co_consts:
            return True
        codes.extend(item for item in code.co_consts if hasattr(item, "co_consts"))
    return False


def _scope_of(dependency: Callable[..., Any]) -> Literal["function"] | None:
    return None if dependency.__name__ == "collect" else "function"


def _wants_tasks(dependant: Dependant) -> bool:
    return dependant.background_tasks_param_name is not None or any(
        map(_wants_tasks, dependant.dependencies)
    )


def _forget_made_routes(route: BaseRoute) -> None:
    for name in list(vars(route)):
        if name.startswith("_effective") and name.endswith("_version"):
            setattr(route, name, None)


def _origin(conn: HTTPConnection) -> Origin:
    bound = current_origin().request_id
    return Origin(bound or conn.headers.get("x-request-id"), conn.headers.get("traceparent"))


def _routes(app: Any) -> Iterator[BaseRoute]:
    for route in getattr(app, "routes", None) or ():
        yield route
        router = getattr(route, "original_router", None)
        if router is not None:
            yield from _routes(router)


def _know_packages(runner: Runner, app: Any) -> None:
    """The packages that the app's routes come from are those whose functions may be stored."""
    for route in _routes(app):
        endpoint = getattr(route, "endpoint", None)
        if endpoint is not None and hasattr(endpoint, "__module__"):
            if endpoint.__module__.partition(".")[0] not in ("fastapi", "starlette"):
                runner.references.add_package(endpoint.__module__)


def _warn_of_mounts(app: Any) -> None:
    for route in _routes(app):
        mounted = getattr(route, "app", None) if isinstance(route, Mount) else None
        if isinstance(mounted, FastAPI) and getattr(mounted.state, _INSTALLED, None) is None:
            warnings.warn(
                f"The FastAPI app mounted at {route.path!r} has no runner installed: its "  # type: ignore[attr-defined]  # a Mount has one
                "BackgroundTasks are not durable. Write runner.install(mounted_app) too.",
                NotInstalledWarning,
                stacklevel=2,
            )
