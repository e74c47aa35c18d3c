"""`BackgroundTasks` that survive: what a request adds, from `add_task` to the end of the request.

What lives here: the class that takes the place of FastAPI's, and the batch of one request. What
does not: how it gets into a request, which is in `fastapi.py`.
"""

from __future__ import annotations

import contextvars
import warnings
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar, Unpack

import anyio
import fastapi
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException

from embedded_tasks.config import JobOptions
from embedded_tasks.enqueue import Draft, Origin, Reserved
from embedded_tasks.errors import (
    NotDurableError,
    NotDurableWarning,
    NotStartedError,
    StoreUnavailableError,
)
from embedded_tasks.handle import Job
from embedded_tasks.runner import Runner
from embedded_tasks.settings import always_decodes, in_test_mode

__all__ = ["BackgroundTasks", "DurableTask", "RequestBatch"]

P = ParamSpec("P")
R = TypeVar("R")

_BATCH = "_embedded_tasks_batch"


class DurableTask(BackgroundTask):
    """One entry of `BackgroundTasks.tasks` that can be stored.

    It is a `BackgroundTask` to whoever looks, and is run by the runner.
    """

    def __init__(self, draft: Draft, func: Any, args: tuple[Any, ...], kwargs: Any) -> None:
        super().__init__(func, *args, **kwargs)
        self.draft = draft
        self.reserved: Reserved | None = None
        self.stored = False


class BackgroundTasks(fastapi.BackgroundTasks):
    """FastAPI's `BackgroundTasks`, durable. Annotate with it to get the `Job` and `options()`.

    With `runner.install(app)` every `BackgroundTasks` of a request is one, whatever its
    annotation. Made by hand, outside a request, it behaves as FastAPI's own.

    Example:
        ```python
        @app.post("/orders")
        async def order(background_tasks: BackgroundTasks) -> dict[str, str]:
            job = background_tasks.options(delay=60).add_task(send_receipt, 42)
            return {"job": job.id if job else ""}
        ```
    """

    # No attribute of its own in `__init__`: an instance of FastAPI's class becomes one of these.

    def add_task(  # type: ignore[override]  # plain returns None; a handle is more
        self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs
    ) -> Job[R] | None:
        """Add a function to run after the response; stored with the request's commit.

        Returns:
            The job, or None if it cannot be stored and runs in the request.

        Raises:
            TypeError: `func` is not callable.
            ArgumentsError: The arguments do not fit the function.
            NotDurableError: It cannot be stored, and `install(non_durable="raise")` is set.
        """
        batch = self._batch()
        if batch is None:
            super().add_task(func, *args, **kwargs)
            return None
        return batch.add(func, args, kwargs, {})

    def options(self, **options: Unpack[JobOptions]) -> _WithOptions:
        """Return an adder whose tasks have these options; see `TaskRunner.options`."""
        return _WithOptions(self, options)

    async def __call__(self) -> None:
        """Run what has to run in the request; called by Starlette after the body was sent."""
        batch = self._batch()
        if batch is None:
            await super().__call__()
        else:
            await batch.run_in_request()

    def _batch(self) -> RequestBatch | None:
        batch: RequestBatch | None = self.__dict__.get(_BATCH)
        return batch


class _WithOptions:
    """What `BackgroundTasks.options(...)` returns."""

    def __init__(self, tasks: BackgroundTasks, options: JobOptions) -> None:
        self._tasks = tasks
        self._options = options

    def add_task(self, func: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Add a function with options; unlike without, it must be possible to store it.

        Raises:
            NotDurableError: It cannot be stored, so its options cannot be honoured.
        """
        batch = self._tasks._batch()
        if batch is None:
            raise NotStartedError("background_tasks.options(...).add_task")
        job = batch.add(func, args, kwargs, self._options)
        assert job is not None
        return job


class RequestBatch:
    """All background tasks of one request.

    Args:
        runner: Where they are stored and run.
        tasks: The request's `BackgroundTasks`, which becomes one of ours.
        origin: The request.
        refuse: Raise for what cannot be stored, instead of running it in the request.
    """

    def __init__(
        self, runner: Runner, tasks: fastapi.BackgroundTasks, origin: Origin, *, refuse: bool
    ) -> None:
        self._runner = runner
        self._tasks = tasks
        self._origin = origin
        self._refuse = refuse
        self._waiting: list[Reserved] = []
        self._next = 0
        # Under test, an app may be called on another loop, or with no lifespan at all.
        self._live = runner.runs_on_this_loop()
        tasks.__class__ = BackgroundTasks
        tasks.__dict__[_BATCH] = self

    def add(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions
    ) -> Job[Any] | None:
        """Check and add one task; called by `add_task` of the two classes above."""
        if not self._live:
            if in_test_mode() and not options:
                self._tasks.tasks.append(BackgroundTask(func, *args, **kwargs))
                return None
            raise NotStartedError(f"add_task({getattr(func, '__qualname__', func)!s})")
        try:
            draft = self._runner.draft(func, args, kwargs, options)
        except NotDurableError as error:
            if self._refuse or options:
                raise
            self._runner.count_non_durable()
            warnings.warn(
                f"{error} It runs in the request, as plain BackgroundTasks do, and is lost if the "
                "process dies.",
                NotDurableWarning,
                stacklevel=3,
            )
            plain = BackgroundTask(func, *args, **kwargs)
            plain.__dict__[_BATCH] = None
            self._tasks.tasks.append(plain)
            return None
        self._tasks.tasks.append(DurableTask(draft, func, args, kwargs))
        return Job(draft.id, draft.task.name, self._runner)

    async def store(self) -> None:
        """Store everything that was added so far, in one transaction.

        Raises:
            HTTPException: 503, if the store cannot just now; nothing of it is stored.
        """
        if not self._live:
            return
        self._adopt_foreign()
        new = [t for t in self._tasks.tasks if isinstance(t, DurableTask) and not t.stored]
        if not new:
            return
        drafts = [(task.draft, contextvars.copy_context()) for task in new]
        # The response must not leave before the commit, whatever is cancelled meanwhile.
        with anyio.CancelScope(shield=True):
            try:
                reserved = await self._runner.reserve(drafts, self._origin)
            except StoreUnavailableError as error:
                raise HTTPException(
                    503, "The background tasks could not be stored.", {"Retry-After": "1"}
                ) from error
        by_id = {item.job.id: item for item in reserved}
        for task in new:
            task.stored = True
            task.reserved = by_id.get(task.draft.id)

    def _adopt_foreign(self) -> None:
        """Entries that were put into the public list by hand are stored too, where they can be."""
        tasks = self._tasks.tasks
        for index, task in enumerate(tasks):
            if index < self._next or not self._is_new(task):
                continue
            try:
                draft = self._runner.draft(task.func, task.args, task.kwargs, {})
            except (NotDurableError, TypeError):
                task.__dict__[_BATCH] = None
                continue
            tasks[index] = DurableTask(draft, task.func, task.args, task.kwargs)

    @staticmethod
    def _is_new(task: BackgroundTask) -> bool:
        return type(task) is BackgroundTask and _BATCH not in task.__dict__

    def _is_late(self, task: BackgroundTask) -> bool:
        """Return whether a task was added after the request's commit, and may be storable."""
        if not self._live:
            return False
        return self._is_new(task) or (isinstance(task, DurableTask) and not task.stored)

    async def run_in_request(self) -> None:
        """Run the non-durable tasks, each after the first attempts of what was added before it."""
        tasks = self._tasks.tasks
        while self._next < len(tasks):
            task = tasks[self._next]
            if self._is_late(task):
                await self.store()
                task = tasks[self._next]
            self._next += 1
            if isinstance(task, DurableTask):
                self._take_over(task)
                continue
            await self._first_attempts()
            await fastapi.BackgroundTasks([task])()

    async def _first_attempts(self) -> None:
        jobs, self._waiting = self._waiting, []
        error = await self._runner.run_reserved(_ready(jobs))
        if error is not None and in_test_mode():
            raise error

    async def request_ended(self) -> None:
        """Start what is stored; in test mode, wait for it too and raise its error, as plain does."""
        if in_test_mode():
            await self._first_attempts()
        else:
            self.start()

    def start(self) -> None:
        """Start what is stored."""
        jobs, self._waiting = self._waiting, []
        self._runner.start_reserved(_ready(jobs))

    def give_up(self) -> None:
        """The request failed after its tasks were stored: they start all the same."""
        for task in self._tasks.tasks:
            if isinstance(task, DurableTask):
                self._take_over(task)

    def _take_over(self, task: DurableTask) -> None:
        if task.reserved is not None:
            self._waiting.append(task.reserved)
            task.reserved = None


def _ready(jobs: Sequence[Reserved]) -> list[Reserved]:
    """Return the jobs, without the objects of their calls where tests want decoded copies."""
    if not always_decodes():
        return list(jobs)
    return [Reserved(item.job, item.is_async, None, item.begun) for item in jobs]
