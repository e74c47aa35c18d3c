"""A watch on the event loop while attempts run: who keeps it from going round.

What lives here: one thread, asleep while nothing runs, and the naming of the job that blocks. What
does not: what is kept of it (`settling.py`). Built by the session.
"""

from __future__ import annotations

import asyncio
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

import structlog

from embedded_tasks.clock import Clock
from embedded_tasks.context import RUNNING_JOB
from embedded_tasks.events import EventName, JobEvent
from embedded_tasks.frames import frame_of
from embedded_tasks.job import ClaimedJob, LoopBlock

__all__ = ["Blocked", "Runs", "Watchdog"]

_log = structlog.get_logger("embedded_tasks")

_DEEPEST: Final = 60
_RUN_ONCE: Final = ("_run_once", asyncio.base_events.__file__)
_NO_JOB: Final = "something that is no job"
_PATHS: Final = sysconfig.get_paths()
_LIBRARIES: Final = tuple(_PATHS[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))


@dataclass(frozen=True, slots=True)
class Blocked:
    """The loop did not answer, and who had it.

    Args:
        job: The job whose code it was, or None where it was no job's.
        block: For how long and where.
    """

    job: ClaimedJob | None
    block: LoopBlock

    def event(self) -> JobEvent | None:
        """Return what observers are told, if it was a job."""
        if self.job is None:
            return None
        job, block = self.job, self.block
        details = {"duration": block.seconds, "reason": block.sentence, "traceback": block.stack}
        name = EventName.BLOCKED_LOOP
        return JobEvent(name, job.id, job.task, job.attempt, job.request_id, details)


class Runs(Protocol):
    """The attempts that run now."""

    def __len__(self) -> int:
        """How many they are."""
        ...

    def job_of(self, task: asyncio.Task[Any]) -> ClaimedJob | None:
        """Return the job whose function runs in this very task."""
        ...


class _Question:
    """What the loop is asked: are you there?"""

    def __init__(self, asked_at: float) -> None:
        self.asked_at = asked_at
        self.answered = threading.Event()
        self.lock = threading.Lock()
        self.found: Blocked | None = None


class Watchdog:
    """Asks the event loop again and again, from a thread, whether it goes round.

    Only while attempts run: when none does the thread sleeps, and wakes up for the next one. A
    block of one and a half times the threshold is always seen.

    Args:
        clock: Measures how long a block lasts; the waiting itself is real.
        threshold: Seconds without an answer that are too long; None does not watch.
        running: Returns the attempts that run now; asked from the thread.
        told: Called on the loop when a block is over.
    """

    def __init__(
        self,
        clock: Clock,
        threshold: float | None,
        *,
        running: Callable[[], Runs],
        told: Callable[[Blocked], None],
    ) -> None:
        self._clock = clock
        self._threshold = threshold or 0.0
        self._running = running
        self._told = told
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._thread: threading.Thread | None = None
        self._asleep = threshold is not None
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._question: _Question | None = None

    def started(self) -> None:
        """An attempt has started: watch until none runs."""
        if self._asleep:
            self._asleep = False
            self._rouse()

    def close(self) -> None:
        """End the thread."""
        self._asleep = False
        self._closed.set()
        self._wake.set()
        if self._question is not None:
            self._question.answered.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _rouse(self) -> None:
        if self._thread is not None:
            self._wake.set()
            return
        thread = threading.Thread(target=self._run, name="embedded_tasks-watchdog", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the system gives no more threads; jobs go on unwatched
            return
        self._thread = thread

    # In the thread.

    def _run(self) -> None:
        while not self._closed.is_set():
            if not len(self._running()):
                self._sleep()
            elif self._is_at_rest() or self._ask():
                self._closed.wait(self._threshold / 2)
            else:
                return

    def _sleep(self) -> None:
        self._wake.clear()
        self._asleep = True
        # An attempt that started before the note was made is seen here, a later one sees the note.
        if not (len(self._running()) or self._closed.is_set()):
            self._wake.wait()
        self._asleep = False

    def _is_at_rest(self) -> bool:
        """Whether asyncio's loop waits for events: then there is no need to wake it up."""
        frame = frame_of(self._loop_thread)
        caller = frame.f_back if frame is not None else None
        # Only there: a blocking call, such as subprocess.run, may wait in a selector as well.
        if frame is None or caller is None or frame.f_code.co_name != "select":
            return False
        return (caller.f_code.co_name, caller.f_code.co_filename) == _RUN_ONCE

    def _ask(self) -> bool:
        """Ask the loop and wait for its answer; return whether there still is a loop."""
        question = self._question = _Question(self._clock.monotonic())
        try:
            self._loop.call_soon_threadsafe(self._answer, question)
        except RuntimeError:
            return False
        while not self._closed.is_set():
            waited_from, cpu_before = self._clock.monotonic(), time.process_time()
            if question.answered.wait(self._threshold):
                break
            waited = self._clock.monotonic() - waited_from
            worked = time.process_time() - cpu_before
            if waited > self._threshold * 2 and worked < waited / 2:
                # This thread slept too long itself: the whole process stood still, as at a SIGSTOP.
                continue
            self._look(question)
            question.answered.wait()
        return True

    def _look(self, question: _Question) -> None:
        """See who has the loop's thread now."""
        frame = frame_of(self._loop_thread)
        task = asyncio.current_task(self._loop)
        job = _job_of(task, frame)
        if job is None and task is not None:  # uvloop on Python 3.11 leaves no other trace
            job = self._running().job_of(task)
        found = Blocked(job, _block(self._threshold, frame))
        with question.lock:
            if question.answered.is_set():  # just now, and what was seen came after it
                return
            question.found = found
        block = found.block
        who = {"job_id": job.id, "task": job.task, "attempt": job.attempt} if job else {}
        _log.warning(
            "loop.blocked",
            by=job.task if job else _NO_JOB,
            seconds=self._threshold,
            where=block.where,
            stack=block.stack,
            **who,
        )

    # On the loop.

    def _answer(self, question: _Question) -> None:
        with question.lock:
            question.answered.set()
        found = question.found
        if found is not None and not self._closed.is_set():
            seconds = max(self._clock.monotonic() - question.asked_at, self._threshold)
            self._told(replace(found, block=replace(found.block, seconds=seconds)))


def _job_of(task: asyncio.Task[Any] | None, frame: FrameType | None) -> ClaimedJob | None:
    """Return the job on whose behalf the loop runs, its own tasks and callbacks included."""
    context = _context_of(task, frame)
    return context.get(RUNNING_JOB) if context is not None else None


def _context_of(task: asyncio.Task[Any] | None, frame: FrameType | None) -> Context | None:
    get_context: Callable[[], Context] | None = getattr(task, "get_context", None)
    if get_context is not None:
        return get_context()
    # A plain callback, or Python 3.11, whose tasks do not tell: asyncio's own frame does.
    while frame is not None and frame.f_code.co_qualname != "Handle._run":
        frame = frame.f_back
    return getattr(frame.f_locals.get("self"), "_context", None) if frame is not None else None


def _block(seconds: float, frame: FrameType | None) -> LoopBlock:
    stack = traceback.extract_stack(frame, limit=_DEEPEST) if frame is not None else []
    own = [item for item in stack if not item.filename.startswith(_LIBRARIES)] or stack
    where = f"{own[-1].name} ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else "?"
    return LoopBlock(seconds, where, "".join(traceback.format_list(stack)))
