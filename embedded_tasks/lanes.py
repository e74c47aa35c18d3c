"""A lane: what the async functions, or the sync ones, have of their own.

What lives here: slots, jobs claimed ahead of a slot, and whether there may be more that is due.
What does not: running anything. Used by the worker.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from embedded_tasks.job import ClaimedJob
from embedded_tasks.slots import Slots

__all__ = ["Lane", "Want"]

# More would cost fewer commits for each job, and keep requests waiting: while the rows of a batch
# are read and made, nothing else of the process runs.
_MOST_AHEAD = 96


@dataclass(slots=True)
class Want:
    """What one claim asks for a lane: the slots taken for it, and the jobs that it may bring."""

    is_async: bool
    places: int
    limit: int
    taken: int = 0


@dataclass(slots=True)
class Lane:
    """Slots of one kind of function.

    Args:
        is_async: The kind.
        slots: How many attempts may run at once.
        ready: Jobs claimed ahead of a slot: as many as ended while one claim was under way, so that
            the slots do not stand empty during a commit, and none when jobs take longer.
        ended: How many attempts have ended since the start.
        due: Whether the store may have more that is due.
        starting: Whether jobs out of `ready` are about to be started.
        ended_at: When the last attempt ended, by the monotonic clock.
    """

    is_async: bool
    slots: Slots
    ready: deque[ClaimedJob] = field(default_factory=deque)
    ended: int = 0
    due: bool = True
    starting: bool = False
    ended_at: float = 0.0
    _ended_at_claim: int = 0
    _ended_at_look: int = 0

    def want(self) -> Want | None:
        """Take the free slots for a claim; None when there is nothing to ask for."""
        if not self.due or self.starting:
            return None
        places = self.slots.take(self.slots.size)
        ahead = max(0, min(self.ended - self._ended_at_claim, _MOST_AHEAD) - len(self.ready))
        self._ended_at_claim = self.ended
        if not places + ahead:
            return None
        self.due = False
        return Want(self.is_async, places, places + ahead)

    def stands(self) -> bool:
        """Return whether no attempt has ended since this was last asked."""
        before, self._ended_at_look = self._ended_at_look, self.ended
        return before == self.ended

    def drain(self) -> list[str]:
        """Take out the jobs that were claimed ahead; return their ids."""
        ids = [job.id for job in self.ready]
        self.ready.clear()
        return ids
