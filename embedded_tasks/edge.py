"""The outermost edge of an app: where a request really begins and ends.

What lives here: what is known of one request on its way, and its end. What does not: its tasks
(`batch.py`). Put around the app by `fastapi.py`.
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

from embedded_tasks.background import SCOPE, VISIT, BackgroundTasks
from embedded_tasks.batch import RequestBatch
from embedded_tasks.errors import QueueFullError
from embedded_tasks.runner import Runner
from embedded_tasks.streams import EventStreams

__all__ = ["Edge", "RequestVisit", "answer_queue_full"]

_BATCH = "embedded_tasks.batch"


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
    """One request to an app with a runner installed.

    Args:
        runner: The app's.
        scope: The request's ASGI scope.
        refuse: Raise for what cannot be stored.
        batches: Where its batches are gathered; None where no edge is around it, and the end of
            its route is the end of the request.
    """

    def __init__(
        self,
        runner: Runner,
        scope: Scope,
        *,
        refuse: bool,
        batches: list[RequestBatch] | None,
    ) -> None:
        self._runner = runner
        self._scope = scope
        self._refuse = refuse
        self._has_edge = batches is not None
        self._batches = [] if batches is None else batches

    def batch(self, scope: Scope) -> RequestBatch | None:
        """Return the batch of the route that is being called."""
        batch: RequestBatch | None = scope.get(_BATCH)
        return batch

    def open(self, tasks: fastapi.BackgroundTasks, scope: Scope) -> RequestBatch:
        """Make the batch of a route, and see to its end; called inside the route."""
        batch = RequestBatch(self._runner, tasks, scope, refuse=self._refuse)
        scope[_BATCH] = batch
        stack = scope["fastapi_inner_astack"]
        if not self._has_edge:
            stack.push_async_exit(self._end_with_route)
        stack.push_async_exit(self._ending(batch, scope))
        return batch

    def take_late(self, tasks: BackgroundTasks) -> RequestBatch:
        """Make a batch of tasks that nobody saw before they were called.

        An exception handler or a plain Starlette route has returned them: they are stored now.
        """
        batch = RequestBatch(self._runner, tasks, self._scope, refuse=False)
        self._batches.append(batch)
        return batch

    def inside(self, runner: Runner, *, refuse: bool) -> RequestVisit:
        """Return the visit to a mounted app; its jobs start when the whole request has ended."""
        return RequestVisit(runner, self._scope, refuse=refuse, batches=self._batches)

    def _ending(self, batch: RequestBatch, scope: Scope) -> Callable[..., Any]:
        async def end(exc_type: object, *_: object) -> None:
            """The response is sent and the request's dependencies are closed."""
            self._batches.append(batch)
            try:
                if exc_type is None:
                    # Again for what came late; and for all, when Starlette never called them.
                    await batch.run_in_request()
            finally:
                batch.close()
                scope.pop(_BATCH, None)

        return end

    async def _end_with_route(self, exc_type: object, *_: object) -> None:
        error = await self.end()
        if error is not None and exc_type is None:
            raise error

    async def end(self) -> BaseException | None:
        """The request has ended: start its jobs.

        Returns:
            In test mode, where it waits for them, the first error.
        """
        errors = [await batch.request_ended() for batch in self._batches]
        return next((error for error in errors if error is not None), None)

    def give_up(self) -> None:
        """The request was cancelled: start its jobs, without waiting for anything."""
        for batch in self._batches:
            batch.give_up()


class Edge:
    """The app with an outermost wrapper: jobs of a request start when it has ended.

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
        visit = RequestVisit(self._runner, scope, refuse=self._refuse, batches=[])
        scope[VISIT] = visit
        token = SCOPE.set(scope)
        try:
            await self._streams.run(self.app, scope, receive, send)
        except Exception:
            await visit.end()
            raise
        except BaseException:
            visit.give_up()
            raise
        finally:
            SCOPE.reset(token)
            # The two refer to each other, and would wait for the garbage collector.
            scope.pop(VISIT, None)
        error = await visit.end()
        if error is not None:
            raise error
