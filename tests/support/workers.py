"""A worker on the bench: a store in memory, functions of the test's own, a clock moved by hand.

What lives here: `Shop`, everything around one worker. What does not: the runner, which puts the
same parts together for users. Called by tests of the services.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

from embedded_tasks.attempt import Attempt
from embedded_tasks.config import Retention, TaskOptions
from embedded_tasks.engine import Threads
from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.job import ClaimedJob, NewJob, Outcome
from embedded_tasks.known_tasks import KnownTasks
from embedded_tasks.running import Running, RunningHooks
from embedded_tasks.settling import Times, settlement
from embedded_tasks.store import Claim, ClaimResult, Store
from embedded_tasks.worker import Worker, WorkerHooks
from tests.support.attempts import Bench
from tests.support.jobs import ME, new_job
from tests.support.stores import opened

__all__ = [
    "Blocking",
    "CountingStore",
    "Marks",
    "Shop",
    "claim_ahead",
    "fast",
    "fast_sync",
    "named",
    "owned",
    "shop",
]

_KEEP = Retention()


class Marks:
    """A process file that is only remembered."""

    def __init__(self) -> None:
        self.marks: dict[int, tuple[bytes, int, int]] = {}
        self.made = 0
        self.writes = 0
        self.full = False

    def mark(self, job_id: bytes, attempt: int) -> int:
        return self.mark_all([(job_id, attempt)])[0]

    def mark_all(self, starts: Sequence[tuple[bytes, int]]) -> list[int]:
        if self.full:
            raise StoreUnavailableError("the process file cannot be written")
        slots = [self.made + number for number in range(1, len(starts) + 1)]
        self.made += len(starts)
        self.writes += 1
        self.marks |= {slot: (*start, 0) for slot, start in zip(slots, starts, strict=True)}
        return slots

    def annotate(self, slot: int, flags: int) -> None:
        job_id, attempt, before = self.marks[slot]
        self.marks[slot] = (job_id, attempt, before | flags)

    def clear(self, *slots: int) -> None:
        if self.full:
            raise StoreUnavailableError("the process file cannot be written")
        for slot in slots:
            del self.marks[slot]

    def flags(self) -> list[int]:
        return [flags for *_, flags in self.marks.values()]


class CountingStore:
    """A store whose claims are counted, and can be held up or fail."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.claims: list[Claim] = []
        self.results: list[ClaimResult] = []
        self.claimed = asyncio.Event()
        self.errors: list[Exception] = []
        self.gate: asyncio.Event | None = None
        self.on_claim: Callable[[], None] = lambda: None

    async def claim(self, claim: Claim) -> ClaimResult:
        self.claims.append(claim)
        self.on_claim()
        if self.errors:
            self.claimed.set()
            raise self.errors.pop(0)
        result = await self._store.claim(claim)
        if self.gate is not None:
            self.claimed.set()
            await self.gate.wait()
        self.results.append(result)
        self.claimed.set()
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Shop:
    """A worker and what it works with.

    Args:
        store: Where jobs are.
        bench: Clock, threads and tasks.
        sizes: How many async and sync slots.
    """

    def __init__(self, store: Store, bench: Bench, sizes: tuple[int, int]) -> None:
        self.bench = bench
        self.clock = bench.clock
        self.store = counting = cast(Any, CountingStore(store))
        self.marks = Marks()
        self.held: list[str] = []
        self.ended: list[str] = []
        self.overflows = 0
        self.outcomes: list[tuple[str, Outcome]] = []
        self.stuck: list[Attempt] = []
        self._told = asyncio.Event()
        ports = bench.ports()
        self.tasks = KnownTasks(counting, ME, ports.find, self.held.extend)
        hooks = RunningHooks(self._attempt_ended, self.stuck.append)
        self.running = Running(ports, self.marks, hooks)
        self.worker = Worker(
            counting,
            ME,
            self.tasks,
            ports,
            running=self.running,
            sizes=sizes,
            hooks=WorkerHooks(self.ended.extend, self._overflow),
        )
        self._loop: asyncio.Task[None] | None = None
        self._settling: set[asyncio.Task[Any]] = set()

    def add(self, function: Callable[..., Any], options: TaskOptions | None = None) -> str:
        return self.bench.add(function, options)

    async def insert(self, *numbers: int, task: str = "shop:0", **changes: Any) -> None:
        """Store jobs as another process does, without a word to the worker."""
        jobs: list[NewJob] = []
        for number in numbers:
            values = {"task": task, "args": "[1,[],{}]", "due_at": self.clock.now()} | changes
            jobs.append(new_job(number, **values))
        await self.store.insert(jobs)

    def open(self) -> None:
        self.worker.open()
        self._loop = asyncio.create_task(self.worker.run())

    async def quiet(self) -> None:
        """Return when the worker and its store have nothing left to do by themselves."""
        await self.store.read.ping()
        still = 0
        while still < 5:
            # Each round gives the loop a turn and the store's thread a whole transaction.
            before = (len(self.store.claims), len(self.outcomes), self.marks.made)
            await self.store.expire(0.0)
            await asyncio.sleep(0)
            now = (len(self.store.claims), len(self.outcomes), self.marks.made)
            still = still + 1 if now == before else 0

    async def ended_attempts(self, count: int) -> None:
        while len(self.outcomes) < count:
            self._told.clear()
            await self._told.wait()

    async def close(self) -> None:
        stopping = asyncio.create_task(self.worker.stop(0.0))
        while not stopping.done():
            self.clock.advance(10.0)
            await asyncio.sleep(0)
        await stopping
        if self._loop is not None:
            await self._loop
        await asyncio.gather(*self._settling)

    def _attempt_ended(self, attempt: Attempt, outcome: Outcome, mark: int | None) -> None:
        self.outcomes.append((attempt.job.id, outcome))
        if mark is not None:
            self.marks.marks.pop(mark)
        task = asyncio.create_task(self._settle(attempt.job, outcome))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)
        self._told.set()

    async def _settle(self, job: ClaimedJob, outcome: Outcome) -> None:
        now = self.clock.now()
        row = settlement(job, ME, outcome, Times(now, now), _KEEP)
        await self.store.settle([row])

    def _overflow(self) -> None:
        self.overflows += 1


class Blocking:
    """An async function that runs until it is let go."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.most = 0
        self.running = 0
        self.go_on = asyncio.Event()

    async def __call__(self, name: str = "") -> None:
        self.started.append(name)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.go_on.wait()
        finally:
            self.running -= 1


async def fast() -> None: ...


def fast_sync() -> None: ...


def named(name: str) -> str:
    """Return stored arguments: one name."""
    return f'[1,["{name}"],{{}}]'


async def claim_ahead(at: Shop, block: Blocking) -> None:
    """Bring the worker to claim jobs ahead of its slots, of which none gets free again."""
    at.add(fast)
    at.add(block)
    await at.insert(*range(20), task="shop:0")
    await at.insert(*range(100, 140), task="shop:1", due_at=at.clock.now() + 0.001)
    at.clock.jump(0.001)
    at.open()
    await at.ended_attempts(20)
    await at.quiet()


async def owned(at: Shop) -> int:
    return len(await at.store.read.owned(ME))


@asynccontextmanager
async def shop(*, slots: tuple[int, int] = (2, 2)) -> AsyncIterator[Shop]:
    threads = Threads(asyncio.get_running_loop())
    async with opened() as store:
        made = Shop(store, Bench(threads), slots)
        try:
            yield made
        finally:
            await made.close()
            threads.close()
