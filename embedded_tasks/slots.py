"""How many attempts run at once, and who waits for a place.

What lives here: counting. What does not: running anything. Used by the worker.
"""

from __future__ import annotations

import asyncio
from collections import deque

__all__ = ["Slots"]


class Slots:
    """The places of one kind (async functions, or sync ones).

    Args:
        size: How many attempts may run at once.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.free: int = size
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self, wanted: int = 1) -> int:
        """Take up to `wanted` places; return how many were free."""
        taken = min(wanted, self.free)
        self.free -= taken
        return taken

    def give_back(self, count: int = 1) -> None:
        """Give places back; whoever waits gets them first."""
        if not self._waiting:
            self.free += count
            return
        for _ in range(count):
            while self._waiting:
                future = self._waiting.popleft()
                if not future.done():
                    future.set_result(None)
                    break
            else:
                self.free += 1

    async def wait(self) -> None:
        """Wait for a place and take it."""
        if self.take():
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled():
                self.give_back()
            raise
