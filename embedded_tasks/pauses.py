"""Which queues are paused, as this process knows it.

What lives here: what is asked before a job starts without being claimed. What does not: claims,
which look into the store. Owned by the session.
"""

from __future__ import annotations

from embedded_tasks.store import Store

__all__ = ["Pauses"]


class Pauses:
    """The paused queues.

    Args:
        store: Where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.names: frozenset[str] = frozenset()

    def is_paused(self, queue: str) -> bool:
        """Return whether the jobs of a queue may not start."""
        return queue in self.names

    async def look(self) -> None:
        """Read which queues are paused: at the start, and when one was paused or resumed."""
        self.names = frozenset(await self._store.views.paused())
