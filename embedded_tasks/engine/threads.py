"""Sync functions: our own daemon threads, apart from those that serve the app's endpoints.

What lives here: the threads and their replacement. A thread cannot be killed: one whose call is
given up is left alone and ends when its function does; neither the interpreter nor anyio's pool
waits for it. What does not: slots and outcomes. Called by `attempt.py`.
"""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections import deque
from collections.abc import Callable
from contextvars import Context
from queue import SimpleQueue
from typing import Any

from embedded_tasks.frames import frame_of

__all__ = ["Done", "ThreadCall", "Threads"]

Done = Callable[[Any, BaseException | None], None]


class ThreadCall:
    """A call that runs, or is about to run, in a thread.

    Args:
        work: What the thread calls.
        done: Called on the loop with the value, or with None and the error.
        stop: Tells the function to stop, where it listens.
    """

    interruptible = False

    def __init__(self, work: Callable[[], Any], done: Done, stop: Callable[[], None]) -> None:
        self.work = work
        self.done = done
        self.ident: int | None = None
        self._stop = stop

    def interrupt(self) -> None:
        """Tell the function to stop; nothing can make it."""
        self._stop()

    def kill(self) -> bool:
        """Return that there is no way to end the call."""
        return False

    def stack(self) -> str:
        """Return where the thread is now, as text."""
        frame = frame_of(self.ident) if self.ident is not None else None
        return "".join(traceback.format_stack(frame)) if frame is not None else ""


class Threads:
    """Daemon threads that call sync functions; made when needed, kept until `close`.

    Args:
        loop: Where results are delivered.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: SimpleQueue[ThreadCall | None] = SimpleQueue()
        self._ended: deque[tuple[ThreadCall, Any, BaseException | None]] = deque()
        self._delivering = False
        self._busy = 0
        self._threads = 0
        self._lock = threading.Lock()
        self._closed = False

    @property
    def busy(self) -> int:
        """How many threads are inside a function, given up ones included."""
        return self._busy

    def start(
        self, work: Callable[[], Any], context: Context, done: Done, stop: Callable[[], None]
    ) -> ThreadCall:
        """Call `work` in a thread, inside `context`; there is always a thread for it.

        Raises:
            RuntimeError: The system gives no more threads; nothing was called.
        """
        call = ThreadCall(lambda: context.run(work), done, stop)
        with self._lock:
            if self._busy == self._threads:
                threading.Thread(target=self._run, name="embedded_tasks", daemon=True).start()
                self._threads += 1
            self._busy += 1
        self._calls.put(call)
        return call

    def close(self) -> None:
        """Let the idle threads end; those inside a function end after it."""
        self._closed = True
        for _ in range(self._threads):
            self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call.ident = threading.get_ident()
            value, error = None, None
            try:
                value = call.work()
            except BaseException as raised:  # noqa: BLE001  # handed on to whoever waits
                error = raised
            call.ident = None
            self._deliver(call, value, error)
            # Nothing of the call may live on while the thread waits.
            del call, value, error
            if self._closed:
                return

    def _deliver(self, call: ThreadCall, value: Any, error: BaseException | None) -> None:
        with self._lock:
            self._busy -= 1
            self._ended.append((call, value, error))
            if self._delivering:
                return
            self._delivering = True
        try:
            self._loop.call_soon_threadsafe(self._hand_over)
        except RuntimeError:
            # The loop is closed: the process is going down, and recovery does the rest.
            return

    def _hand_over(self) -> None:
        with self._lock:
            self._delivering = False
        while self._ended:
            call, value, error = self._ended.popleft()
            call.done(value, error)
