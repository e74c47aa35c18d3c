"""Who waits for a job's end, in this process: woken when it comes, never polling.

What lives here: the waiting, and the messages by which siblings are asked to tell of their ends.
What does not: results. Owned by the runner.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from embedded_tasks.clock import Clock
from embedded_tasks.processes import Kind
from embedded_tasks.store import Store

__all__ = ["Peers", "Waiting"]


class Peers(Protocol):
    """The siblings of this process."""

    def send(self, peer_id: str, kind: Kind) -> bool:
        """Send a message to one."""
        ...

    def broadcast(self, kind: Kind) -> None:
        """Send a message to all."""
        ...


class Waiting:
    """Futures by job id, and the siblings that wait for ours.

    A waiter first asks the siblings to tell it of their ends, then reads the store. A sibling
    answers that request at once, so an end that comes between the two is not missed.

    Args:
        store: Where the ends are read.
        peers: The siblings.
        clock: Where the time comes from.
    """

    def __init__(self, store: Store, peers: Peers, clock: Clock) -> None:
        self._store = store
        self._peers = peers
        self._clock = clock
        self._futures: dict[str, list[asyncio.Future[bool]]] = {}
        self._curious: set[str] = set()

    async def wait(self, job_id: str, timeout: float | None) -> bool:
        """Return True when the job has ended or is held, False after `timeout` seconds."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        timer = None
        if timeout is not None:
            timer = self._clock.call_later(timeout, lambda: _answer(future, ended=False))
        first = not self._futures
        self._futures.setdefault(job_id, []).append(future)
        try:
            if first:
                self._peers.broadcast(Kind.WAITING)
            if await self._store.read.ended([job_id]):
                return True
            return await future
        finally:
            if timer is not None:
                timer.cancel()
            self._forget(job_id, future)

    def settled(self, ids: list[str]) -> None:
        """Wake who waits for these jobs, and tell the siblings that asked."""
        self._wake(ids)
        if ids:
            self.tell()

    def tell(self) -> None:
        """Tell the siblings that asked that something has ended."""
        for peer in self._curious:
            self._peers.send(peer, Kind.SETTLED)

    async def look(self) -> None:
        """Read which of the awaited jobs have ended, after a sibling said that some have."""
        if self._futures:
            self._wake(await self._store.read.ended(list(self._futures)))

    def greet(self, peer: str) -> None:
        """Tell a new sibling that somebody waits here."""
        if self._futures:
            self._peers.send(peer, Kind.WAITING)

    def heard(self, kind: Kind, peer: str) -> None:
        """Remember which siblings want to be told of ends."""
        if kind is Kind.WAITING:
            self._curious.add(peer)
            self._peers.send(peer, Kind.SETTLED)
        elif kind is Kind.NOT_WAITING:
            self._curious.discard(peer)

    def gone(self, peer: str) -> None:
        """Forget a sibling."""
        self._curious.discard(peer)

    def _wake(self, ids: list[str]) -> None:
        for job_id in ids:
            for future in self._futures.get(job_id, ()):
                _answer(future, ended=True)

    def _forget(self, job_id: str, future: asyncio.Future[bool]) -> None:
        futures = self._futures.get(job_id, [])
        futures.remove(future)
        if not futures:
            del self._futures[job_id]
        if not self._futures:
            self._peers.broadcast(Kind.NOT_WAITING)


def _answer(future: asyncio.Future[bool], *, ended: bool) -> None:
    if not future.done():
        future.set_result(ended)
