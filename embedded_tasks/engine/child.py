"""What runs in a child process: it is given one call at a time, and answers.

What lives here: the child's end of the line, and its tie to the parent's life. What does not:
starting children (`spawning.py`) and timers. Started by `spawning.py` as a program of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import structlog

from embedded_tasks.codec import Codec
from embedded_tasks.config import Policy
from embedded_tasks.context import JobCancelled, JobContext
from embedded_tasks.engine.loop import LoopCall
from embedded_tasks.engine.wire import Message, Unpacker, pack
from embedded_tasks.errors import (
    ConfigurationError,
    EmbeddedTasksError,
    NotDurableError,
    PayloadError,
    UnknownTaskError,
)
from embedded_tasks.failure import describe, matches, shown, storable
from embedded_tasks.frames import frame_of
from embedded_tasks.references import References
from embedded_tasks.retry import Retry, Snooze
from embedded_tasks.task import Catalogue, Task, is_async

if sys.platform != "win32":
    import fcntl

__all__ = ["HAS_BEGUN", "main", "refuse_in_child"]

HAS_BEGUN = {"begun": True}
"""What a child says when it calls the function."""

_FIRST_TO_GO = 500
_PROGRESS_EVERY = 0.2
_is_child = threading.Event()


def refuse_in_child() -> None:
    """Refuse to run jobs in a process that `run_in="process"` started.

    Raises:
        ConfigurationError: This is one.
    """
    if _is_child.is_set():
        raise ConfigurationError(
            'a child process (run_in="process") imported a program that opens its runner as it is '
            'imported. Start the program below: if __name__ == "__main__":'
        )


@dataclass(slots=True)
class _Job:
    """The call that this process is at."""

    order: Message
    context: JobContext
    notes: _Notes
    lock: threading.Lock = field(default_factory=threading.Lock)
    loop: asyncio.AbstractEventLoop | None = None
    task: asyncio.Task[Any] | None = None

    def cancel(self) -> None:
        """Cancel the function if it is async."""
        with self.lock:
            if self.loop is not None and self.task is not None:
                self.loop.call_soon_threadsafe(self.task.cancel)

    def stack(self) -> str:
        """Return where the function is now."""
        if self.task is not None:
            return LoopCall(self.task).stack()
        ident = threading.main_thread().ident
        frame = frame_of(ident) if ident is not None else None
        return "".join(traceback.format_stack(frame)) if frame is not None else ""


class _Notes:
    """What a function says of its job goes to the parent, which keeps it.

    Of what is told of the progress in a fifth of a second only the last goes: a loop that tells of
    each row shall not keep the app's event loop busy.
    """

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._progress: Message | None = None
        self._rest: threading.Timer | None = None
        self._closed = False

    def progress(
        self, job_id: str, attempt: int, done: float, total: float | None, message: str | None
    ) -> None:
        """Pass on how far the job has come."""
        del job_id, attempt
        with self._lock:
            self._progress = {"progress": [done, total, message]}
            if self._rest is None and not self._closed:
                self._send_progress()

    def _send_progress(self) -> None:
        self._rest = None
        if self._progress is not None:
            self._send(self._progress)
            self._progress = None
            self._rest = threading.Timer(_PROGRESS_EVERY, self._rested)
            self._rest.daemon = True
            self._rest.start()

    def _rested(self) -> None:
        with self._lock:
            if not self._closed:
                self._send_progress()

    def log(
        self, job_id: str, attempt: int, level: str, text: str, fields: Mapping[str, object]
    ) -> None:
        """Pass on a line of the job's log."""
        del job_id, attempt
        texts = {name: shown(value) for name, value in fields.items()}
        with self._lock:
            if not self._closed:
                self._send({"said": text, "level": level, "fields": texts})

    def close(self) -> None:
        """Send what is left; what threads of the function say from now on is not of its job."""
        with self._lock:
            self._closed = True
            if self._rest is not None:
                self._rest.cancel()
            if self._progress is not None:
                self._send(self._progress)


class _Line:
    """The child's end: a thread that listens, and the main thread, which works."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._present: _Job | None = None
        self._sending = threading.Lock()

    def work(self) -> None:
        """Listen, and do what is ordered, until the parent says that it is enough."""
        threading.Thread(target=self._listen, name="embedded_tasks parent", daemon=True).start()
        worker: _Worker | None = None
        while (job := self._jobs.get()) is not None:
            if worker is None or worker.known != job.order["known"]:
                worker = _Worker(job.order["known"], job.order["limit"])
            answer = worker.do(job, self._send)
            job.notes.close()
            # Before the parent knows, which sends the next one then.
            self._present = None
            self._send(answer)
            # Nothing of the job may live on while the process waits.
            del job, answer

    def _listen(self) -> None:
        unpacker = Unpacker()
        with contextlib.suppress(OSError):
            while data := self._connection.recv(65536):
                # All of them first: what is told to stop before it begins is not begun.
                for job in [self._hear(message) for message in unpacker.feed(data)]:
                    if job is not None:
                        self._jobs.put(job)
        # The parent is gone, and with it whoever could use what is being done here.
        _end_at_once()

    def _hear(self, message: Message) -> _Job | None:
        if "order" in message:
            notes = _Notes(self._send)
            context = JobContext(**message["context"], _notes=notes)
            job = self._present = _Job(message, context, notes)
            return job
        if "stop" in message:
            told = self._present
            if told is not None and told.order["order"] == message["stop"]:
                # First, for it may end at once when it is told.
                stack = told.stack()
                told.context.stop()
                self._send({"stack": stack})
                told.cancel()
        else:
            self._jobs.put(None)
        return None

    def _send(self, message: Message) -> None:
        with self._sending, contextlib.suppress(OSError):
            self._connection.sendall(pack(message))


class _Worker:
    """Finds, decodes, calls and encodes, by the rules of the parent's runner."""

    def __init__(self, known: list[str], limit: int) -> None:
        self.known = known
        references = References(modules=known)
        self._catalogue = Catalogue(references)
        self._codec = Codec(references, limit)

    def do(self, job: _Job, send: Callable[[Message], None]) -> Message:
        """Do what a job orders, and return the answer."""
        order, policy = job.order, Policy()
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**order["log"])
        try:
            task = self._catalogue.find(order["task"])
            policy = self._codec.policy(task.policy, order["options"])
            args, kwargs = self._arguments(task, job)
        except UnknownTaskError as error:
            return {"reason": str(error), "held_for": "unknown_task"}
        except PayloadError as error:
            return {"reason": str(error), "held_for": "arguments"}
        except EmbeddedTasksError as error:
            return _error(error, gives_up=True)
        send(HAS_BEGUN)
        try:
            value = self._call(task, job, args, kwargs)
        except Snooze as error:
            return {"snooze": error.delay, "reason": storable(error.reason)}
        except BaseException as error:  # noqa: BLE001  # handed on to whoever waits
            gives_up = matches(error, policy.give_up_on) or not matches(error, policy.retry_on)
            return _error(error, gives_up=gives_up)
        try:
            return {"text": self._codec.result(value, task.name), "reason": None}
        except NotDurableError as error:
            return {"text": None, "reason": str(error)}

    def _arguments(self, task: Task, job: _Job) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = task.fitted(job.order["version"], *self._codec.arguments(job.order["args"]))
        return task.call_with(args, kwargs, job.context)

    def _call(self, task: Task, job: _Job, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        job.context.check()
        if not is_async(task.function):
            return task.function(*args, **kwargs)

        async def call() -> Any:
            with job.lock:
                job.loop, job.task = asyncio.get_running_loop(), asyncio.current_task()
            try:
                job.context.check()
                return await task.function(*args, **kwargs)
            finally:
                with job.lock:
                    job.loop = job.task = None

        return asyncio.run(call())


def _error(error: BaseException, *, gives_up: bool) -> Message:
    record = describe(error)
    return {
        "error": [record.type, record.message, record.traceback, record.place],
        "gives_up": gives_up,
        "again": isinstance(error, Retry),
        "after": error.after if isinstance(error, Retry) else None,
        "cancelled": isinstance(error, JobCancelled | asyncio.CancelledError),
    }


def _end_at_once() -> None:
    with contextlib.suppress(OSError):
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _tie_to_parent(lifeline: int) -> None:
    """Let the kernel kill this process group when the parent is gone, whatever runs here then.

    Nothing is ever written to the lifeline; it becomes readable when its other end is closed, by
    the parent's death too. The listening thread sees that as well, but not while C code keeps the
    interpreter's lock.
    """
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.FASYNC)


def _ignore(_number: int, _frame: object) -> None:
    """A service manager tells all processes of a service to end; the parent decides for us."""


def _take_no_signals() -> None:
    # Not SIG_IGN: what a task starts would inherit that, and could not be told to end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _ignore)
    # The parent had blocked them until there is somebody to ignore them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))


def _when_forked(connection: socket.socket, lifeline: int) -> None:
    """A process that a task forks has no part in the line, and can be told to end."""
    connection.close()
    with contextlib.suppress(OSError):
        os.close(lifeline)
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _be_first_to_go() -> None:
    """When memory runs out, the kernel shall take this process and not the app."""
    score = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        if int(score.read_text("ascii")) < _FIRST_TO_GO:
            score.write_text(str(_FIRST_TO_GO), "ascii")


def main(connection: int, lifeline: int) -> None:
    """Be a child until the parent says that it is enough, or is gone.

    Args:
        connection: The descriptor of a socket that leads to the parent.
        lifeline: The descriptor of a pipe whose other end is the parent's.
    """
    for number in (connection, lifeline):
        os.set_inheritable(number, False)
    line = socket.socket(fileno=connection)
    _is_child.set()
    _tie_to_parent(lifeline)
    _take_no_signals()
    os.register_at_fork(after_in_child=lambda: _when_forked(line, lifeline))
    _be_first_to_go()
    faulthandler.enable()
    with contextlib.suppress(AttributeError, ValueError):
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # suppressed
    _Line(line).work()
