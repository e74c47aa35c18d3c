"""That something has changed, told to pages that then read themselves anew; not what.

What lives here: one look for all who follow, and how often they are told. What does not: what
happened (`feed`). Owned by the feed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import structlog

from embedded_tasks.clock import Clock, Timer
from embedded_tasks.errors import StoreError
from embedded_tasks.store import News

__all__ = ["Change", "Changes"]

_log = structlog.get_logger("embedded_tasks")

_LOOK_EVERY: Final = 1.0
_SOONEST: Final = 0.15
_REST: Final = 2.0
_AT_ONCE: Final = 0.15
_A_SECOND: Final = 15


@dataclass(frozen=True, slots=True)
class Change:
    """That something has changed.

    Args:
        mark: Names how the file was then.
        within: In how many seconds to look, at a random moment: so that of many who follow not
            all do so at once.
    """

    mark: str
    within: float


class Changes:
    """Says that the file has changed: soon after it was at rest, and now and then while it is not.

    The more follow, the longer is the pause while it is not at rest: all together they are sent to
    look no more than so many times a second.

    However much happens and however many follow, the file is looked at a few times a second, for
    a single number; nobody looks while nobody follows.

    Args:
        news: Has the number.
        clock: Where the time comes from.
    """

    def __init__(self, news: News, clock: Clock) -> None:
        self._news = news
        self._clock = clock
        # The number means something in this process alone.
        self._run_id = int(clock.now() * 1000)
        self._followers: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._timer: Timer | None = None
        self._rests = False
        self._closed = False
        self._announced: Change | None = None

    @property
    def announced(self) -> str | None:
        """The mark that was told last; None when nobody follows, or nothing was told yet.

        What was read after that and before the next one is as good as what each of those who
        were told would read.
        """
        return None if self._announced is None else self._announced.mark

    async def mark(self) -> str:
        """Return how the file is: another mark than before means that it has changed."""
        return f"{self._run_id}-{await self._news.version()}"

    def poke(self) -> None:
        """Something was written here: look soon, if anybody follows."""
        if self._task is not None and self._timer is None and not self._rests:
            self._timer = self._clock.call_later(_SOONEST, self._look_now)

    def end(self) -> None:
        """End for everybody; the process is about to stop."""
        self._closed = True
        for follower in self._followers:
            follower.set()
        self._stop()

    async def close(self) -> None:
        """End for everybody and wait for the one who looks."""
        self.end()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    async def follow(self, after: str | None) -> AsyncIterator[Change]:
        """Yield a change whenever the file has changed, until the process stops.

        Args:
            after: The mark that is known; where it is another one now, that is told at once.
        """
        told = asyncio.Event()
        # First it listens, then it compares: nothing that happens meanwhile falls in between.
        self._followers.add(told)
        try:
            last = await self.mark()
            self._start(last)
            if after is not None and after != last:
                yield Change(last, _AT_ONCE)
            while not self._has_ended():
                await told.wait()
                told.clear()
                if self._announced is not None:
                    yield self._announced
        finally:
            self._followers.discard(told)
            if not self._followers:
                self._stop()
                self._task = None

    def _has_ended(self) -> bool:
        return self._closed

    def _start(self, last: str) -> None:
        if self._task is None and not self._closed:
            self._task = asyncio.create_task(self._run(last), name="embedded_tasks changes")

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()
        self._announced = None

    def _look_now(self) -> None:
        self._timer = None
        self._wake.set()

    async def _run(self, last: str) -> None:
        while True:
            # Before it is read: what is written while it is read is looked at once more.
            self._wake.clear()
            try:
                mark = await self.mark()
            except StoreError as error:
                _log.warning("changes.failed", error=str(error))
                mark = last
            rest = max(_REST, len(self._followers) / _A_SECOND)
            # Those who were told just now look again no sooner than the others have looked.
            within = rest / 2 if self._rests else _AT_ONCE
            self._rests = mark != last
            if self._rests:
                last, self._announced = mark, Change(mark, within)
                for follower in self._followers:
                    follower.set()
            timer = self._clock.call_later(rest if self._rests else _LOOK_EVERY, self._wake.set)
            try:
                await self._wake.wait()
            finally:
                timer.cancel()
