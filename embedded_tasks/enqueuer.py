"""How users enqueue: typed, so that editors check the arguments of a job.

What lives here: `Enqueuer`, the typed face of the front door. What does not: storing. The runner
is one, and `options(...)` returns one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, Unpack, overload

from embedded_tasks.config import JobOptions
from embedded_tasks.context import JobContext
from embedded_tasks.handle import Job

__all__ = ["EnqueuePort", "Enqueuer"]

P = ParamSpec("P")
R = TypeVar("R")


class EnqueuePort(Protocol):
    """What an `Enqueuer` asks of the runner."""

    async def enqueue_call(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions
    ) -> Job[Any]:
        """Store a job."""
        ...

    def enqueue_call_sync(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions
    ) -> Job[Any]:
        """Store a job from outside the event loop."""
        ...


class Enqueuer:
    """Enqueues jobs with a given set of options.

    Args:
        port: The runner.
        options: Policy and due time of every job enqueued here.
    """

    def __init__(self, port: EnqueuePort, options: JobOptions) -> None:
        self._port = port
        self._options = options

    def options(self, **options: Unpack[JobOptions]) -> Enqueuer:
        """Return an enqueuer with these options beside the present ones.

        Args:
            options: All that `@task` takes, and `delay` (seconds or timedelta) or `run_at` (a
                datetime with a time zone).

        Example:
            `await runner.options(delay=60, queue="mail").enqueue(send_invoice, 42)`
        """
        return Enqueuer(self._port, {**self._options, **options})

    @overload
    async def enqueue(
        self,
        func: Callable[Concatenate[JobContext, P], Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Job[R]: ...

    @overload
    async def enqueue(
        self, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...

    @overload
    async def enqueue(
        self, func: Callable[Concatenate[JobContext, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...

    @overload
    async def enqueue(
        self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...

    async def enqueue(self, func: Any, /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Store a job; when this returns, it is on disk, and it will run.

        Args:
            func: A function of a known package.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Returns:
            A handle, on which the result can be awaited.

        Raises:
            NotDurableError: The function or an argument cannot be stored; says which and why.
            ArgumentsError: The arguments do not fit the function.
            NotStartedError: The runner is not running.
            StoreUnavailableError: It could not be stored just now.

        Example:
            `job = await runner.enqueue(send_invoice, 42)`
        """
        return await self._port.enqueue_call(func, args, kwargs, self._options)

    @overload
    def enqueue_sync(
        self,
        func: Callable[Concatenate[JobContext, P], Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Job[R]: ...

    @overload
    def enqueue_sync(
        self, func: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...

    @overload
    def enqueue_sync(
        self, func: Callable[Concatenate[JobContext, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...

    @overload
    def enqueue_sync(
        self, func: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[R]: ...

    def enqueue_sync(self, func: Any, /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Store a job from a `def` endpoint, a thread or a script; see `enqueue`.

        Raises:
            ConfigurationError: Called on the event loop; use `await enqueue(...)` there.

        Example:
            `job = runner.enqueue_sync(send_invoice, 42)`
        """
        return self._port.enqueue_call_sync(func, args, kwargs, self._options)
