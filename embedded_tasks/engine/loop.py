"""Async functions: each call is an asyncio task of its own, never inside a scope that waits for it.

What lives here: starting and stopping such a call. What does not: timers and outcomes. A task that
swallows its cancellation cannot be left by a scope around it, so there is none. Called by
`attempt.py`.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import FrameType
from typing import Any

__all__ = ["Done", "LoopCall", "start_on_loop"]

Done = Callable[[Any, BaseException | None], None]

_DEEPEST = 100


class LoopCall:
    """A call that runs on the event loop.

    Args:
        task: The asyncio task.
        done: Called on the loop with the value, or with None and the error.
    """

    __slots__ = ("_done", "_task")

    interruptible = True

    def __init__(self, task: asyncio.Task[Any], done: Done | None = None) -> None:
        self._task = task
        self._done = done

    def is_task(self, task: asyncio.Task[Any]) -> bool:
        """Whether it runs in this very task."""
        return self._task is task

    def interrupt(self) -> None:
        """Cancel the call; it may clean up, and it may refuse."""
        self._task.cancel()

    def kill(self) -> bool:
        """Return that there is no way to end the call if it refuses."""
        return False

    def ended(self, task: asyncio.Task[Any]) -> None:
        """Tell of the end."""
        done, self._done = self._done, None
        if done is None:
            return
        if task.cancelled():
            done(None, asyncio.CancelledError())
            return
        error = task.exception()
        if error is None:
            done(task.result(), None)
        else:
            done(None, error.cause if isinstance(error, _Exited) else error)

    def stack(self) -> str:
        """Return where the call is now, as text, down to what it waits for."""
        frames: list[tuple[FrameType, int]] = []
        inside: Any = self._task.get_coro()
        # asyncio's own print_stack shows the outermost coroutine only, which is ours.
        while inside is not None and len(frames) < _DEEPEST:
            frame = _first(inside, "cr_frame", "gi_frame", "ag_frame")
            if frame is not None:
                frames.append((frame, frame.f_lineno))
            inside = _first(inside, "cr_await", "gi_yieldfrom", "ag_await")
        return "".join(traceback.StackSummary.extract(iter(frames)).format())


def _first(found: Any, *names: str) -> Any:
    return next((getattr(found, name) for name in names if hasattr(found, name)), None)


def start_on_loop(
    function: Callable[..., Coroutine[Any, Any, Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: Context,
    done: Done,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
) -> LoopCall:
    """Start an async function.

    Args:
        function: Called with the arguments inside `context`.
        args: Positional arguments.
        kwargs: Keyword arguments.
        context: The context variables that the function sees.
        done: Called on the loop with the value, or with None and the error.
        loop: The running loop; to ask for it is a system call before Python 3.12.
    """
    task = (loop or asyncio.get_running_loop()).create_task(
        _call(function, args, kwargs), context=context
    )
    call = LoopCall(task, done)
    task.add_done_callback(call.ended)
    return call


async def _call(
    function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    try:
        return await function(*args, **kwargs)
    except SystemExit as error:
        # Let through, it would end the event loop, and the app with it.
        raise _Exited(error) from error


class _Exited(Exception):
    def __init__(self, cause: SystemExit) -> None:
        self.cause = cause
        super().__init__(str(cause))
