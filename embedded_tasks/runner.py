"""The runner: the one object that an app opens.

What lives here: starting, stopping, enqueuing, and asking about jobs. What does not: FastAPI, which
is in `fastapi/`, and how the parts are joined, which is in `session.py`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from contextvars import Context
from random import Random
from types import TracebackType
from typing import Any, Self, Unpack
from uuid import UUID

from anyio.from_thread import start_blocking_portal

from embedded_tasks.clock import Clock, SystemClock
from embedded_tasks.codec import Codec
from embedded_tasks.config import JobOptions, Policy, TaskOptions
from embedded_tasks.control import Control
from embedded_tasks.deploy_check import Checking
from embedded_tasks.engine import refuse_in_child
from embedded_tasks.enqueue import Draft, Drafting, Origin, Reserved
from embedded_tasks.enqueuer import Enqueuer
from embedded_tasks.errors import (
    ConfigurationError,
    JobNotFoundError,
    JobStateError,
    ResultTimeoutError,
)
from embedded_tasks.failure import storable
from embedded_tasks.handle import CancelAnswer, Job
from embedded_tasks.health import Health, health_of
from embedded_tasks.ids import uuid7_maker
from embedded_tasks.job import JobRecord, JobState
from embedded_tasks.lifecycle import Lifecycle
from embedded_tasks.parts import Parts
from embedded_tasks.place import Place
from embedded_tasks.processes import Kind
from embedded_tasks.references import References
from embedded_tasks.reports import Reports
from embedded_tasks.results import result_of
from embedded_tasks.session import Session
from embedded_tasks.settings import RunnerOptions, Settings, always_decodes, in_test_mode
from embedded_tasks.sites import NonDurableSites, Refusals
from embedded_tasks.store import JobFilter
from embedded_tasks.task import Catalogue

__all__ = ["Runner"]


class Runner(Enqueuer):
    """Stores jobs in one SQLite file and runs them in this process.

    Args:
        path: The file; its folder must exist. ":memory:" keeps nothing.
        options: See `Settings` for each option, its unit and its default.

    Raises:
        ConfigurationError: An option is unknown or out of its range.

    Example:
        ```python
        runner = TaskRunner("tasks.db", concurrency=20)
        ```
    """

    def __init__(self, path: str | os.PathLike[str], **options: Unpack[RunnerOptions]) -> None:
        super().__init__(self, {})
        self.settings: Settings = Settings.of(path, options)
        self.references: References = References(modules=self.settings.modules)
        self._clock = self._make_clock()
        self._catalogue = catalogue = Catalogue(self.references)
        self._codec = Codec(self.references, self.settings.max_payload_bytes)
        self._new_id = uuid7_maker(self._clock.now)
        self._drafting = Drafting(catalogue, self._codec, self._clock, self._new_id)
        self._life = Lifecycle(self._make_session)
        self.current_task: Callable[[], asyncio.Task[Any] | None] = self._life.current_task
        self._place = Place(self.settings.path)
        self.checking: Checking = Checking(catalogue, self._codec, self._place.file)
        self.non_durable: int = 0
        self.testing: bool = in_test_mode()
        self.decodes: bool = always_decodes()
        self.non_durable_sites: NonDurableSites = NonDurableSites(self._clock.now)
        self.refusals: Refusals = Refusals(self._clock.monotonic)
        self.control: Control = Control(self._running, self._clock, self.cancel)
        self.reports: Reports = Reports(self._running, self._clock, self.non_durable_sites)
        self._opened: list[AsyncExitStack] = []
        self._opened_in_thread: list[ExitStack] = []

    def _make_clock(self) -> Clock:
        """Return where the time comes from; a test's runner has its own."""
        return SystemClock()

    # Starting and stopping.

    @property
    def is_running(self) -> bool:
        """Whether jobs can be enqueued in this process."""
        return self._life.is_running

    def runs_on_this_loop(self) -> bool:
        """Return whether the runner runs on the event loop that this is called on."""
        return self._life.on_this_loop()

    @property
    def stopping(self) -> asyncio.Event:
        """Set when the process is told to end, or the work here ends; long answers end then."""
        return self._running("stopping").signals.told

    @asynccontextmanager
    async def open(self, *, run_jobs: bool = False, start_work: bool = True) -> AsyncIterator[Self]:
        """Run for the length of an `async with` block.

        Args:
            run_jobs: Attempt jobs here; False (default) only enqueues.
            start_work: Start attempting at once (default), or leave that to `working()`.

        Raises:
            StoreError: The file cannot be opened; the message says why and what to do.

        Example:
            `async with runner.open(run_jobs=True): ...`
        """
        async with self._life.open(run_jobs=run_jobs, start_work=start_work):
            yield self

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Attempt jobs for the length of a block inside `open(run_jobs=True, start_work=False)`.

        What the block stands in, such as a lifespan's connection pool, is there for every attempt.
        """
        async with self._life.working():
            yield

    @asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Run for the length of an app's life; a lifespan for wiring by hand.

        Example:
            `app = FastAPI(lifespan=runner.lifespan)`
        """
        # It yields nothing: what a lifespan yields becomes the app's state.
        async with self.open(run_jobs=True):
            yield

    async def __aenter__(self) -> Self:
        stack = AsyncExitStack()
        await stack.enter_async_context(self.open())
        self._opened.append(stack)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._opened.pop().aclose()

    def __enter__(self) -> Self:
        stack = ExitStack()
        portal = stack.enter_context(start_blocking_portal("asyncio"))
        stack.enter_context(portal.wrap_async_context_manager(self.open()))
        self._opened_in_thread.append(stack)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opened_in_thread.pop().close()

    def _make_session(self, run_jobs: bool) -> Session:
        if run_jobs:
            refuse_in_child()
        self.testing, self.decodes = in_test_mode(), always_decodes()
        path, folder = self._place.prepare()
        parts = Parts(
            self.settings, self._catalogue, self._codec, self._drafting, self._clock, Random()
        )
        process_id = UUID(self._new_id()).hex
        return Session(parts, path, folder, process_id, may_run_jobs=run_jobs)

    @property
    def _session(self) -> Session | None:
        return self._life.session

    def _running(self, what: str) -> Session:
        return self._life.current(what)

    # Enqueuing.

    async def enqueue_call(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions
    ) -> Job[Any]:
        """Store a job; what `enqueue` calls."""
        session = self._running(f"enqueue({_name(func)})")
        draft = self._drafting.draft(func, args, kwargs, options)
        await session.front_door.enqueue(draft, Origin.current())
        return Job(draft.id, draft.task.name, self)

    def enqueue_call_sync(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions
    ) -> Job[Any]:
        """Store a job from outside the event loop; what `enqueue_sync` calls."""
        session = self._running(f"enqueue_sync({_name(func)})")
        if self._life.in_its_thread():
            raise ConfigurationError(
                "enqueue_sync was called on the event loop, which it would block. Write "
                "`await runner.enqueue(...)` there."
            )
        draft = self._drafting.draft(func, args, kwargs, options)
        stored = session.front_door.enqueue(draft, Origin.current())
        asyncio.run_coroutine_threadsafe(stored, session.loop).result()
        return Job(draft.id, draft.task.name, self)

    # For the adapter.

    def set_undecorated(self, options: TaskOptions) -> None:
        """Set the policy of functions without `@task`."""
        self._drafting.undecorated = Policy().with_options(options)

    def draft(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions
    ) -> Draft:
        """Return a checked draft whose arguments can be stored.

        Raises:
            NotDurableError: They, or the function, cannot.
        """
        draft = self._drafting.draft(func, args, kwargs, options)
        self._drafting.encode(draft)
        return draft

    async def reserve(
        self, drafts: Sequence[tuple[Draft, Context]], origin: Origin
    ) -> list[Reserved]:
        """Store the jobs of a request in one transaction, owned by this process."""
        session = self._running("add_task")
        reserved = await session.front_door.reserve(drafts, origin)
        session.chains.expect(reserved)
        return reserved

    def start_reserved(self, jobs: Sequence[Reserved]) -> None:
        """Start the jobs of a request that has ended."""
        # Without a session the work has ended before the request, and the jobs were given away.
        if self._session is not None:
            self._session.chains.start(jobs)

    async def run_reserved(self, jobs: Sequence[Reserved]) -> BaseException | None:
        """Run jobs of a request here; return the first error that is not retried."""
        return await self._session.chains.run(jobs) if self._session is not None else None

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back on the runner's loop, from whatever thread."""
        self._running("add_task").loop.call_soon_threadsafe(callback)

    async def outcomes_written(self) -> None:
        """Return when every outcome so far is on disk."""
        await self._running("add_task").settler.written()

    def count_non_durable(self) -> None:
        """Count a task that runs in its request because it cannot be stored."""
        self.non_durable += 1

    # Asking.

    async def get(self, job_id: str) -> Job[Any]:
        """Return a job.

        Args:
            job_id: Its id.

        Raises:
            JobNotFoundError: It is not there; retention may have removed it.

        Example:
            `job = await runner.get(job_id)`
        """
        record = await self.fetch(job_id)
        return Job(record.id, record.task, self, record)

    async def fetch(self, job_id: str) -> JobRecord:
        """Return what is stored of a job; what `Job.refresh` calls."""
        session = self._running("get")
        record = await session.store.read.get(str(job_id), self._clock.now())
        if record is None:
            raise JobNotFoundError(str(job_id))
        return record

    async def jobs(self, wanted: JobFilter | None = None) -> list[tuple[int, Job[Any]]]:
        """Return a page of jobs, newest first, each with the key that pages on.

        Args:
            wanted: Which jobs, and how many; None (default) for the newest 50 of all.

        Example:
            `for key, job in await runner.jobs(JobFilter(state=ShownState.FAILED)): ...`
        """
        reader = self._running("jobs").store.read
        page = await reader.page(wanted or JobFilter(), self._clock.now())
        return [(key, Job(record.id, record.task, self, record)) for key, record in page]

    async def counts(self) -> dict[JobState, int]:
        """Return how many jobs are in each state, counted up to 10,000."""
        return await self._running("counts").store.read.counts()

    async def health(self) -> Health:
        """Return whether everything is well here, and if not, what and what to do."""
        return await health_of(self._running("health"))

    async def adopt(self) -> None:
        """Take over a file of another environment, with all jobs that wait in it.

        A runner whose `environment` is not that of its file is paused. After this call the file
        belongs to this runner's environment, and its jobs are run.

        Raises:
            StoreUnavailableError: The file cannot be written just now.

        Example:
            `async with runner: await runner.adopt()`
        """
        await self._running("adopt").adopt()

    def parameters_of(self, task: str) -> tuple[str, ...] | None:
        """Return the names of a task's positional parameters, or None where they are not known."""
        return self._catalogue.parameters_of(task)

    async def wait_for_result(self, job_id: str, timeout: float | None) -> Any:
        """Return a job's result when it has one; what `Job.result` calls."""
        session = self._running("result")
        if not await session.waiting.wait(job_id, timeout):
            await self.fetch(job_id)
            raise ResultTimeoutError(job_id, timeout or 0.0)
        return result_of(await self.fetch(job_id), self._codec.decoded_result)

    async def wait(self, job_id: str, timeout: float | None) -> bool:
        """Return whether a job has ended or is held before so many seconds are over."""
        return await self._running("wait").waiting.wait(job_id, timeout)

    def task_name(self, func: Any) -> str:
        """Return the name by which the jobs of a function are stored."""
        return self._catalogue.of(func, (), {})[0].name

    async def cancel(self, job_id: str, *, reason: str = "It was cancelled.") -> CancelAnswer:
        """Cancel a job: at once if it waits, as far as that can be done if it runs.

        Args:
            job_id: Its id.
            reason: Kept with the job.

        Returns:
            What it came to; a sync function can only be told.

        Raises:
            JobNotFoundError: No job has this id.
        """
        session = self._running("cancel")
        answer, owner = await session.store.cancel(job_id, storable(reason), self._clock.now())
        if answer == "cancelled":
            session.cancelled(job_id)
            return CancelAnswer.CANCELLED
        record = await self.fetch(job_id)
        if answer == "unchanged" or owner is None:
            return CancelAnswer.FINISHED
        if owner == session.process_id:
            can_stop = session.running.cancel(job_id, record.attempt, reason)
        else:
            session.peers.send(owner, Kind.CANCEL)
            can_stop = self._catalogue.can_be_stopped(record.task)
        return CancelAnswer.TOLD if can_stop is False else CancelAnswer.STOPPING

    async def retry(self, job_id: str) -> None:
        """Queue a finished or held job again; counters start anew, the history stays.

        Raises:
            JobNotFoundError: No job has this id.
            JobStateError: It is queued or running.
        """
        session = self._running("retry")
        now = self._clock.now()
        if not await session.store.retry(job_id, now):
            raise JobStateError(job_id, (await self.fetch(job_id)).shown, "retried")
        session.queued_again(now)


def _name(func: Any) -> str:
    return str(getattr(func, "__qualname__", type(func).__name__))
