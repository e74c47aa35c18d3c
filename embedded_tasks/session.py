"""One run of a runner: every part, put together, from start to stop.

What lives here: the order in which parts are opened and closed, and who is told of what. What does
not: what users call, which is in `runner.py`. Made by the runner each time it starts.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import structlog

from embedded_tasks.attempt import Attempt, Ports
from embedded_tasks.backpressure import room_for
from embedded_tasks.chain import Chains
from embedded_tasks.clock import Throttle
from embedded_tasks.ending import Ending
from embedded_tasks.engine import ChildOptions, Children, Threads
from embedded_tasks.enqueue import FrontDoor
from embedded_tasks.environment import Environment
from embedded_tasks.file_trouble import FileTrouble
from embedded_tasks.inheriting import Heir
from embedded_tasks.job import FINISHED, Outcome
from embedded_tasks.known_tasks import KnownTasks
from embedded_tasks.observing import Observing
from embedded_tasks.operating import Operating
from embedded_tasks.parts import Parts
from embedded_tasks.presence import Presence
from embedded_tasks.processes import Kind, Peers
from embedded_tasks.pruner import Pruner
from embedded_tasks.recovery import Recoverer, RecoveryReport
from embedded_tasks.running import Running, RunningHooks
from embedded_tasks.settler import Ended, Settler
from embedded_tasks.signals import ShutdownSignals
from embedded_tasks.store import Store, StoreSettings
from embedded_tasks.supervision import Supervisor
from embedded_tasks.waiting import Waiting
from embedded_tasks.watchdog import Blocked, Watchdog
from embedded_tasks.worker import Worker, WorkerHooks

__all__ = ["Session"]

_log = structlog.get_logger("embedded_tasks")

_OVERFLOW_EVERY = 0.02


class Session:
    """A running runner.

    Args:
        parts: The runner's own parts.
        path: The database file (in test mode a private one), or ":memory:".
        folder: The folder of the process files.
        process_id: The id of this run, 32 hexadecimal characters.
        may_run_jobs: Whether jobs are attempted here, or only enqueued.
    """

    presence: Presence
    store: Store
    environment: Environment
    trouble: FileTrouble
    peers: Peers
    waiting: Waiting
    operating: Operating
    tasks: KnownTasks
    settler: Settler
    threads: Threads
    children: Children
    watchdog: Watchdog
    running: Running
    worker: Worker
    chains: Chains
    front_door: FrontDoor
    recoverer: Recoverer
    heir: Heir
    pruner: Pruner

    def __init__(
        self, parts: Parts, path: str, folder: Path, process_id: str, *, may_run_jobs: bool
    ) -> None:
        self.process_id = process_id
        self.may_run_jobs = may_run_jobs
        slots = parts.settings.concurrency + parts.settings.sync_concurrency
        self.runs_jobs: bool = may_run_jobs and slots > 0
        self.recovered: RecoveryReport = RecoveryReport()
        self.expired_at_start: int = 0
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._joined = False
        self._may_work = False
        self._works = False
        self._ending = Ending(self._end_work)
        self.path: str = path
        self.folder: Path = folder
        self._stack = AsyncExitStack()
        self.signals: ShutdownSignals = ShutdownSignals(self._drain)
        self.supervisor: Supervisor = Supervisor(parts.clock)
        self.parts: Parts = replace(parts, clock=self.supervisor.clock)
        # More is due than this process has slots for; siblings hear of it, not too often.
        self.overflow: Throttle = Throttle(
            parts.clock, _OVERFLOW_EVERY, lambda: self.peers.broadcast(Kind.WORK)
        )
        self.observing: Observing = Observing(
            parts.settings,
            parts.catalogue.parameters_of,
            lambda job_id: self.store.read.get(job_id, parts.clock.now()),
        )

    async def start(self) -> None:
        """Open everything and put back what dead processes left; attempts wait for `begin_work`."""
        try:
            await self._open()
            await self.store.patience.during(self._join)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._stack.aclose()
            raise
        _log.info(
            "runner.started",
            file=self.path,
            processes=len(self.peers.ids) + 1,
            recovered=self.recovered.recovered,
            expired=self.expired_at_start,
            held=len(self.recovered.held),
            runs_jobs=self.runs_jobs,
        )

    async def _join(self) -> None:
        """Take part, unless the file is of another environment: then nothing is touched."""
        if self._joined or not await self.environment.is_ours() or self._joined:
            return  # the last one: of several messages that came together one is enough
        self._joined = True
        self.presence.leaves_nothing = False
        await self.store.add_process(
            self.process_id, os.getpid(), self.parts.clock.now(), runs_jobs=self.runs_jobs
        )
        await self._recover_at_start()
        self._meet_siblings()
        if self._may_work:
            self.begin_work()

    async def adopt(self) -> None:
        """Take over a file of another environment; others that are paused for it look again."""
        await self.environment.adopt()
        await self._join()
        self.peers.broadcast(Kind.HELLO)

    async def _open(self) -> None:
        settings, clock = self.parts.settings, self.parts.clock
        self.presence = Presence(
            self.folder,
            self.path,
            self.process_id,
            stack=self._stack,
            outlived=lambda: self._works and self._still_running() > 0,
        )
        stored = StoreSettings.of(self.path, settings)
        self.store = await Store.open(stored, self.presence.lock, self.presence.guard)
        self._stack.push_async_callback(self.store.close)
        self.environment = Environment(self.store, self.path, settings.environment)
        self.trouble = FileTrouble(self.store, self.path, self.folder, clock)
        loop = self.supervisor.watching(asyncio.get_running_loop())
        self.peers = Peers(self.folder, self.process_id, self._hint, loop)
        self._stack.callback(self.peers.close)
        self._stack.push_async_callback(self.supervisor.close)
        self._build()
        self.presence.mailbox.listen(loop, self._message)

    def _build(self) -> None:
        parts, store, owner = self.parts, self.store, self.process_id
        clock, retention = parts.clock, parts.settings.retention
        self.waiting = Waiting(store, self.peers, clock)
        self.operating = Operating(store, clock, retention.keep("failed"), self.observing.observe)
        self._stack.push_async_callback(self.operating.close)
        self.tasks = KnownTasks(store, owner, parts.catalogue.find, self._ended_elsewhere)
        self.settler = Settler(
            store,
            owner,
            self.presence.process_file,
            clock,
            retention=retention,
            hooks=self.observing.hooks(self._settled, self._stored),
        )
        self._build_worker()
        self.chains = Chains(
            self.worker, store, owner, clock, stored=self._stored, ended=self._ended_elsewhere
        )
        self.front_door = FrontDoor(
            parts.drafting, store, owner, clock, slots=self.worker, stored=self._stored
        )
        self.front_door.room = room_for(parts.settings.max_queued, store, clock, self.peers)
        self.front_door.is_paused = self.chains.is_paused = self.operating.pauses.is_paused
        self.recoverer = Recoverer(
            store, self.folder, owner, clock, retention=retention, observe=self.operating.crashed
        )
        self.heir = Heir(
            self.recoverer,
            store,
            self.peers,
            worker=self.worker,
            waiting=self.waiting,
            process_id=owner,
            settled=self._settled,
        )
        self.pruner = Pruner(store, clock, min(retention.keep(state) for state in FINISHED))
        self._stack.callback(self.pruner.close)

    def _build_worker(self) -> None:
        parts = self.parts
        settings = parts.settings
        self.threads = Threads(asyncio.get_running_loop())
        self._stack.callback(self.threads.close)
        self.children = Children(asyncio.get_running_loop(), parts.clock, self._child_options())
        self._stack.push_async_callback(self.children.close)
        ports = Ports(
            find=parts.catalogue.find,
            codec=parts.codec,
            clock=parts.clock,
            rng=parts.rng,
            threads=self.threads,
            children=self.children,
            patience=settings.cancel_patience,
            notes=self.operating.notebook,
            loop=self.loop,
        )
        self.watchdog = Watchdog(
            parts.clock,
            settings.loop_block_warning,
            running=lambda: self.running,
            told=self._loop_was_blocked,
        )
        self._stack.callback(self.watchdog.close)
        hooks = RunningHooks(self._attempt_ended, self.observing.stuck, self.watchdog.started)
        self.running = Running(ports, self.presence.process_file, hooks, settings.max_stuck)
        self.worker = Worker(
            self.store,
            self.process_id,
            self.tasks,
            ports,
            running=self.running,
            sizes=(settings.concurrency, settings.sync_concurrency) if self.runs_jobs else (0, 0),
            hooks=WorkerHooks(self._ended_elsewhere, self.overflow),
        )

    def _child_options(self) -> ChildOptions:
        settings = self.parts.settings
        return ChildOptions(
            self.parts.catalogue.known_packages,
            settings.max_payload_bytes,
            settings.child_memory_limit,
            settings.child_max_jobs,
        )

    async def _recover_at_start(self) -> None:
        await self.operating.pauses.look()
        self.recovered = await self.recoverer.recover_all()
        expired = await self.store.expire(self.parts.clock.now())
        self.expired_at_start = len(expired)
        self._ended_elsewhere(expired)
        if self.runs_jobs:
            await self.tasks.learn((await self.store.read.task_names()).items())

    def _meet_siblings(self) -> None:
        self.peers.refresh()
        self.peers.broadcast(Kind.HELLO)
        if self.recovered.recovered:
            self.peers.broadcast(Kind.WORK)
        self.supervisor.loop("settler", self.settler.run)
        self.supervisor.loop("pruner", self.pruner.run)
        if not self.peers.hints_available:
            self.supervisor.loop("probe", partial(self.heir.probe_regularly, self.parts.clock))

    def begin_work(self) -> None:
        """Claim and attempt jobs from now on."""
        self.signals.install()
        self._may_work = True
        if self.runs_jobs and self._joined and not self._works:
            self._works = True
            self.supervisor.loop("worker", self.worker.run)
            self.worker.suspects.rest()
            self.worker.open()

    async def end_work(self) -> None:
        """Return when the work has ended, which a signal may have begun long before."""
        await self._ending.over()
        # What was stored since then, by requests that the server has waited for.
        await self.chains.close()

    async def _end_work(self) -> None:
        """Let attempts end within the grace, and give back what has not started."""
        self.signals.remove()
        self.worker.drain()
        if self._works:  # first what a claim that is under way brings
            await self.supervisor.ended("worker")
        await self.worker.stop(self.parts.settings.shutdown_grace)
        await self.chains.close()

    async def stop(self) -> None:
        """End the work and close everything."""
        try:
            await self.end_work()
            if self._joined:
                self.settler.close()
                await self.supervisor.ended("settler")
            if self._joined and not self._still_running():
                self.presence.leaves_nothing = await self.store.remove_process(self.process_id)
            self.peers.broadcast(Kind.WORK)
        finally:
            await self._stack.aclose()
        _log.info("runner.stopped", file=self.path, still_running=self._still_running())

    def _still_running(self) -> int:
        """Return how many functions run; of threads, some may be impossible to stop."""
        return len(self.running) + self.running.lingering

    def _drain(self) -> None:
        """The process is about to end: claim no more; what is stored now goes to siblings."""
        self.operating.feed.end()
        self.worker.drain()
        self.peers.broadcast(Kind.WORK)
        self._ending.begin()

    def cancelled(self, job_id: str) -> None:
        """A waiting job was cancelled from here."""
        self._settled([job_id])
        # The next one of its request may be free now.
        self._stored(0.0)

    def queued_again(self, due_at: float) -> None:
        """A job was queued again from here, where perhaps nobody has its code."""
        self._stored(due_at)
        self.peers.broadcast(Kind.WORK)

    async def look_at_queues(self) -> None:
        """Queues were paused or resumed."""
        await self.operating.pauses.look()
        self.worker.follow_pauses(self.operating.pauses.names)

    # Who is told of what.

    def _attempt_ended(self, attempt: Attempt, outcome: Outcome, mark: int | None) -> None:
        self.operating.notebook.ended(attempt, outcome)
        self.settler.add(Ended(attempt, outcome, mark, self.parts.clock.now()))

    def _loop_was_blocked(self, found: Blocked) -> None:
        event = found.event()
        if found.job is not None and event is not None:
            self.running.blocked(found.job, found.block)
            self.observing.observe(event)

    def _settled(self, ids: list[str]) -> None:
        self.operating.feed.poke()
        self.waiting.settled(ids)
        if ids:
            self.pruner.noticed()

    def _ended_elsewhere(self, ids: list[str]) -> None:
        if ids:
            self.supervisor.spawn("tell", self.observing.ended_elsewhere(ids))
        self._settled(ids)

    def _stored(self, due_at: float) -> None:
        """Jobs wait for whoever is free: this process if it runs jobs, and its siblings."""
        if self.runs_jobs:
            self.worker.wake_at(due_at)
        if not self.runs_jobs or self.worker.is_full():
            self.peers.broadcast_once(Kind.WORK)

    def _message(self, kind: Kind, sender: str) -> None:
        if not self._joined:
            self.supervisor.insist("join", self._join)
            return
        match kind:
            case Kind.WORK:
                self.worker.wake()
            case Kind.HELLO:
                self.peers.refresh()
                self.waiting.greet(sender)
            case Kind.SETTLED:
                self.supervisor.insist("look", self.waiting.look)
            case Kind.QUEUES:
                self.supervisor.spawn("queues", self.look_at_queues())
            case Kind.CANCEL:
                self.supervisor.insist("cancel", self._cancel_requested)
            case _:
                self.waiting.heard(kind, sender)

    async def _cancel_requested(self) -> None:
        for job_id, number, reason in await self.store.read.cancel_requests(self.process_id):
            self.running.cancel(job_id, number, reason)

    def _hint(self, peer: str) -> None:
        if self._joined:
            self.supervisor.insist("recover", partial(self.heir.take_over, peer))
