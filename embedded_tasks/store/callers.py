"""Those who wait for a commit: what for, how long, and what becomes of it when they give up.

What lives here: operations, futures and their deadlines, and what must still be undone. What does
not: the statements. Used by the writer.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Apply", "Commit", "Deadlines", "Debts", "Operation", "cancel_later"]

_NEXT_TRY = 1.0

Apply = Callable[[sqlite3.Connection, list[Any]], Any]


@dataclass(slots=True, eq=False)
class Operation:
    """Rows to be written, and the function that writes them.

    Operations with the same `apply` in one batch are written by one call, so their results are
    shared. `undo` writes the same rows off when they were committed after their caller had given
    up.
    """

    apply: Apply
    # Not shown: aiosqlite's debug log writes what it runs, and these hold arguments.
    rows: list[Any] = field(repr=False)
    size: int = 0
    undo: Apply | None = None
    future: asyncio.Future[Any] | None = field(default=None, repr=False)
    withdrawn: bool = False
    skipped: bool = False


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


class Debts:
    """What has to be undone, and cannot be just now: it is tried again every second.

    Args:
        loop: The writer's.
        submit: Gets each operation again.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, submit: Callable[[Operation], None]
    ) -> None:
        self._loop = loop
        self._submit = submit
        self._waiting: list[Operation] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def add(self, operation: Operation) -> None:
        """Try this again soon."""
        self._waiting.append(operation)
        if self._timer is None and not self._closed:
            self._timer = self._loop.call_later(_NEXT_TRY, self._try)

    def close(self) -> None:
        """Try no more: whoever recovers this process finds its jobs unstarted."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _try(self) -> None:
        self._timer = None
        waiting, self._waiting = self._waiting, []
        for operation in waiting:
            self._submit(operation)
