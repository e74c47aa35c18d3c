"""Taking over what a sibling leaves: a hint says that one may have died, its lock whether it has.

What lives here: who is told of a death. What does not: what becomes of each job (`recovery.py`).
Owned by the session.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from embedded_tasks.clock import Clock, pause
from embedded_tasks.processes import Kind, Peers
from embedded_tasks.recovery import Recoverer, RecoveryReport
from embedded_tasks.store import Store
from embedded_tasks.waiting import Waiting
from embedded_tasks.worker import Worker

__all__ = ["Heir"]

_log = structlog.get_logger("embedded_tasks")

_PROBE_EVERY = 30.0


class Heir:
    """Takes over the jobs of dead siblings.

    Args:
        recoverer: Puts jobs back.
        store: Where they are.
        peers: The siblings.
        worker: Claims what was put back.
        waiting: Those who wait for the end of a job.
        process_id: This process.
        settled: Gets the ids of jobs that have finished or are held.
    """

    def __init__(
        self,
        recoverer: Recoverer,
        store: Store,
        peers: Peers,
        *,
        worker: Worker,
        waiting: Waiting,
        process_id: str,
        settled: Callable[[list[str]], None],
    ) -> None:
        self._recoverer = recoverer
        self._store = store
        self._peers = peers
        self._worker = worker
        self._waiting = waiting
        self._process_id = process_id
        self._settled = settled

    async def probe_regularly(self, clock: Clock) -> None:
        """Where the system does not tell of a sibling's end, look every half minute."""
        while True:
            await pause(clock, _PROBE_EVERY)
            self._peers.refresh()
            for peer in self._peers.ids:
                await self._look(peer)

    async def take_over(self, peer: str) -> None:
        """A sibling seems to have died: its lock tells; its death is also a reason to look."""
        # Before it is known who puts its jobs back: one of them may be a suspect for any sibling.
        self._worker.suspects.rest()
        await self._look(peer)

    async def _look(self, peer: str) -> None:
        report = RecoveryReport()
        await self._recoverer.recover(peer, report)
        if report.processes:
            self._worker.suspects.rest()
            _log.warning(
                "process.recovered", process=peer, recovered=report.recovered, held=len(report.held)
            )
            self._settled(report.held + report.failed)
            self._waiting.tell()
            self._peers.broadcast(Kind.WORK)
        if report.processes or report.left:
            self._waiting.gone(peer)
            self._settled(await self._store.hold_unknown(self._process_id, []))
        await self._waiting.look()
        self._worker.wake()
