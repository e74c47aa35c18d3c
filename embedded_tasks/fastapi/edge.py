"""The outermost edge of an app: where a request really begins and ends.

What lives here: what is known of one request on its way, and its end. What does not: its tasks
(`batch.py`). Put around the app by `installing.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import fastapi
from fastapi import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from embedded_tasks.errors import QueueFullError
from embedded_tasks.fastapi.background import (
    SCOPE,
    VISIT,
    BackgroundTasks,
    attach_opening,
    batch_of,
)
from embedded_tasks.fastapi.batch import RequestBatch
from embedded_tasks.fastapi.streams import EventStreams
from embedded_tasks.runner import Runner

__all__ = ["Edge", "Opening", "RequestVisit", "answer_queue_full"]

_BATCH = "embedded_tasks.fastapi.batch"


async def answer_queue_full(connection: HTTPConnection, error: QueueFullError) -> Response:
    """Answer 503 for `QueueFullError`, in the form in which the app tells of HTTP errors.

    Args:
        connection: The request.
        error: What was raised in it; for anything but a request it is raised again.
    """
    if not isinstance(connection, Request):
        raise error
    headers = {"Retry-After": str(error.retry_after)}
    answer = HTTPException(503, "Too much work is waiting. Please try again later.", headers)
    handlers = connection.app.exception_handlers
    handler = next((handlers[kind] for kind in type(answer).__mro__ if kind in handlers), None)
    if handler is None:
        return JSONResponse({"detail": answer.detail}, 503, headers)
    response = handler(connection, answer)
    return cast(Response, await response if inspect.isawaitable(response) else response)


class RequestVisit:
    """One request to an app with a runner installed; empty until there are tasks.

    Args:
        runner: The app's.
        refuse: Raise for what cannot be stored.
    """

    # Here, and not in `__init__`, as hardly any request has others.
    _has_edge = True
    _outer: RequestVisit | None = None
    has_ended: bool = False

    def __init__(self, runner: Runner, *, refuse: bool) -> None:
        self._runner = runner
        self._refuse = refuse
        self.batches: list[RequestBatch] = []

    @classmethod
    def without_edge(cls, runner: Runner, *, refuse: bool) -> RequestVisit:
        """Return a visit that no edge is around: the end of its route is its end."""
        visit = cls(runner, refuse=refuse)
        visit._has_edge = False
        return visit

    def batch(self, scope: Scope, tasks: object) -> RequestBatch | None:
        """Return the batch of the route that is being called, or of what its endpoint was given."""
        batch = scope.get(_BATCH)
        if batch is None and isinstance(tasks, BackgroundTasks):
            batch = batch_of(tasks)
        return batch if isinstance(batch, RequestBatch) else None

    def open(self, tasks: fastapi.BackgroundTasks, scope: Scope) -> RequestBatch:
        """Make the batch of a route before any of its dependencies, and be told of its ends."""
        batch = RequestBatch(self._runner, tasks, scope, refuse=self._refuse)
        scope[_BATCH] = batch
        self.batches.append(batch)
        stack = scope["fastapi_inner_astack"]
        if not self._has_edge:
            stack.push_async_exit(self._end_with_route)
        stack.push_async_exit(_leaving(batch, scope))
        return batch

    def open_later(self, tasks: fastapi.BackgroundTasks, scope: Scope) -> Opening | None:
        """Make the batch of a route when it has a task; None where that would be too late."""
        if not self._has_edge:
            return None
        opening = Opening(self._runner, scope, self, refuse=self._refuse)
        attach_opening(tasks, opening)
        return opening

    def take_late(self, tasks: BackgroundTasks, scope: Scope) -> RequestBatch:
        """Make a batch of tasks that nobody saw before they were called.

        An exception handler or a plain Starlette route has returned them: they are stored now.
        """
        batch = RequestBatch(self._runner, tasks, scope, refuse=False)
        self.batches.append(batch)
        return batch

    def inside(self, runner: Runner, *, refuse: bool) -> RequestVisit:
        """Return the visit to a mounted app; its jobs start when the whole request has ended."""
        visit = RequestVisit(runner, refuse=refuse)
        visit._has_edge, visit._outer, visit.batches = self._has_edge, self, self.batches
        return visit

    def is_over(self) -> bool:
        """Return whether the request has ended."""
        return self.has_ended if self._outer is None else self._outer.is_over()

    async def _end_with_route(self, exc_type: object, *_: object) -> None:
        error = await self.end()
        if error is not None and exc_type is None:
            raise error

    async def end(self) -> BaseException | None:
        """The request has ended: start its jobs.

        Returns:
            In test mode, where it waits for them, the first error.
        """
        self.has_ended = True
        first: BaseException | None = None
        for batch in self.batches:
            first = await batch.request_ended() or first
        self.batches.clear()
        return first

    async def failed(self, error: BaseException) -> None:
        """The request has raised: start its jobs; when cancelled, without waiting for anything."""
        if isinstance(error, Exception):
            await self.end()
            return
        self.has_ended = True
        for batch in self.batches:
            batch.give_up()


def _leaving(batch: RequestBatch, scope: Scope) -> Callable[..., Any]:
    async def leave(exc_type: object, *_: object) -> None:
        """The response is sent and the request's dependencies are closed."""
        try:
            if exc_type is None:
                # Again for what came late; and for all, when Starlette never called them.
                await batch.run_in_request()
        finally:
            batch.close()
            scope.pop(_BATCH, None)

    return leave


class Opening:
    """A request whose endpoint has its `BackgroundTasks`, and no tasks yet.

    It does not refer to them: what is never used needs no garbage collector.

    Args:
        runner: The app's.
        scope: The ASGI scope of the route.
        visit: The request.
        refuse: Raise for what cannot be stored.
    """

    __slots__ = ("_is_late", "_live", "_refuse", "_runner", "_scope", "_visit")

    def __init__(self, runner: Runner, scope: Scope, visit: RequestVisit, *, refuse: bool) -> None:
        self._runner = runner
        self._scope = scope
        self._visit = visit
        self._refuse = refuse
        self._is_late = False
        # Tasks may be added from a thread, which could not tell.
        self._live = runner.runs_on_this_loop()

    def open(self, tasks: BackgroundTasks) -> RequestBatch:
        """Make the batch of the request, to be stored when its endpoint has done well."""
        late = self._is_late
        batch = RequestBatch(
            self._runner, tasks, self._scope, refuse=self._refuse, live=self._live, late=late
        )
        if self._visit.is_over():
            batch.close()
            return batch
        self._visit.batches.append(batch)
        if not late:
            self._scope["fastapi_function_astack"].push_async_exit(batch)
        return batch

    def endpoint_returned(self, tasks: BackgroundTasks) -> None:
        """The endpoint has returned, and perhaps put tasks into the list by hand."""
        if tasks.tasks:
            batch_of(tasks)
        else:
            self._is_late = True


class Edge:
    """The app with an outermost wrapper: jobs of a request start when it has ended.

    Every request passes through it, so it does next to nothing until there are tasks.

    Args:
        app: The app with its middleware.
        runner: The app's.
        refuse: Raise for what cannot be stored.
    """

    def __init__(self, app: ASGIApp, runner: Runner, *, refuse: bool) -> None:
        self.app = app
        self._runner = runner
        self._refuse = refuse
        self._streams = EventStreams(runner)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and see to its end."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        outer: RequestVisit | None = scope.get(VISIT)
        if outer is not None:
            scope[VISIT] = outer.inside(self._runner, refuse=self._refuse)
            await self.app(scope, receive, send)
            return
        visit = scope[VISIT] = RequestVisit(self._runner, refuse=self._refuse)
        task = self._runner.current_task()
        token = SCOPE.set(scope)
        try:
            await self.app(scope, receive, self._streams.watched(send, task))
        except BaseException as error:
            if not await self._streams.was_ended(error, task, send):
                await visit.failed(error)
                raise
        finally:
            SCOPE.reset(token)
            # The two refer to each other, and would wait for the garbage collector.
            scope.pop(VISIT, None)
        if self._streams.are_open:
            self._streams.over(task)
        if visit.batches:
            error_of_job = await visit.end()
            if error_of_job is not None:
                raise error_of_job
        else:
            visit.has_ended = True
