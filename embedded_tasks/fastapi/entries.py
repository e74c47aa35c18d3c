"""What the adapter puts into the list of a request's tasks.

What lives here: entries that are `BackgroundTask`s to whoever looks. What does not: when they are
stored and run, which is in `batch.py`, the only caller.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from starlette.background import BackgroundTask as StarletteTask

from embedded_tasks.enqueue import Draft, Reserved

__all__ = ["AsItIs", "DurableTask"]


class DurableTask(StarletteTask):
    """One entry of `BackgroundTasks.tasks` that can be stored.

    It is a `BackgroundTask` to whoever looks, and is run by the runner.
    """

    def __init__(self, draft: Draft, func: Any, args: Any, kwargs: Any) -> None:
        # Starlette's own would look into the function once more.
        self.func = func
        self.args = args
        self.kwargs = kwargs
        self.is_async: bool = draft.task.is_coroutine_function
        self.draft = draft
        self.reserved: Reserved | None = None
        self.stored = False


class AsItIs(StarletteTask):
    """A background of a response that is not looked into, as an entry."""

    def __init__(self, background: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.background = background

    async def __call__(self) -> None:
        """Call it."""
        await self.background()
