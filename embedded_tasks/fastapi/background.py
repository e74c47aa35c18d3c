"""`BackgroundTasks` that survive, as users meet them.

What lives here: the classes that take the place of FastAPI's and Starlette's. What does not: what
becomes of the tasks of a request, which is in `batch.py`. Made by users and by the adapter.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack, overload

import fastapi
from starlette.background import BackgroundTask as StarletteTask, BackgroundTasks as StarletteTasks

from embedded_tasks.config import JobOptions
from embedded_tasks.context import JobContext
from embedded_tasks.errors import NotStartedError
from embedded_tasks.handle import Job
from embedded_tasks.references import refuse_call

__all__ = [
    "SCOPE",
    "VISIT",
    "BackgroundTask",
    "BackgroundTasks",
    "Batch",
    "Opening",
    "Visit",
    "attach",
    "attach_opening",
    "batch_of",
]

P = ParamSpec("P")
R = TypeVar("R")

VISIT = "embedded_tasks.visit"
"""The key of an ASGI scope under which the adapter keeps what it knows of a request."""

SCOPE: ContextVar[MutableMapping[str, Any] | None] = ContextVar("embedded_tasks", default=None)
"""The ASGI scope of the request that this code runs for, in an app with a runner installed."""

_BATCH = "_embedded_tasks_batch"
_OPENING = "_embedded_tasks_opening"


class Batch(Protocol):
    """All background tasks of one request, as `BackgroundTasks` needs them."""

    def add(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job[Any] | None:
        """Check and add one task."""
        ...

    def add_durable(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions
    ) -> Job[Any]:
        """Check and add one task with options, which must be possible to store."""
        ...

    async def run_in_request(self) -> None:
        """Run what has to run in the request."""
        ...


class Visit(Protocol):
    """One request to an app with a runner installed."""

    def take_late(self, tasks: BackgroundTasks, scope: MutableMapping[str, Any]) -> Batch:
        """Make a batch of tasks that nobody saw before they were called."""
        ...


class Opening(Protocol):
    """A request that has no tasks yet."""

    def open(self, tasks: BackgroundTasks) -> Batch:
        """Make the batch of the request, and attach it."""
        ...


class BackgroundTasks(fastapi.BackgroundTasks):
    """FastAPI's `BackgroundTasks`, durable. Annotate with it to get the `Job` and `options()`.

    With `runner.install(app)` every `BackgroundTasks` of a request is one, whatever its
    annotation. One that an endpoint makes itself and returns in its `Response(background=...)`
    is durable too. Outside of such an app it behaves as FastAPI's own.

    Example:
        ```python
        @app.post("/orders")
        async def order(background_tasks: BackgroundTasks) -> dict[str, str]:
            job = background_tasks.options(delay=60).add_task(send_receipt, 42)
            return {"job": job.id}
        ```
    """

    # No attribute of its own in `__init__`: an instance of FastAPI's class becomes one of these.

    @overload  # type: ignore[override]  # plain returns None; a handle is more
    def add_task(
        self,
        func: Callable[Concatenate[JobContext, P], Awaitable[R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Job[R] | None: ...

    @overload
    def add_task(
        self, func: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> Job[R] | None: ...

    @overload
    def add_task(
        self, func: Callable[Concatenate[JobContext, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> Job[R] | None: ...

    @overload
    def add_task(
        self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Job[R] | None: ...

    def add_task(self, func: Any, *args: Any, **kwargs: Any) -> Job[Any] | None:  # pyright: ignore[reportIncompatibleMethodOverride]  # as above
        """Add a function to run after the response; stored with the request's commit.

        Returns:
            The job, or None if it cannot be stored and runs in the request.

        Raises:
            TypeError: `func` is not callable.
            ArgumentsError: The arguments do not fit the function.
            NotDurableError: It cannot be stored, and `install(non_durable="raise")` is set.
            NotStartedError: The app runs without its lifespan, and not under test.
            ConfigurationError: The request has ended already.
        """
        batch = batch_of(self)
        if batch is None:
            if not callable(func):
                refuse_call(func)
            super().add_task(func, *args, **kwargs)
            return None
        return batch.add(func, args, kwargs)

    def options(self, **options: Unpack[JobOptions]) -> _WithOptions:
        """Return an adder whose tasks have these options; see `TaskRunner.options`."""
        return _WithOptions(self, options)

    async def __call__(self) -> None:
        """Run what has to run in the request; called by Starlette after the body was sent."""
        if not self.tasks:
            return
        batch = batch_of(self) or _late_batch_of(self)
        if batch is None:
            await super().__call__()
        else:
            await batch.run_in_request()


class BackgroundTask(StarletteTask):
    """Starlette's `BackgroundTask`, durable when an endpoint returns it with its response.

    Example:
        `return FileResponse(path, background=BackgroundTask(os.remove, path))`
    """

    runs_here = False
    """Whether it was found that it cannot be stored, so that it runs in the request."""

    def __init__(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        if not callable(func):
            refuse_call(func)
        super().__init__(func, *args, **kwargs)

    async def __call__(self) -> None:
        """Run what has to run in the request; called by Starlette after the body was sent."""
        if self.runs_here or _current_visit(SCOPE.get()) is None:
            await super().__call__()
        else:
            await BackgroundTasks([self])()


class _WithOptions:
    """What `BackgroundTasks.options(...)` returns."""

    def __init__(self, tasks: BackgroundTasks, options: JobOptions) -> None:
        self._tasks = tasks
        self._options = options

    @overload
    def add_task(
        self,
        func: Callable[Concatenate[JobContext, P], Awaitable[R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Job[R]: ...

    @overload
    def add_task(
        self, func: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...

    @overload
    def add_task(
        self, func: Callable[Concatenate[JobContext, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...

    @overload
    def add_task(self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...

    def add_task(self, func: Any, *args: Any, **kwargs: Any) -> Job[Any]:
        """Add a function with options; unlike without, it must be possible to store it.

        Raises:
            NotDurableError: It cannot be stored, so its options cannot be honoured.
            NotStartedError: Nothing stores it: there is no runner, or it is not running.
        """
        batch = batch_of(self._tasks)
        if batch is None:
            raise NotStartedError("background_tasks.options(...).add_task")
        return batch.add_durable(func, args, kwargs, self._options)


def attach(tasks: StarletteTasks, batch: Batch) -> None:
    """Let a batch have what is added to `tasks`, which becomes one of ours; for the adapter."""
    tasks.__class__ = BackgroundTasks
    tasks.__dict__[_BATCH] = batch


def attach_opening(tasks: StarletteTasks, opening: Opening) -> None:
    """Have a batch opened as soon as something is added to `tasks`, which becomes one of ours."""
    tasks.__class__ = BackgroundTasks
    tasks.__dict__[_OPENING] = opening


def batch_of(tasks: BackgroundTasks) -> Batch | None:
    """Return the batch that has what is added to `tasks`; it is opened if it has to be."""
    batch: Batch | None = tasks.__dict__.get(_BATCH)
    if batch is None:
        opening: Opening | None = tasks.__dict__.get(_OPENING)
        if opening is not None:
            return opening.open(tasks)
    return batch


def _late_batch_of(tasks: BackgroundTasks) -> Batch | None:
    scope = SCOPE.get()
    visit = _current_visit(scope)
    return None if visit is None or scope is None else visit.take_late(tasks, scope)


def _current_visit(scope: MutableMapping[str, Any] | None) -> Visit | None:
    visit: Visit | None = None if scope is None else scope.get(VISIT)
    return visit
