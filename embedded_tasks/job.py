"""The words: a job, its states, and what may follow what.

What lives here: states and their transitions, and the plain values that travel between the
front door, the store and the worker. What does not: any I/O or policy. Used by every layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

__all__ = [
    "CUT_OFF",
    "FINISHED",
    "MAX_CRASHES",
    "SUSPECT_AFTER",
    "TRANSITIONS",
    "AttemptError",
    "AttemptRecord",
    "Cancelled",
    "ClaimedJob",
    "Crashed",
    "Expired",
    "Failed",
    "Held",
    "Interrupted",
    "JobRecord",
    "JobState",
    "LoopBlock",
    "NewJob",
    "Outcome",
    "Progress",
    "RetryLater",
    "Settlement",
    "ShownState",
    "Snoozed",
    "Succeeded",
    "shown_state",
]


class JobState(StrEnum):
    """The stored states of a job."""

    QUEUED = "queued"
    """Waits for its time or for a slot."""
    RUNNING = "running"
    """Belongs to a process that attempts it."""
    SUCCEEDED = "succeeded"
    """Finished: the function returned."""
    FAILED = "failed"
    """Finished: no attempt is left, or its policy gives up."""
    CANCELLED = "cancelled"
    """Finished: somebody cancelled it."""
    EXPIRED = "expired"
    """Finished: its time passed before it could finish."""
    HELD = "held"
    """Needs a person or a deploy; goes on when that has happened."""


class ShownState(StrEnum):
    """The states that people see: the stored ones and two that are derived from `queued`."""

    SCHEDULED = "scheduled"
    """Queued and not yet due."""
    RETRYING = "retrying"
    """Queued again after an attempt."""
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    HELD = "held"


FINISHED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, JobState.EXPIRED})
"""The states that a job leaves only by a retry by hand."""

_Q, _R, _H = JobState.QUEUED, JobState.RUNNING, JobState.HELD

TRANSITIONS: Mapping[str, frozenset[tuple[JobState | None, JobState]]] = {
    "insert": frozenset({(None, _Q), (None, _R)}),
    "claim": frozenset({(_Q, _R)}),
    "begin": frozenset({(_Q, _R)}),
    "release": frozenset({(_R, _Q), (_Q, _Q)}),
    "settle": frozenset({(_R, _Q), (_R, _H)} | {(_R, state) for state in FINISHED}),
    "recover": frozenset({(_R, _Q), (_R, _H), (_R, JobState.FAILED)}),
    "expire": frozenset({(_Q, JobState.EXPIRED)}),
    "cancel_waiting": frozenset({(_Q, JobState.CANCELLED), (_H, JobState.CANCELLED)}),
    "retry": frozenset({(_H, _Q)} | {(state, _Q) for state in FINISHED}),
    "hold_unknown": frozenset({(_Q, _H)}),
    "hold_new": frozenset({(_Q, _H)}),
    "unhold": frozenset({(_H, _Q)}),
}
"""Every named query that changes a state, and from which state to which it may go."""


SUSPECT_AFTER = 2
"""A job whose process died this often while it ran is a suspect: no other suspect beside it."""

MAX_CRASHES = 4
"""A job whose process died this often while it ran is held."""


CUT_OFF = "Its process was stopped while it ran."
"""Why a job is held or failed that a shutdown interrupted and whose policy forbids a second run."""


def shown_state(state: JobState, due_at: float, attempt: int, now: float) -> ShownState:
    """Return what people see: `queued` is told apart by its due time and its attempts.

    The SQL view `shown_jobs` says the same; a test compares the two.
    """
    if state is JobState.QUEUED and attempt > 0:
        return ShownState.RETRYING
    if state is JobState.QUEUED and due_at > now:
        return ShownState.SCHEDULED
    return ShownState(state.value)


# Named tuples, where one is made per job: a frozen dataclass takes three times as long.
class NewJob(NamedTuple):
    """A job on its way into the store, in the order of the statement `insert`.

    It is stored as running with its first attempt (`attempt=1`), or as queued. Times are seconds
    since 1970.
    """

    id: str
    task: str
    args: str
    due_at: float
    created_at: float
    owner: str | None = None
    attempt: int = 0
    queue: str = "default"
    tags: str | None = None
    priority: int = 0
    options: str | None = None
    on_crash: str = "retry"
    start_by: float | None = None
    finish_by: float | None = None
    request_id: str | None = None
    traceparent: str | None = None
    after: str | None = None
    leads: int = 0
    belongs_to: str | None = None

    @property
    def state(self) -> JobState:
        """The state in which it is stored."""
        return JobState.RUNNING if self.attempt else JobState.QUEUED


class ClaimedJob(NamedTuple):
    """A job that this process owns and may attempt."""

    id: str
    task: str
    attempt: int
    args: str
    options: str | None = None
    queue: str = "default"
    failures: int = 0
    crashes: int = 0
    snoozes: int = 0
    start_by: float | None = None
    finish_by: float | None = None
    request_id: str | None = None
    traceparent: str | None = None
    leads: bool = False
    on_crash: str = "retry"
    version: int = 1
    due_at: float | None = None


@dataclass(slots=True, frozen=True)
class AttemptError:
    """An error as it is kept: its class, its message and its traceback, as text."""

    type: str
    message: str
    traceback: str | None = None
    place: str = field(default="", compare=False)
    """The innermost place in the user's code, as `module:function`; what groups errors."""


@dataclass(slots=True, frozen=True)
class LoopBlock:
    """An attempt kept the event loop from going round: how many seconds, and where it was then."""

    seconds: float
    where: str
    stack: str

    @property
    def sentence(self) -> str:
        """What is kept with the job."""
        return f"It blocked the event loop for {self.seconds:.1f} s, in {self.where}."


@dataclass(slots=True, frozen=True)
class Succeeded:
    """The function returned; `result` is its encoded value.

    When the value cannot be stored, `result` is None and `reason` says why.
    """

    result: str | None
    reason: str | None = None


@dataclass(slots=True, frozen=True)
class RetryLater:
    """The attempt failed and another one follows after `delay` seconds."""

    delay: float
    error: AttemptError


@dataclass(slots=True, frozen=True)
class Snoozed:
    """The task said "not now"; it is due again after `delay` seconds, uncharged."""

    delay: float
    reason: str


@dataclass(slots=True, frozen=True)
class Failed:
    """The attempt failed and none follows."""

    reason: str
    error: AttemptError | None


@dataclass(slots=True, frozen=True)
class Cancelled:
    """The job was cancelled while it ran."""

    reason: str


@dataclass(slots=True, frozen=True)
class Expired:
    """The job's time passed."""

    reason: str
    error: AttemptError | None = None


@dataclass(slots=True, frozen=True)
class Interrupted:
    """The process is stopping; the job goes back, uncharged."""


@dataclass(slots=True, frozen=True)
class Held:
    """The job cannot go on without a person or a deploy; `held_for` names what it waits for."""

    reason: str
    held_for: str


@dataclass(slots=True, frozen=True)
class Crashed:
    """The child process that ran the job died, and nothing else; `state` is what follows."""

    state: JobState
    reason: str
    error: AttemptError


Outcome = (
    Succeeded | RetryLater | Snoozed | Failed | Cancelled | Expired | Interrupted | Held | Crashed
)
"""The value that ends an attempt."""


class Settlement(NamedTuple):
    """An outcome as the store writes it: no decision is left to take.

    `outcome` names it in the attempt's row; `number` (with `owner`) guards the transition.
    `due_at=None` keeps the due time.
    """

    id: str
    number: int
    owner: str
    state: JobState
    outcome: str
    started_at: float | None
    ended_at: float
    due_at: float | None = None
    result: str | None = None
    reason: str | None = None
    held_for: str | None = None
    failures: int = 0
    crashes: int = 0
    snoozes: int = 0
    error: AttemptError | None = None
    finished_at: float | None = None
    prune_at: float | None = None
    leads: bool = False


@dataclass(slots=True, frozen=True, kw_only=True)
class AttemptRecord:
    """One attempt as it is kept. Times are seconds since 1970."""

    number: int
    outcome: str
    started_at: float | None
    ended_at: float | None
    error: AttemptError | None = None


@dataclass(slots=True, frozen=True)
class Progress:
    """How far a job has come, as it said last.

    Args:
        done: How much is done.
        total: Of how much; None where that is not known.
        message: In words.
        at: When it said so, in seconds since 1970.
        attempt: In which attempt.
    """

    done: float
    total: float | None = None
    message: str | None = None
    at: float = 0.0
    attempt: int = 0

    @property
    def share(self) -> float | None:
        """How much is done, from 0 to 1; None where the total is not known."""
        if self.total is None or self.total <= 0:
            return None
        return min(max(self.done / self.total, 0.0), 1.0)


@dataclass(slots=True, frozen=True, kw_only=True)
class JobRecord:
    """All that the store knows of a job. Times are seconds since 1970.

    A page of jobs leaves `args`, `result` and `attempts` out.
    """

    id: str
    task: str
    state: JobState
    shown: ShownState
    queue: str
    tags: tuple[str, ...]
    priority: int
    args: str | None
    attempt: int
    failures: int
    crashes: int
    snoozes: int
    created_at: float
    due_at: float
    started_at: float | None
    finished_at: float | None
    start_by: float | None
    finish_by: float | None
    on_crash: str
    result: str | None
    reason: str | None
    owner: str | None
    cancel_requested: bool
    request_id: str | None
    traceparent: str | None
    options: str | None
    held_for: str | None
    attempts: tuple[AttemptRecord, ...] = field(default=())
    version: int = 1
    """The version of the task that the arguments are for."""
    belongs_to: str | None = None
    """Whom it belongs to: the `owner` of its options."""
    progress: Progress | None = None
    group: str | None = None
    """The error group of its latest failure."""

    @property
    def revision(self) -> str:
        """A text that changes whenever the job does; for an ETag."""
        parts = (self.state, self.attempt, self.failures, self.due_at, self.cancel_requested)
        progress = self.progress and (self.progress.at, self.progress.done)
        return "-".join(str(part) for part in (*parts, self.finished_at, progress))
