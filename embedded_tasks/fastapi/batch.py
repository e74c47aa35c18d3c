"""All background tasks of one request, from `add_task` to the end of the request.

What lives here: what is stored and when, what runs in the request, and in which order. What does
not: how a request is reached, which is in `routes.py`. Made by the adapter, one per request.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import MutableMapping, Sequence
from typing import Any

import fastapi
import structlog
from starlette.background import BackgroundTask as StarletteTask, BackgroundTasks as StarletteTasks
from starlette.exceptions import HTTPException
from starlette.responses import Response

from embedded_tasks.config import JobOptions
from embedded_tasks.enqueue import Reserved
from embedded_tasks.errors import (
    ConfigurationError,
    NotDurableError,
    NotStartedError,
    StoreFormatError,
    StoreUnavailableError,
)
from embedded_tasks.fastapi.background import BackgroundTask, BackgroundTasks, attach
from embedded_tasks.fastapi.entries import AsItIs, DurableTask
from embedded_tasks.fastapi.nondurable import NonDurable
from embedded_tasks.fastapi.request_ids import origin_of
from embedded_tasks.handle import Job
from embedded_tasks.references import refuse_call
from embedded_tasks.runner import Runner
from embedded_tasks.settings import in_test_mode

__all__ = ["RequestBatch"]

_log = structlog.get_logger("embedded_tasks")

# What Starlette and FastAPI make themselves; below them is anybody's code, called as it is.
_PLAIN_LISTS = (StarletteTasks, fastapi.BackgroundTasks, BackgroundTasks)
_PLAIN = (StarletteTask, BackgroundTask)
_NO_TASKS = fastapi.BackgroundTasks()


class RequestBatch:
    """All background tasks of one request.

    Args:
        runner: Where they are stored and run.
        tasks: The request's `BackgroundTasks`, which becomes one of ours.
        scope: The request's ASGI scope.
        refuse: Raise for what cannot be stored, instead of running it in the request.
        live: Whether the runner runs on this loop; None (default) looks.
        late: Whether the request's commit is over already.
    """

    def __init__(
        self,
        runner: Runner,
        tasks: fastapi.BackgroundTasks,
        scope: MutableMapping[str, Any],
        *,
        refuse: bool,
        live: bool | None = None,
        late: bool = False,
    ) -> None:
        self._runner = runner
        self._tasks = tasks
        self._scope = scope
        self._refuse = refuse
        self._here: dict[int, StarletteTask] = {}
        self._next = 0
        self._committed = late
        self._closed = False
        self._over = False
        self._error: BaseException | None = None
        self._storing: asyncio.Lock | None = None
        self._early: set[asyncio.Task[None]] | None = None
        # Under test, an app may be called on another loop, or with no lifespan at all.
        self._live = runner.runs_on_this_loop() if live is None else live
        attach(tasks, self)

    @property
    def _non_durable(self) -> NonDurable:
        return NonDurable(self._runner, self._scope.get("endpoint"), refuse=self._refuse)

    # Adding.

    def add(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Job[Any] | None:
        """Check and add one task; called by `add_task`, from the loop or from a thread."""
        if self._closed:
            raise _closed(func)
        if not self._live:
            self._add_plain(func, args, kwargs)
            return None
        try:
            return self._add_draft(func, args, kwargs, {})
        except NotDurableError as error:
            self._non_durable.added(error)
            self._append_here(StarletteTask(func, *args, **kwargs))
            return None

    def add_durable(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions
    ) -> Job[Any]:
        """Check and add one task with options, which must be possible to store."""
        if self._closed:
            raise _closed(func)
        if not self._live:
            raise NotStartedError(_call(func))
        return self._add_draft(func, args, kwargs, options)

    def _add_draft(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions
    ) -> Job[Any]:
        draft = self._runner.draft(func, args, kwargs, options)
        self._tasks.tasks.append(DurableTask(draft, func, args, kwargs))
        if self._committed and self._live:
            # Late, such as from inside a stream: it does not wait for the end of a long one.
            self._runner.call_soon(self._store_early)
        return Job(draft.id, draft.task.name, self._runner)

    def _add_plain(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not in_test_mode():
            raise NotStartedError(_call(func))
        if not callable(func):
            refuse_call(func)
        self._tasks.tasks.append(StarletteTask(func, *args, **kwargs))

    def _append_here(self, task: StarletteTask) -> None:
        self._here[id(task)] = task
        self._tasks.tasks.append(task)

    def join(self, response: Response, *, all_durable: bool) -> None:
        """Take in what an endpoint's own response brings, so that all of it runs, in order.

        Args:
            response: The response; it has a background.
            all_durable: Whether the route says that this background is durable, whosever it is.
        """
        own = response.background
        if own is None or own is self._tasks:
            return
        ours = isinstance(own, BackgroundTasks | BackgroundTask)
        if not (ours or all_durable):
            if self._live:
                self._count_foreign(own)
            self._append_here(AsItIs(own))
        elif not (self._live or in_test_mode()):
            raise NotStartedError("Response(background=...)")
        elif isinstance(own, StarletteTasks) and type(own) in _PLAIN_LISTS:
            self._tasks.tasks.extend(own.tasks)
            # One list: what a stream adds to its own one later is seen.
            own.tasks = self._tasks.tasks
            attach(own, self)
        else:
            self._tasks.tasks.append(own)
        response.background = self._tasks

    def _count_foreign(self, background: object) -> None:
        kind = type(background)
        self._non_durable.found(
            NotDurableError(
                "Response(background=...)",
                f"it is a {kind.__qualname__} of {kind.__module__}",
                "Use embedded_tasks.fastapi.BackgroundTask or embedded_tasks.BackgroundTasks, or "
                "make the route a DurableRoute.",
            )
        )

    # Storing.

    async def __aexit__(self, exc_type: object, *_: object) -> None:
        """The endpoint and what its exit stack holds are done; nothing of it has been sent."""
        # When it has raised nothing of it is stored, as nothing would run with plain.
        if exc_type is None:
            await self.store()
            if self._here or not self._live:
                # For a response that never calls its background.
                self._scope["fastapi_inner_astack"].push_async_exit(self._leave)

    async def _leave(self, exc_type: object, *_: object) -> None:
        if exc_type is None:
            await self.run_in_request()

    async def store(self) -> None:
        """Store everything that was added so far, in one transaction.

        Raises:
            HTTPException: 503, if the store cannot just now; nothing of it is stored.
        """
        try:
            # Nobody else stores before the commit.
            if self._live and self._tasks.tasks:
                await self._store_from(0)
        except (StoreUnavailableError, StoreFormatError) as error:
            self._runner.refusals.add(self._scope.get("path"), error)
            raise HTTPException(
                503, "The background tasks could not be stored.", {"Retry-After": "1"}
            ) from error
        self._committed = True

    async def _store_late(self, start: int) -> None:
        if self._live:
            if self._storing is None:
                self._storing = asyncio.Lock()
            async with self._storing:
                await self._store_from(start)

    async def _store_from(self, start: int) -> None:
        self._adopt(start)
        new = [t for t in self._tasks.tasks if isinstance(t, DurableTask) and not t.stored]
        if not new:
            return
        try:
            await self._reserve(new)
        except NotDurableError:
            # An argument was changed since `add_task`: what can still be stored is.
            if new := [task for task in new if self._still_durable(task)]:
                await self._reserve(new)

    async def _reserve(self, new: Sequence[DurableTask]) -> None:
        drafts = [(task.draft, contextvars.copy_context()) for task in new]
        reserved = await self._runner.reserve(drafts, origin_of(self._scope, drafts[0][1]))
        by_id = {item.job.id: item for item in reserved}
        for task in new:
            task.stored = True
            task.reserved = by_id.get(task.draft.id)

    def _adopt(self, start: int) -> None:
        """Entries that were put into the public list by hand are stored too, where they can be."""
        tasks = self._tasks.tasks
        for index in range(start, len(tasks)):
            task = tasks[index]
            if isinstance(task, DurableTask) or id(task) in self._here:
                continue
            try:
                if type(task) not in _PLAIN:
                    raise NotDurableError(
                        f"A {type(task).__qualname__} of {type(task).__module__}",
                        "its class says itself how it is run",
                        "Use add_task(f, ...).",
                    )
                draft = self._runner.draft(task.func, task.args, task.kwargs, {})
            except NotDurableError as error:
                self._here[id(task)] = task
                self._non_durable.found(error)
            else:
                tasks[index] = DurableTask(draft, task.func, task.args, task.kwargs)

    def _still_durable(self, task: DurableTask) -> bool:
        draft = task.draft
        try:
            self._runner.draft(task.func, task.args, task.kwargs, draft.options)
        except NotDurableError as error:
            if draft.options:
                raise
            self._non_durable.found(error)
            plain = StarletteTask(task.func, *task.args, **task.kwargs)
            self._here[id(plain)] = plain
            self._tasks.tasks[self._tasks.tasks.index(task)] = plain
            return False
        return True

    def _store_early(self) -> None:
        task = asyncio.get_running_loop().create_task(self._try_to_store())
        if self._early is None:
            self._early = set()
        self._early.add(task)
        task.add_done_callback(self._early.discard)

    async def _try_to_store(self) -> None:
        try:
            await self._store_late(self._next)
        except (StoreUnavailableError, NotDurableError) as error:
            # It is tried again, and told, when the request comes to this task.
            _log.warning("jobs.not_stored_yet", error=str(error))
        if self._over:
            # The request failed meanwhile.
            self.give_up()

    # Running.

    async def run_in_request(self) -> None:
        """Run the non-durable tasks, each after the first attempts of what was added before it."""
        failed: Exception | None = None
        while self._next < len(self._tasks.tasks):
            task = self._tasks.tasks[self._next]
            if isinstance(task, DurableTask) and task.stored:
                self._next += 1
                continue
            try:
                await self._run_next()
            except Exception as error:
                # What was accepted is not dropped because another task failed.
                if not self._live:
                    raise
                if failed is not None:
                    _log.exception("task.failed", url=self._scope.get("path"))
                failed = failed or error
        if failed is not None:
            raise failed

    async def _run_next(self) -> None:
        index, self._next = self._next, self._next + 1
        if self._is_late(self._tasks.tasks[index]):
            await self._store_late(index)
        task = self._tasks.tasks[index]
        if not isinstance(task, DurableTask):
            await self._first_attempts(self._tasks.tasks[:index])
            await self._run_here(task)

    async def _run_here(self, task: Any) -> None:
        if isinstance(task, BackgroundTask):
            task.runs_here = True
        if hasattr(task, "func"):
            # FastAPI's own list, for the span that it opens around each task.
            await fastapi.BackgroundTasks([task])()
        else:
            await task()

    def _is_late(self, task: Any) -> bool:
        """Return whether a task was added after the request's commit, and may be storable."""
        if not self._live:
            return False
        return not task.stored if isinstance(task, DurableTask) else id(task) not in self._here

    async def _first_attempts(self, of: Sequence[Any]) -> None:
        error = await self._runner.run_reserved(self._taken_over(of))
        self._error = self._error or error

    # The end.

    def close(self) -> None:
        """The response is sent and the request's dependencies are closed: nothing is added now."""
        self._closed = True

    async def request_ended(self) -> BaseException | None:
        """Start what is stored; in test mode wait for it, and return its error."""
        self._closed = True
        if not (self._runner.testing if self._live else in_test_mode()):
            self._start()
            return None
        self._over = True
        await self._first_attempts(self._tasks.tasks)
        if self._runner.is_running:
            # A test's next request may ask for the state of these jobs.
            await self._runner.outcomes_written()
        return self._error

    def give_up(self) -> None:
        """Start what is stored, without waiting for anything: the request was cancelled."""
        self._start()

    def _start(self) -> None:
        self._over = True
        # Also what the request did not come to, because it failed after it was stored.
        self._runner.start_reserved(self._taken_over(self._tasks.tasks))
        if not self._early:
            # Let go of what refers to this batch: the garbage collector has nothing to find here.
            self._tasks = _NO_TASKS

    def _taken_over(self, tasks: Sequence[Any]) -> list[Reserved]:
        """Return the jobs of these tasks, each once."""
        jobs: list[Reserved] = []
        for task in tasks:
            if isinstance(task, DurableTask) and task.reserved is not None:
                jobs.append(task.reserved)
                task.reserved = None
        if self._runner.decodes:
            # Without the objects of their calls: tests want decoded copies.
            return [Reserved(item.job, item.is_async, None, item.begun) for item in jobs]
        return jobs


def _closed(func: Any) -> ConfigurationError:
    return ConfigurationError(
        f"{_call(func)}: the request has ended, and nothing of it is left that would run "
        "this. Write `await runner.enqueue(...)`."
    )


def _call(func: Any) -> str:
    return f"add_task({getattr(func, '__qualname__', func)!s})"
