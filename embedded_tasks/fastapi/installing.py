"""`install`: the runner gets into an app, and nothing of it into the user's code.

What lives here: how the runner gets into an app's lifespan, its requests and its routes. What does
not: what happens to the tasks of a request, which is in `batch.py`. It is the top of what users
build; `TaskRunner` is defined here because it is the only name that knows FastAPI.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

import fastapi
from fastapi import Depends, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Scope

from embedded_tasks.config import OnCrash
from embedded_tasks.errors import (
    ConfigurationError,
    NotDurableError,
    NotInstalledWarning,
    QueueFullError,
)
from embedded_tasks.fastapi.background import SCOPE, VISIT, BackgroundTasks
from embedded_tasks.fastapi.batch import RequestBatch
from embedded_tasks.fastapi.edge import Edge, Opening, RequestVisit, answer_queue_full
from embedded_tasks.fastapi.nondurable import NonDurable
from embedded_tasks.fastapi.routes import (
    add_dependency,
    ends_at_once,
    has_function_stack,
    module_of,
    mounted_apps,
    needs,
    route_of,
    shows_its_tasks,
    walk,
    watch,
    without,
)
from embedded_tasks.runner import Runner
from embedded_tasks.settings import in_test_mode

__all__ = ["DurableRoute", "TaskRunner"]

_INSTALLED = "embedded_tasks_runner"


class TaskRunner(Runner):  # noqa: D101  # its docstring is the base's
    __doc__ = Runner.__doc__

    def install(
        self,
        app: FastAPI,
        *,
        background_tasks: bool = True,
        non_durable: Literal["run", "raise"] = "run",
        on_crash: OnCrash | None = None,
    ) -> None:
        """Make an app's `BackgroundTasks` durable, and run with the app's lifespan.

        Endpoints, imports and annotations stay as they are; a lifespan of the app's own is kept.

        Args:
            app: The app; its routes may exist already, or come later.
            background_tasks: False wires the lifespan alone.
            non_durable: What `add_task` does with what cannot be stored: "run" (default) runs it
                in the request with a `NotDurableWarning`, "raise" raises `NotDurableError`.
            on_crash: "retry", "hold" or "fail": what happens to undecorated functions whose
                process died while they ran; None (default) leaves it at "retry", or as set.

        Raises:
            ConfigurationError: A runner is installed already, or an option is wrong.

        Example:
            ```python
            app = FastAPI()
            runner = TaskRunner("tasks.db")
            runner.install(app)
            ```
        """
        _require_fastapi(app)
        if getattr(app.state, _INSTALLED, None) is not None:
            raise ConfigurationError("this app has a runner installed already; one is enough.")
        if non_durable not in ("run", "raise"):
            raise ConfigurationError(f'non_durable={non_durable!r}: expected "run" or "raise".')
        if on_crash is not None:
            self.set_undecorated({"on_crash": on_crash})
        setattr(app.state, _INSTALLED, self)
        refuse = non_durable == "raise"
        _Installation(self, app, refuse=refuse, background_tasks=background_tasks).apply()


class DurableRoute(APIRoute):
    """A route whose `Response(background=...)` is durable, whosever class it is.

    Example:
        `router = APIRouter(route_class=DurableRoute)`
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler, for an app with a runner installed only."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if VISIT not in request.scope:
                raise ConfigurationError(
                    f"{request.url.path} is a DurableRoute, and its app has no runner installed. "
                    "Write runner.install(app)."
                )
            return await handler(request)

        return handle


class _Installation:
    """One app with its BackgroundTasks made durable."""

    def __init__(
        self, runner: Runner, app: FastAPI, *, refuse: bool, background_tasks: bool
    ) -> None:
        self._runner = runner
        self._app = app
        self._refuse = refuse
        self._background_tasks = background_tasks
        self._homes: set[str] = set()
        self._has_function_stack = has_function_stack()
        self._dependency: Callable[..., Any] = (
            self._collect if self._has_function_stack else self._collect_by_yield
        )
        scope: Literal["function"] | None = None if self._has_function_stack else "function"
        self._depends = Depends(self._dependency, scope=scope)

    def apply(self) -> None:
        """Reach the app's lifespan, and what else is wanted."""
        # A handler of the app's own stays.
        self._app.exception_handlers.setdefault(QueueFullError, answer_queue_full)
        self._compose_lifespan()
        self._runner.checking.prepare.append(lambda: self._know_packages(self._app))
        if self._background_tasks:
            self._reach_routes()
            self._wrap_app()

    def _compose_lifespan(self) -> None:
        """Put the runner around the app's lifespan, also around those of routers to come."""
        router = self._app.router
        include = router.include_router
        own: Callable[[Any], AbstractAsyncContextManager[Any]] = router.lifespan_context

        def lifespan(app: Any) -> AbstractAsyncContextManager[Any]:
            return self._run(app, own)

        @functools.wraps(include)
        def include_router(*args: Any, **kwargs: Any) -> None:
            nonlocal own
            if router.lifespan_context is not lifespan:
                include(*args, **kwargs)
                return
            router.lifespan_context = own
            try:
                include(*args, **kwargs)
            finally:
                own, router.lifespan_context = router.lifespan_context, lifespan

        router.lifespan_context = lifespan
        router.include_router = include_router  # type: ignore[method-assign]  # of this app only

    @asynccontextmanager
    async def _run(
        self, app: Any, own: Callable[[Any], AbstractAsyncContextManager[Any]]
    ) -> AsyncIterator[Any]:
        """Open the file before the app's own start-up code, which may enqueue.

        Jobs run only while what that code has set up is there.
        """
        self._know_packages(app)
        _warn_of_mounts(app)
        async with self._runner.open(run_jobs=True, start_work=False), own(app) as state:
            self._know_packages(app)
            if self._background_tasks:
                # Routes that were put into a list by hand, after `install`.
                self._reach_routes()
            async with self._runner.working():
                yield state

    def _know_packages(self, app: Any) -> None:
        """The packages that the app's routes come from are those whose functions may be stored."""
        for route in walk(app):
            endpoint = getattr(route, "endpoint", None)
            if endpoint is not None:
                self._runner.references.add_package(module_of(endpoint))

    def _reach_routes(self) -> None:
        """Reach the routes that are there, and those to come."""
        add_dependency(self._app, self._depends)

    def _wrap_app(self) -> None:
        """Be the outermost part of the app, so that the end of a request is really its end."""
        app = self._app
        build = app.build_middleware_stack

        def build_wrapped() -> ASGIApp:
            return Edge(build(), self._runner, refuse=self._refuse)

        app.build_middleware_stack = build_wrapped  # type: ignore[method-assign]  # of this app only
        if app.middleware_stack is not None:
            app.middleware_stack = Edge(app.middleware_stack, self._runner, refuse=self._refuse)

    # In each request: the first dependency of every route that may have background tasks.

    async def _collect(self, conn: HTTPConnection, tasks: fastapi.BackgroundTasks) -> None:
        if not self._first_request(conn.scope, tasks):
            self._open(conn.scope, tasks)

    def _open(self, scope: Scope, tasks: fastapi.BackgroundTasks) -> None:
        batch = self._batch(scope, tasks)
        if batch is not None:
            scope["fastapi_function_astack"].push_async_exit(batch)

    async def _collect_by_yield(
        self, conn: HTTPConnection, tasks: fastapi.BackgroundTasks
    ) -> AsyncIterator[None]:
        self._first_request(conn.scope, tasks)
        batch = self._batch(conn.scope, tasks)
        yield
        if batch is not None:
            await batch.store()

    def _batch(self, scope: Scope, tasks: fastapi.BackgroundTasks) -> RequestBatch | None:
        endpoint = scope.get("endpoint")
        if isinstance(tasks, BackgroundTasks):
            # The routes of an installed app were included into another one.
            return None
        if type(tasks) is not fastapi.BackgroundTasks:
            kind = type(tasks)
            NonDurable(self._runner, endpoint, refuse=self._refuse).found(
                NotDurableError(
                    "What this request's BackgroundTasks are given",
                    f"{kind.__module__}.{kind.__qualname__} has taken the place of FastAPI's class",
                    "Switch off what has put it there.",
                )
            )
            return None
        self._know_home(endpoint)
        return self._visit(scope).open(tasks, scope)

    def _know_home(self, endpoint: object) -> None:
        """The package that an endpoint comes from is one whose functions may be stored."""
        if endpoint is not None and (home := module_of(endpoint)) not in self._homes:
            self._homes.add(home)
            self._runner.references.add_package(home)

    def _visit(self, scope: Scope) -> RequestVisit:
        visit = scope.get(VISIT)
        if not isinstance(visit, RequestVisit):
            # The routes were included into another app.
            visit = RequestVisit.without_edge(self._runner, refuse=self._refuse)
            scope[VISIT] = visit
        return visit

    def _first_request(self, scope: Scope, tasks: object) -> bool:
        """Watch what the route's endpoint gets and returns, and leave the route where that will do.

        A dependency more costs each request as much as all else that is done here.

        Returns:
            Whether the route is left: from this request on its endpoint is given its tasks.
        """
        route = route_of(scope, self._dependency)
        if not isinstance(route, APIRoute) and not hasattr(route, "original_route"):
            return False
        if watch(route, self._given, self._seen):
            SCOPE.set(scope)
        plain = type(tasks) is fastapi.BackgroundTasks and self._has_function_stack
        # Not under test, where a dependency override may bring a BackgroundTasks in.
        if plain and not (in_test_mode() or self._app.dependency_overrides):
            others = without(route.dependant, self._dependency)
            if shows_its_tasks(route) and not needs(others, _uses):
                # A new list: requests that walk over the old one must not skip an entry.
                route.dependant.dependencies = others
                self._know_home(scope.get("endpoint"))
                return True
        return False

    def _given(self, tasks: Any) -> Opening | None:
        """An endpoint is about to be called with what FastAPI has made for this request."""
        scope = SCOPE.get()
        # Where the route still has its dependency, they are ours already.
        if scope is None or type(tasks) is not fastapi.BackgroundTasks:
            return None
        opening = self._visit(scope).open_later(tasks, scope)
        if opening is None:
            self._open(scope, tasks)
        return opening

    def _seen(self, response: Response, tasks: Any) -> None:
        """An endpoint returned a response with a background of its own."""
        scope = SCOPE.get()
        if scope is None:
            return
        visit = self._visit(scope)
        batch = visit.batch(scope, tasks)
        if batch is None:
            batch = visit.open(fastapi.BackgroundTasks(), scope)
            scope["fastapi_function_astack"].push_async_exit(batch)
        batch.join(response, all_durable=isinstance(scope.get("route"), DurableRoute))


def _uses(dependant: Dependant) -> bool:
    """Return whether a dependency may add tasks, or may fail before the response is sent.

    What is stored must come after the latter, so it has to be there before it. One that ends when
    the response is sent is no matter: the edge sees to the end of the request.
    """
    if dependant.background_tasks_param_name is not None:
        return True
    return dependant.scope == "function" and not ends_at_once(dependant.call)


def _warn_of_mounts(app: Any) -> None:
    for path, mounted in mounted_apps(app):
        if getattr(mounted.state, _INSTALLED, None) is None:
            warnings.warn(
                f"The FastAPI app mounted at {path!r} has no runner installed: its "
                "BackgroundTasks are not durable. Write runner.install(mounted_app) too.",
                NotInstalledWarning,
                stacklevel=2,
            )


def _require_fastapi(app: object) -> None:
    if not isinstance(app, FastAPI):
        raise ConfigurationError(
            f"runner.install({type(app).__name__}): expected a FastAPI app. For another kind of "
            "app, run the runner in its lifespan (runner.lifespan) and use runner.enqueue."
        )
