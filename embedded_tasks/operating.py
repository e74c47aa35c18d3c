"""What operators have of a running session: paused queues, notes of jobs, and the feed.

What lives here: these three, put together. What does not: acting and asking (`control`,
`reports`). Owned by the session.
"""

from __future__ import annotations

from embedded_tasks.clock import Clock
from embedded_tasks.events import JobEvent, Observer
from embedded_tasks.feed import Feed
from embedded_tasks.notes import Notebook
from embedded_tasks.pauses import Pauses
from embedded_tasks.store import Store

__all__ = ["Operating"]


class Operating:
    """What operators have of a session.

    Args:
        store: The open store.
        clock: Where the time comes from.
        keep_failures: Seconds that a kind of failures is remembered.
        observe: Told of attempts whose process died.
    """

    def __init__(self, store: Store, clock: Clock, keep_failures: float, observe: Observer) -> None:
        self._observe = observe
        self.pauses: Pauses = Pauses(store)
        self.feed: Feed = Feed(store.news, clock)
        self.notebook: Notebook = Notebook(store, clock, keep_failures, self.feed.poke)

    def crashed(self, event: JobEvent) -> None:
        """Count and tell of an attempt whose process was found dead."""
        self.notebook.crashed(event.task)
        self._observe(event)

    async def close(self) -> None:
        """End the streams and write what is left."""
        await self.feed.close()
        await self.notebook.close()
