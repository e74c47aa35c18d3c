"""A lane: what the async functions, or the sync ones, have of their own.

What lives here: slots, jobs claimed ahead of a slot, and whether there may be more that is due.
What does not: running anything. Used by the worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field
from typing import NamedTuple

from embedded_tasks.context import Original
from embedded_tasks.job import ClaimedJob
from embedded_tasks.slots import Slots

__all__ = ["Lane", "Ready", "Want"]

# More would cost fewer commits for each job, and keep requests waiting: while the rows of a batch
# are read and made, nothing else of the process runs.
_MOST_AHEAD = 96

_LONGEST_LINE = 256


class Ready(NamedTuple):
    """A job of this process that waits for a slot here.

    Args:
        job: The job.
        original: Its call's own objects, if they are at hand.
    """

    job: ClaimedJob
    original: Original | None = None


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
        ready: Jobs that wait for a slot here, and not for long: claimed ahead of one, so that the
            slots do not stand empty during a commit; and those of requests that have ended, so
            that nobody has to claim them.
        ended: How many attempts have ended since the start.
        due: Whether the store may have more that is due.
        behind: Jobs that came while a claim was under way: what it brings has waited longer.
        claiming: Whether a claim is under way.
        starting: Whether jobs out of `ready` are about to be started.
        ended_at: When the last attempt ended, by the monotonic clock.
    """

    is_async: bool
    slots: Slots
    ready: deque[Ready] = field(default_factory=deque)
    behind: list[Ready] = field(default_factory=list)
    ended: int = 0
    due: bool = True
    claiming: bool = False
    starting: bool = False
    ended_at: float = 0.0
    _ended_at_claim: int = 0
    _ended_at_look: int = 0
    _low: int = 0
    _short: bool = False

    def want(self) -> Want | None:
        """Take the free slots for a claim; None when there is nothing to ask for.

        When few wait here, as many more are asked for as have ended since the last claim, and
        twice as many when that one came too late.
        """
        if not self.due or self.starting:
            return None
        places, ahead = self.slots.take(self.slots.size), 0
        if self.runs_low():
            ended = (self.ended - self._ended_at_claim) * (1 + self._short)
            ahead = min(ended, _MOST_AHEAD)
        if not places + ahead:
            return None
        self._ended_at_claim = self.ended
        self.due, self.claiming = False, True
        return Want(self.is_async, places, places + ahead)

    def runs_low(self) -> bool:
        """Return whether no more wait here than will have ended when a claim asked now is done."""
        return len(self.ready) <= self._low

    def claimed(self, *, may_be_more: bool) -> list[str]:
        """A claim has ended; return the ids of those that may not wait here any longer."""
        ended = self.ended - self._ended_at_claim
        self._short = bool(ended and self.slots.free)
        self._low = min(2 * max(ended, self._low) if self._short else ended, _MOST_AHEAD)
        behind, self.behind, self.claiming = self.behind, [], False
        if may_be_more:
            self.due = True
            return [ready.job.id for ready in behind]
        self.ready.extend(behind)
        return []

    def takes(self) -> bool:
        """Return whether one more job may wait here: nobody has waited longer, and not too many."""
        waiting = len(self.ready) + len(self.behind)
        return not self.due and bool(self.slots.size) and waiting < _LONGEST_LINE

    def late(self) -> list[str]:
        """Take out those for whom there will be no slot soon; return their ids.

        As many stay as slots are free, and as attempts have ended since this was last asked.
        """
        stay = self.slots.free + self.ended - self._ended_at_look
        self._ended_at_look = self.ended
        ids: list[str] = []
        while len(self.ready) > stay:
            ids.append(self.ready.pop().job.id)
        return ids[::-1]

    def remove(self, queues: Container[str]) -> list[str]:
        """Take out those of these queues; return their ids."""
        ids = [job.id for job, _ in (*self.ready, *self.behind) if job.queue in queues]
        self.ready = deque(ready for ready in self.ready if ready.job.queue not in queues)
        self.behind = [ready for ready in self.behind if ready.job.queue not in queues]
        return ids

    def drain(self) -> list[str]:
        """Take out all that wait here; return their ids."""
        ids = [ready.job.id for ready in (*self.ready, *self.behind)]
        self.ready.clear()
        self.behind.clear()
        return ids
