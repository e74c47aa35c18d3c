"""All queues that there are, those with nothing to do included.

What lives here: which names are known, and from where. What does not: how long a queue is, which
the store tells. Called by `reports`.
"""

from __future__ import annotations

from embedded_tasks.config import Policy
from embedded_tasks.reported import Count, QueueReport
from embedded_tasks.session import Session
from embedded_tasks.settings import ALL_QUEUES

__all__ = ["known_queues"]


async def known_queues(session: Session, now: float) -> list[QueueReport]:
    """Return every queue that jobs, tasks of this code or the settings name, by name.

    Args:
        session: The running session.
        now: The wall clock.
    """
    found = {queue.name: queue for queue in await session.store.views.queues(now)}
    named = {Policy().queue, *session.parts.catalogue.queues(), *session.parts.settings.max_queued}
    named |= set(await session.store.views.queues_of_jobs())
    for name in named - {ALL_QUEUES, *found}:
        found[name] = QueueReport(name, Count(0), Count(0), 0)
    return [found[name] for name in sorted(found)]
