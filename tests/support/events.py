"""What was told to observers, to be waited for without polling.

What lives here: `Events`, an observer. What does not: events themselves
(`embedded_tasks/events.py`). Called by tests that follow a job.
"""

from __future__ import annotations

import asyncio

from embedded_tasks.events import EventName, JobEvent

__all__ = ["Events"]


class Events:
    """An observer that remembers, and that a test can wait on."""

    def __init__(self) -> None:
        self.seen: list[JobEvent] = []
        self._waiting: list[tuple[EventName, int, asyncio.Future[None]]] = []

    def __call__(self, event: JobEvent) -> None:
        self.seen.append(event)
        for name, wanted, future in self._waiting:
            if not future.done() and len(self.named(name)) >= wanted:
                future.set_result(None)

    @property
    def names(self) -> list[EventName]:
        return [event.name for event in self.seen]

    def named(self, name: EventName) -> list[JobEvent]:
        return [event for event in self.seen if event.name is name]

    async def wait(self, name: EventName, times: int = 1) -> JobEvent:
        """Return the event of this name that came as the `times`-th, now or later."""
        if len(self.named(name)) < times:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((name, times, future))
            await future
        return self.named(name)[times - 1]
