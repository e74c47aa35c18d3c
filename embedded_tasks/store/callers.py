"""Those who wait for a commit: how long, and what becomes of them when they are cancelled.

What lives here: futures and their deadlines. What does not: what is written. Used by the writer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

__all__ = ["Commit", "Deadlines", "cancel_later"]


class Commit(asyncio.Future[Any]):
    """The end of an operation that is waited for even by a task that is cancelled.

    What a scope of anyio's around it would do, without its price in every request.
    """

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002  # asyncio's own name
        """Do nothing: the task is told when this is done, and not before."""
        return False


def cancel_later(error: asyncio.CancelledError) -> None:
    """Let the running task go on to its next await, and be cancelled there, as it was here."""
    task = asyncio.current_task()
    if task is not None:
        # The same cancellation, counted once: `asyncio.timeout` and anyio's scopes know their own.
        task.uncancel()
        task.cancel(*error.args)


class Deadlines:
    """One timer for all who wait equally long; a timer for each costs more than the rest of it."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, future: asyncio.Future[Any], when: float) -> None:
        """Fail a future that is not done by this time of the loop's clock."""
        self._waiting.append((when, future))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_at(when, self._over)

    def look(self) -> None:
        """Forget those that are done; with none left there is no timer."""
        while self._waiting and self._waiting[0][1].done():
            self._waiting.popleft()
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._waiting and self._waiting[0][0] <= loop.time():
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(TimeoutError())
        self.look()
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0][0], self._over)
