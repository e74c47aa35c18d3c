"""The end of a session's work, which a signal or the end of the lifespan begins.

What lives here: that it is begun once, and that all who ask wait for the same end. What does not:
what is done then, which is the session's. Used by the session.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

__all__ = ["Ending"]


class Ending:
    """Something that is done once, whoever asks for it first.

    A server that waits for open requests ends the lifespan late, or never. The work ends by the
    signal alone, so that its state is settled whatever the server does.

    Args:
        end: What is done.
    """

    def __init__(self, end: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._end = end
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Begin the end, without waiting for it."""
        if self._task is None:
            self._task = asyncio.create_task(self._end(), name="embedded_tasks ending")

    async def over(self) -> None:
        """Return when the end is over; it goes on although whoever waits is cancelled."""
        self.begin()
        if self._task is not None:
            await asyncio.shield(self._task)
