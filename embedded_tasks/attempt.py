"""One attempt: a claimed job goes in, an `Outcome` comes out.

What lives here: the pipeline (find the task, decode, call, decide) and nothing of the store; plain
values test it. What does not: slots, settling, timers' consequences for others. Called by the
worker.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any, Protocol

from embedded_tasks.clock import Clock, Timer
from embedded_tasks.config import Policy
from embedded_tasks.context import (
    Flag,
    JobCancelled,
    JobContext,
    NotesPort,
    Original,
    enter_job,
)
from embedded_tasks.engine import (
    ChildCall,
    ChildDied,
    Children,
    Encoded,
    LoopCall,
    NotRunnable,
    Order,
    RemoteError,
    ThreadCall,
    Threads,
    start_on_loop,
)
from embedded_tasks.errors import (
    EmbeddedTasksError,
    NotDurableError,
    PayloadError,
    UnknownTaskError,
)
from embedded_tasks.failure import describe, matches, storable
from embedded_tasks.job import (
    CUT_OFF,
    MAX_CRASHES,
    AttemptError,
    Cancelled,
    ClaimedJob,
    Crashed,
    Expired,
    Failed,
    Held,
    Interrupted,
    JobState,
    LoopBlock,
    Outcome,
    RetryLater,
    Snoozed,
    Succeeded,
)
from embedded_tasks.retry import Retry, Snooze, delay_before_retry
from embedded_tasks.task import Task

__all__ = ["Attempt", "Codec", "Ports", "Stop"]

_UNDECORATED = Policy()
_NOTHING = Succeeded("null")
_STOPPED = (asyncio.CancelledError, JobCancelled, ChildDied)
_KILLED = " The function ignored it, and its process was killed."


class Stop(StrEnum):
    """Why a running attempt is told to stop."""

    TIMEOUT = "timeout"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"


class Codec(Protocol):
    """Stored text to arguments and options, values to stored text."""

    def arguments(self, text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return decoded arguments."""
        ...

    def result(self, value: object, task: str) -> str:
        """Return an encoded result."""
        ...

    def policy(self, base: Policy, options: str | None) -> Policy:
        """Return the task's policy with the job's own options in place."""
        ...


@dataclass(frozen=True, slots=True)
class Ports:
    """What an attempt needs from outside."""

    find: Callable[[str], Task]
    codec: Codec
    clock: Clock
    rng: Random
    threads: Threads
    children: Children
    patience: float
    """Seconds that an async function, or one in a child, has to end after it was told to stop."""
    notes: NotesPort | None = None
    """Where progress and log lines go."""
    loop: asyncio.AbstractEventLoop | None = None
    """The running loop, if it is at hand."""


class Attempt:
    """One try at one job.

    Args:
        job: The claimed job.
        ports: Where its task is found, its arguments decoded, its time taken.
        original: The call's own objects, if this process still has them.
        ended: Called on the loop, exactly once, with the outcome.
        returned_late: Called when a function that was given up has ended after all.
    """

    # Not set one by one for each job.
    error: BaseException | None = None
    abandoned: bool = False
    task: Task | None = None
    block: LoopBlock | None = None
    _outcome: Outcome | None = None
    _policy = _UNDECORATED
    _stop: Stop | None = None
    _reason = ""
    _call: LoopCall | ThreadCall | ChildCall | None = None
    _stack: str | None = None
    _timers: tuple[Timer, ...] = ()

    def __init__(
        self,
        job: ClaimedJob,
        ports: Ports,
        original: Original | None,
        ended: Callable[[Attempt, Outcome], None],
        returned_late: Callable[[Attempt], None],
    ) -> None:
        self.job = job
        self.started_at: float = ports.clock.now()
        self._ports = ports
        self._original = original
        self._ended = ended
        self._returned_late = returned_late
        self._told = Flag()

    @property
    def interruptible(self) -> bool:
        """Whether the function can be made to stop."""
        return self._call is not None and self._call.interruptible

    @property
    def stop_reason(self) -> Stop | None:
        """Why the attempt was told to stop, if it was."""
        return self._stop

    def runs_in(self, task: asyncio.Task[Any]) -> bool:
        """Whether its function runs in this very task."""
        return isinstance(self._call, LoopCall) and self._call.is_task(task)

    def start(self) -> None:
        """Call the function, or end at once when that cannot be done."""
        try:
            self._start()
        except UnknownTaskError as error:
            self._end(Held(str(error), "unknown_task"))
        except PayloadError as error:
            self._end(Held(str(error), "arguments"))
        except EmbeddedTasksError as error:
            self._end(Failed(str(error), describe(error)))
        except Exception as error:
            if self._outcome is not None:
                raise
            # Such as a thread that cannot be had.
            self._end(self._failed(error))

    def _start(self) -> None:
        job, ports = self.job, self._ports
        task = self.task = ports.find(job.task)
        self._policy = ports.codec.policy(task.policy, job.options)
        too_late = self._too_late()
        if too_late:
            self._end(Expired(too_late))
            return
        if self._policy.run_in == "process":
            self._start_in_child()
            return
        if self._original is None:
            args, kwargs = task.fitted(job.version, *ports.codec.arguments(job.args))
            context = contextvars.Context()
        else:
            args, kwargs = self._original.args, self._original.kwargs
            context = self._original.context
        if task.wants_context:
            args, kwargs = task.call_with(args, kwargs, self._job_context())
        context.run(enter_job, job, ports.notes, self._told)
        self._arm_end()
        self._arm_timeout()
        if task.is_coroutine_function:
            self._call = start_on_loop(
                task.function, args, kwargs, context, self._returned, loop=ports.loop
            )
        else:
            self._call = ports.threads.start(
                lambda: task.function(*args, **kwargs), context, self._returned, self._told.set
            )

    def _start_in_child(self) -> None:
        """The child finds and decodes; the timeout counts from when it calls the function."""
        job = self.job
        order = Order(job.task, job.version, job.args, job.options, self._log_values())
        self._arm_end()
        self._call = self._ports.children.start(
            order, self._job_context(), self._arm_timeout, self._returned
        )

    def _too_late(self) -> str:
        """Return why the job may not start any more; it may have waited for a slot of ours."""
        job, now = self.job, self.started_at
        if job.finish_by is not None and job.finish_by <= now:
            return "It was not finished within its time (finish_within)."
        if job.attempt == 1 and job.start_by is not None and job.start_by <= now:
            return "It was not started within its time (start_within)."
        return ""

    def _job_context(self) -> JobContext:
        return JobContext.of(self.job, self._ports.notes, self._told)

    def _log_values(self) -> dict[str, Any]:
        job = self.job
        values: dict[str, Any] = {"job_id": job.id, "task": job.task, "attempt": job.attempt}
        if job.request_id is not None:
            values["request_id"] = job.request_id
        return values

    def _arm_timeout(self) -> None:
        if self._policy.timeout is not None and self._outcome is None:
            self._later(self._policy.timeout, lambda: self.stop(Stop.TIMEOUT))

    def _arm_end(self) -> None:
        if self.job.finish_by is not None:
            left = self.job.finish_by - self._ports.clock.now()
            self._later(left, lambda: self.stop(Stop.EXPIRED))

    def _later(self, delay: float, callback: Callable[[], None]) -> None:
        self._timers = (*self._timers, self._ports.clock.call_later(delay, callback))

    def stop(self, stop: Stop, reason: str = "") -> None:
        """Tell the function to stop; the first reason counts."""
        if self._outcome is not None:
            return
        if self._stop is not None:
            if stop in (Stop.TIMEOUT, Stop.EXPIRED) and not self.interruptible:
                # It was told before and did not listen; now its time is over as well.
                self._abandon()
            return
        self._stop, self._reason = stop, reason
        self._told.set()
        if self._call is None:
            self._end(self._stopped(""))
            return
        self._call.interrupt()
        if self._call.interruptible:
            self._later(self._ports.patience, self._abandon)
        elif stop in (Stop.TIMEOUT, Stop.EXPIRED):
            self._abandon()

    def _abandon(self) -> None:
        """Give the slot back although the function goes on; nothing takes a slot for ever."""
        if self._outcome is not None or self._call is None:
            return
        killed_before, self._stack = self._stack is not None, self._call.stack()
        if self._call.kill() and not killed_before:
            # Its end is told in a moment; if not even that works, the slot is given back.
            self._later(self._ports.patience, self._abandon)
            return
        self.abandoned = True
        self._end(self._stopped(" The function ignores it and still runs."))

    def _returned(self, value: Any, error: BaseException | None) -> None:
        # The two refer to each other, and would wait for the garbage collector.
        self._call = None
        if self._outcome is not None:
            # Given up before; what comes now is too late to count.
            self._returned_late(self)
            return
        self.error = error
        if self._stop is not None and isinstance(error, _STOPPED):
            self._end(self._stopped(_KILLED if self._stack is not None else ""))
        elif error is None:
            self._end(self._succeeded(value))
        else:
            self._end(self._failed(error))

    def _succeeded(self, value: Any) -> Outcome:
        if value is None:
            return _NOTHING
        if isinstance(value, Encoded):
            return Succeeded(value.text, value.reason)
        try:
            return Succeeded(self._ports.codec.result(value, self.job.task))
        except NotDurableError as error:
            return Succeeded(None, str(error))

    def _failed(self, error: BaseException) -> Outcome:
        if isinstance(error, Snooze):
            return Snoozed(error.delay, storable(error.reason))
        if isinstance(error, ChildDied):
            return self._crashed(error.reason)
        if isinstance(error, NotRunnable):
            return Held(error.reason, error.held_for)
        if isinstance(error, RemoteError):
            if error.gives_up and not error.again:
                return Failed(str(error), error.record)
            return self._again(error.record, error.after)
        record = describe(error)
        if isinstance(error, Retry):
            return self._again(record, error.after)
        if self._gives_up(error):
            return Failed(f"{record.type}: {record.message}", record)
        return self._again(record, None)

    def _gives_up(self, error: BaseException) -> bool:
        policy = self._policy
        return matches(error, policy.give_up_on) or not matches(error, policy.retry_on)

    def _again(self, error: AttemptError, after: float | None) -> Outcome:
        failures = self.job.failures + 1
        if failures >= self._policy.max_attempts:
            return Failed(f"{error.type}: {error.message}", error)
        try:
            delay = (
                delay_before_retry(self._policy.backoff, failures, self._ports.rng)
                if after is None
                else after
            )
        except Exception as broken:  # noqa: BLE001  # a user's function may raise anything
            return Failed(storable(f"the backoff of {self.job.task} failed: {broken!r}"), error)
        finish_by = self.job.finish_by
        if finish_by is not None and self._ports.clock.now() + delay >= finish_by:
            return Expired("The next attempt would come after its time (finish_within).", error)
        return RetryLater(delay, error)

    def _crashed(self, reason: str) -> Outcome:
        """A death of the child is charged to this job alone, and asks the crash policy."""
        error = AttemptError("ChildDied", reason)
        on_crash, times = self.job.on_crash, self.job.crashes + 1
        if on_crash == "retry" and times >= MAX_CRASHES:
            on_crash, reason = "hold", f"{reason} That was the {times}th time."
        states = {"hold": JobState.HELD, "fail": JobState.FAILED}
        return Crashed(states.get(on_crash, JobState.QUEUED), reason, error)

    def _stopped(self, note: str) -> Outcome:
        match self._stop:
            case Stop.CANCELLED:
                return Cancelled((self._reason or "It was cancelled while it ran.") + note)
            case Stop.EXPIRED:
                return Expired("It was not finished within its time (finish_within)." + note)
            case Stop.SHUTDOWN:
                return self._cut_off()
            case _:
                message = f"no end after {self._policy.timeout:g} s." + note
                error = AttemptError("TimeoutError", message, self._stack)
                if self._gives_up(TimeoutError()):
                    return Failed(f"{error.type}: {error.message}", error)
                return self._again(error, None)

    def _cut_off(self) -> Outcome:
        """A shutdown is no attempt; but what must not run twice does not run again for it."""
        match self.job.on_crash:
            case "hold":
                return Held(CUT_OFF, "crash")
            case "fail":
                return Failed(CUT_OFF, None)
            case _:
                return Interrupted()

    def _end(self, outcome: Outcome) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers = ()
        self._outcome = outcome
        self._ended(self, outcome)
