"""The front door: a function and its arguments become a stored job.

What lives here: checking, encoding and inserting, for one job or for all jobs of a request. What
does not: running them. Called by the runner and the FastAPI adapter.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Protocol, cast

import structlog

from embedded_tasks.clock import Clock, seconds
from embedded_tasks.codec import Codec
from embedded_tasks.config import JobOptions, Policy, TaskOptions, check_label
from embedded_tasks.context import Original
from embedded_tasks.errors import ConfigurationError
from embedded_tasks.ids import IdMaker
from embedded_tasks.job import ClaimedJob, NewJob
from embedded_tasks.store import Store
from embedded_tasks.task import Catalogue, Task

__all__ = ["Draft", "Drafting", "FrontDoor", "Origin", "Reserved", "RoomPort", "SlotPort"]


_OF_THE_JOB = frozenset({"delay", "owner", "run_at"})
_UNCHANGING = frozenset({bool, bytes, float, int, str, type(None)})


# Made for each job, and not frozen: that would double the price of making one.


@dataclass(slots=True)
class Origin:
    """The request that a job comes from."""

    request_id: str | None = None
    traceparent: str | None = None

    @classmethod
    def current(cls) -> Origin:
        """Return the request that this code runs for, as far as structlog's context tells."""
        request_id = structlog.contextvars.get_contextvars().get("request_id")
        return cls(request_id if isinstance(request_id, str) else None)


@dataclass(slots=True)
class Draft:
    """A job that is checked and not yet stored."""

    id: str
    task: Task
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    policy: Policy
    options: JobOptions
    options_text: str | None = None
    """What of the options is stored with the job, for its attempts."""
    text: str | None = None
    """The arguments as text, where nothing in them can change any more."""


@dataclass(slots=True)
class Reserved:
    """A stored job that this process owns and has not started."""

    job: ClaimedJob
    is_async: bool
    original: Original | None
    begun: bool
    """Whether the store already has it as running; a follower begins when its turn comes."""


class SlotPort(Protocol):
    """The worker, as the front door needs it."""

    def take_slot(self, is_async: bool) -> bool:
        """Take a slot if one is free."""
        ...

    def give_slot_back(self, is_async: bool) -> None:
        """Give back a slot that was not used."""
        ...

    def start(self, job: ClaimedJob, original: Original | None, *, is_async: bool) -> Any:
        """Start a job whose slot was taken."""
        ...

    def wake_at(self, when: float) -> None:
        """Look for due jobs at this time."""
        ...


class RoomPort(Protocol):
    """What keeps too many jobs from waiting, as the front door needs it."""

    async def store(self, queues: Sequence[str], write: Callable[[], Awaitable[None]]) -> None:
        """Write jobs that will wait in these queues, or raise."""
        ...

    def problem(self) -> str | None:
        """Return what is to be said of jobs that were refused lately."""
        ...


class Drafting:
    """Checks what is to be enqueued; needs no open store.

    Args:
        catalogue: The tasks of the runner.
        codec: Encodes arguments.
        clock: Where the time comes from.
        new_id: Makes job ids.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        codec: Codec,
        clock: Clock,
        new_id: IdMaker,
    ) -> None:
        self._catalogue = catalogue
        self._codec = codec
        self._clock = clock
        self._new_id = new_id
        self.undecorated: Policy = Policy()

    def draft(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: JobOptions
    ) -> Draft:
        """Return a checked draft.

        Raises:
            TypeError: Not callable.
            NotDurableError: The function, or the backoff function of its options, cannot be stored.
            ArgumentsError: The arguments do not fit it.
            ConfigurationError: An option is wrong.
        """
        task, args, kwargs = self._catalogue.of(func, args, kwargs)
        task.check_arguments(args, kwargs)
        policy, text = task.policy if task.decorated else self.undecorated, None
        if options:
            self.due_at(options, 0.0)
            if "owner" in options:
                check_label("owner", options["owner"])
            policy = policy.with_options(_policy_options(options))
            text = self._codec.options_text(options, policy)
        if policy.run_in == "process":
            self._catalogue.check_child_finds(task)
        return Draft(self._new_id(), task, args, kwargs, policy, options, text)

    def encode(self, draft: Draft) -> None:
        """Encode a draft's arguments, to be used if nothing in them can change any more.

        Raises:
            NotDurableError: One of them cannot be stored.
        """
        text = self._text(draft)
        if _UNCHANGING.issuperset(map(type, (*draft.args, *draft.kwargs.values()))):
            draft.text = text

    def _text(self, draft: Draft) -> str:
        return self._codec.encode_arguments(draft.args, draft.kwargs, draft.task.name)

    def new_job(
        self,
        draft: Draft,
        origin: Origin,
        now: float,
        owner: str | None = None,
        after: str | None = None,
        *,
        leads: bool = False,
    ) -> NewJob:
        """Return the job to insert: queued for everybody, or with an owner, running or behind one.

        Args:
            draft: What is to be stored.
            origin: Where it comes from.
            now: The wall clock.
            owner: The process that reserves it.
            after: The owned job that it follows; without one, an owned job is running.
            leads: Whether another one follows.

        Raises:
            NotDurableError: An argument cannot be stored.
        """
        policy, due_at = draft.policy, self.due_at(draft.options, now)
        start_by = None if policy.start_within is None else due_at + policy.start_within
        finish_by = None if policy.finish_within is None else due_at + policy.finish_within
        return NewJob(
            draft.id, draft.task.stored_name, draft.text or self._text(draft), due_at, now, owner,
            0 if owner is None or after is not None else 1, policy.queue,
            json.dumps(policy.tags) if policy.tags else None, policy.priority, draft.options_text,
            policy.on_crash, start_by, finish_by, origin.request_id, origin.traceparent, after,
            int(leads), draft.options.get("owner"),
        )  # fmt: skip  # one column after another; by name, it would take twice as long

    @staticmethod
    def due_at(options: JobOptions, now: float) -> float:
        """Return when a job with these options is due.

        Raises:
            ConfigurationError: They say nothing that can be understood.
        """
        if not options:
            return now
        if "delay" in options and "run_at" in options:
            raise ConfigurationError("delay= and run_at= exclude each other; give one of them.")
        if "delay" in options:
            return now + seconds(options["delay"], "delay")
        run_at: object = options.get("run_at")
        if run_at is None:
            return now
        if not isinstance(run_at, datetime) or run_at.utcoffset() is None:
            raise ConfigurationError(
                f"run_at={run_at!r}: expected a datetime with a time zone, such as "
                "datetime(2030, 1, 1, tzinfo=UTC)."
            )
        return run_at.timestamp()


class FrontDoor:
    """Stores drafts. One per run of a runner.

    Args:
        drafting: Turns drafts into rows.
        store: Where to.
        owner: This process.
        clock: Where the time comes from.
        slots: The worker.
        stored: Told the due time of jobs that were stored for whoever is free.
    """

    def __init__(
        self,
        drafting: Drafting,
        store: Store,
        owner: str,
        clock: Clock,
        *,
        slots: SlotPort,
        stored: Callable[[float], None],
    ) -> None:
        self._drafting = drafting
        self._store = store
        self._owner = owner
        self._clock = clock
        self._slots = slots
        self._stored = stored
        self.is_paused: Callable[[str], bool] = lambda _queue: False
        """Tells whether the jobs of a queue may not start."""
        self.room: RoomPort | None = None

    async def _insert(self, jobs: Sequence[NewJob], *, insist: bool = False) -> None:
        """Store jobs that wait, if there is room for all of them."""
        if self.room is None:
            await self._store.insert(jobs, insist=insist)
        else:
            store = partial(self._store.insert, jobs, insist=insist)
            await self.room.store([job.queue for job in jobs], store)

    async def enqueue(self, draft: Draft, origin: Origin) -> None:
        """Store a job; if it is due and a slot is free, start it as soon as it is on disk.

        Raises:
            NotDurableError: An argument cannot be stored.
            StoreUnavailableError: It is not stored.
            QueueFullError: It would wait, and too many do; it is not stored.
        """
        now, is_async = self._clock.now(), draft.task.is_async
        if self._drafting.due_at(draft.options, now) > now or self.is_paused(draft.policy.queue):
            starts = False
        else:
            starts = self._slots.take_slot(is_async)
        try:
            job = self._drafting.new_job(draft, origin, now, self._owner if starts else None)
            if starts:
                await self._store.insert([job])
            else:
                await self._insert([job])
        except BaseException:
            if starts:
                # Refused or given up: the store takes it back, and the slot is free again.
                self._slots.give_slot_back(is_async)
            raise
        if starts:
            self._slots.start(_claimed(job, draft.task), None, is_async=is_async)
        else:
            self._stored(job.due_at)

    async def reserve(
        self, drafts: Sequence[tuple[Draft, Context]], origin: Origin
    ) -> list[Reserved]:
        """Store all jobs of a request in one transaction, owned by this process.

        Jobs that are not due yet, or belong behind one that is not, are simply queued.

        Raises:
            NotDurableError: An argument cannot be stored; none of the jobs is.
            StoreUnavailableError: None of the jobs is stored.
            QueueFullError: Too many jobs wait; none of these is stored.
        """
        now, new_job = self._clock.now(), self._drafting.new_job
        later = [self._drafting.due_at(draft.options, now) > now for draft, _ in drafts]
        last_due = len(later) - 1 - later[::-1].index(False) if False in later else None
        rows: list[NewJob] = []
        reserved: list[Reserved] = []
        previous: str | None = None
        for index, (draft, context) in enumerate(drafts):
            if later[index]:
                rows.append(new_job(draft, origin, now))
                continue
            leads = index != last_due
            row = new_job(draft, origin, now, self._owner, previous, leads=leads)
            rows.append(row)
            job, original = _claimed(row, draft.task), Original(draft.args, draft.kwargs, context)
            reserved.append(Reserved(job, draft.task.is_async, original, begun=previous is None))
            previous = row.id
        # The response must not leave before the commit, whatever is cancelled meanwhile.
        await self._insert(rows, insist=True)
        if len(reserved) < len(rows):
            self._stored(min(row.due_at for row in rows if row.owner is None))
        return reserved


def _policy_options(options: JobOptions) -> TaskOptions:
    policy = {key: value for key, value in options.items() if key not in _OF_THE_JOB}
    return cast(TaskOptions, policy)


def _claimed(job: NewJob, task: Task) -> ClaimedJob:
    return ClaimedJob(
        id=job.id,
        task=task.name,
        attempt=1,
        args=job.args,
        options=job.options,
        queue=job.queue,
        start_by=job.start_by,
        finish_by=job.finish_by,
        request_id=job.request_id,
        traceparent=job.traceparent,
        leads=bool(job.leads),
        on_crash=job.on_crash,
        version=task.versions.present,
        due_at=job.due_at,
    )
