"""Functions of `run_in="process"`: child processes, each with one call at a time.

What lives here: the children that are there, and the calls in them. What does not: slots and
outcomes, and what happens inside a child (`child.py`). Called by `attempt.py`, on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from embedded_tasks.clock import Clock, Timer, pause
from embedded_tasks.context import JobContext
from embedded_tasks.engine.spawning import Spawned
from embedded_tasks.engine.wire import ChildDied, Message, Order, Unpacker, answer, pack

__all__ = ["ChildCall", "ChildOptions", "Children", "Done"]

Done = Callable[[Any, BaseException | None], None]

_STARTS_WITHIN = 60.0
_IDLE_FOR = 60.0
_LOOKS_EVERY = 0.1
_LEAVES_WITHIN = 1.0
_MOST_PAUSE = 1.0
_UNKILLABLE_AFTER = 5.0
_AT_ONCE = 262_144
_PLAIN = ("job_id", "task", "attempt", "failures", "crashes", "queue", "request_id")


@dataclass(frozen=True, slots=True)
class ChildOptions:
    """How children are run.

    Args:
        known: Returns the packages whose names a child resolves.
        limit: The largest encoded result, in bytes.
        memory_limit: Bytes of memory that a child may use; None for no limit.
        max_jobs: How many calls a child makes before another takes its place; None for no limit.
    """

    known: Callable[[], list[str]]
    limit: int
    memory_limit: int | None = None
    max_jobs: int | None = None


class ChildCall:
    """A call that runs, or is about to run, in a child process.

    Args:
        order: What is to be called.
        context: What the function can know and say; what it says comes out here.
        begun: Called on the loop when the function's first line is about to run.
        done: Called on the loop with the value, or with None and the error.
    """

    interruptible = True

    def __init__(
        self, order: Order, context: JobContext, begun: Callable[[], None], done: Done
    ) -> None:
        self.order = order
        self.context = context
        self.child: _Child | None = None
        self.has_begun: bool = False
        self.is_told: bool = False
        self.where = ""
        self._begun = begun
        self._done = done

    def interrupt(self) -> None:
        """Tell the function to stop; an async one is cancelled. It may refuse: see `kill`."""
        self.is_told = True
        if self.child is not None:
            self.child.tell_to_stop()

    def kill(self) -> bool:
        """Kill the process that the function runs in; `done` tells of its end."""
        if self.child is not None:
            self.child.kill("it was told to stop and did not")
        return True

    def stack(self) -> str:
        """Return where the function was when it was told to stop, as text, if it could say so."""
        return self.where

    def begin(self) -> None:
        """The child says that it calls the function now."""
        self.has_begun = True
        self._begun()

    def end(self, value: Any, error: BaseException | None) -> None:
        """The call has come to its end; told once."""
        self.child = None
        self._done(value, error)


class Children:
    """Child processes; made when needed, used again, gone after a minute of rest.

    Args:
        loop: The event loop, on whose thread everything here is called.
        clock: Where the time comes from.
        options: How they are run.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Clock, options: ChildOptions
    ) -> None:
        self.loop = loop
        self.clock = clock
        self.options = options
        self._all: set[_Child] = set()
        self._idle: list[_Child] = []
        self._watch: Timer | None = None
        self._closed = False

    @property
    def pids(self) -> list[int]:
        """The process ids of the children that live."""
        return sorted(child.pid for child in self._all)

    def start(
        self, order: Order, context: JobContext, begun: Callable[[], None], done: Done
    ) -> ChildCall:
        """Call a function in a child; there is always a child for it.

        Raises:
            OSError: The system gives no more processes; nothing was called.
        """
        call = ChildCall(order, context, begun, done)
        self._place(call)
        return call

    def _place(self, call: ChildCall) -> None:
        if self._idle:
            child = self._idle.pop()
        else:
            child = _Child(self)
            self._all.add(child)
        child.take(call)
        if self.options.memory_limit is not None and self._watch is None:
            self._watch = self.clock.call_later(_LOOKS_EVERY, self._look)

    def free(self, child: _Child) -> None:
        """A child has answered."""
        limit, most = self.options.memory_limit, self.options.max_jobs
        worn = most is not None and child.answered >= most
        if self._closed or worn or (limit is not None and child.memory() > limit):
            child.leave()
        else:
            self._idle.append(child)
            child.rest(_IDLE_FOR)

    def resting(self, child: _Child) -> None:
        """A child is no longer to be used."""
        if child in self._idle:
            self._idle.remove(child)

    def gone(self, child: _Child, call: ChildCall | None, error: ChildDied) -> None:
        """A child has ended, with the call that it was at."""
        self.resting(child)
        self._all.discard(child)
        if call is None:
            return
        if call.has_begun or not child.answered or call.is_told or self._closed:
            call.end(None, error)
            return
        # It died while it rested, and the call has come too late to have a part in that.
        try:
            self._place(call)
        except OSError as failed:
            call.end(None, failed)

    def _look(self) -> None:
        """Look at the memory of those that work; only while there are such."""
        self._watch = None
        limit = self.options.memory_limit
        for child in self._all - set(self._idle):
            if limit is not None and (used := child.memory()) > limit:
                child.kill(
                    f"it used {used / 2**20:,.0f} MiB of memory, and child_memory_limit is "
                    f"{limit / 2**20:,.0f} MiB"
                )
        if len(self._all) > len(self._idle):
            self._watch = self.clock.call_later(_LOOKS_EVERY, self._look)

    async def close(self) -> None:
        """End all children: those that rest may leave, those that work are killed."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        for child in list(self._all):
            if child in self._idle:
                child.leave()
            else:
                child.kill("the app was shut down")
        for limit in (_LEAVES_WITHIN, _UNKILLABLE_AFTER):
            if not await self._all_gone(limit):
                for child in self._all:
                    child.kill("the app was shut down")
        for child in list(self._all):
            child.give_up()

    async def _all_gone(self, limit: float) -> bool:
        waited, delay = 0.0, 0.002
        while self._all and waited < limit:
            await pause(self.clock, delay)
            waited, delay = waited + delay, min(delay * 1.5, 0.1)
        return not self._all


class _Child:
    """One child process, as its parent sees it."""

    def __init__(self, owner: Children) -> None:
        self.answered: int = 0
        self._owner = owner
        self._loop = owner.loop
        self._process = Spawned()
        self.pid: int = self._process.pid
        self._number = 0
        self._call: ChildCall | None = None
        self._why = ""
        self._timer: Timer | None = None
        self._reaping = 0.0
        self._unpacker = Unpacker()
        self._unsent = bytearray()
        self._loop.add_reader(self._process.connection, self._readable)
        if self._process.death is not None:
            self._loop.add_reader(self._process.death, self._reap)

    # What the owner and the calls ask.

    def take(self, call: ChildCall) -> None:
        """Send a call."""
        call.child, self._call = self, call
        self._number += 1
        self._set_timer(_STARTS_WITHIN, self._too_slow)
        options, order = self._owner.options, call.order
        self._send(
            {
                "order": self._number,
                "known": options.known(),
                "limit": options.limit,
                "context": {name: getattr(call.context, name) for name in _PLAIN},
                **order._asdict(),
            }
        )

    def tell_to_stop(self) -> None:
        """Pass on that the function shall stop."""
        self._send({"stop": self._number})

    def kill(self, why: str) -> None:
        """Kill it; the first reason counts."""
        self._why = self._why or why
        self._process.kill()
        if self._process.death is None:
            self._reap()

    def leave(self) -> None:
        """Let it end by itself, in good order."""
        self._owner.resting(self)
        self._send({"leave": True})
        self._set_timer(_LEAVES_WITHIN, lambda: self.kill("it did not leave"))

    def rest(self, limit: float) -> None:
        """Let it go if it rests for so long."""
        self._set_timer(limit, self.leave)

    def memory(self) -> int:
        """Return the bytes of memory that it uses."""
        return self._process.memory()

    # What comes from it.

    def _readable(self) -> None:
        try:
            data = self._process.connection.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            for message in self._unpacker.feed(data):
                self._hear(message)
            return
        # It has closed its end, and is of no use any more, if it is not dead already.
        self._loop.remove_reader(self._process.connection)
        self._owner.resting(self)
        if self._timer is None or self._call is not None:
            self._process.kill()
        if self._process.death is None:
            self._reap()

    def _hear(self, message: Message) -> None:
        call = self._call
        if call is None:
            return
        if "begun" in message:
            self._set_timer(None)
            call.begin()
        elif "stack" in message:
            call.where = message["stack"]
        elif "progress" in message:
            call.context.progress(*message["progress"])
        elif "said" in message:
            call.context.log(message["said"], level=message["level"], **message["fields"])
        else:
            self._call = None
            self._set_timer(None)
            self.answered += 1
            self._owner.free(self)
            call.end(*answer(message, stopped=call.is_told))

    def _too_slow(self) -> None:
        self.kill(f"it did not come to call the function within {_STARTS_WITHIN:g} s")

    def _reap(self) -> None:
        """It has ended, or is about to."""
        if not self._process.ended():
            self._reaping = min(self._reaping * 2 + 0.002, _MOST_PAUSE)
            if self._process.death is None:
                self._set_timer(self._reaping, self._reap)
            return
        self._hear_last_words()
        call, self._call = self._call, None
        how = self._process.how_it_ended()
        self.give_up()
        why = self._why or f"it ended with {how}"
        self._owner.gone(self, call, ChildDied(f"Its child process (pid {self.pid}): {why}."))

    def _hear_last_words(self) -> None:
        """What it had said before it ended counts."""
        try:
            while data := self._process.connection.recv(_AT_ONCE):
                for message in self._unpacker.feed(data):
                    self._hear(message)
        except OSError:
            return

    def give_up(self) -> None:
        """Close everything."""
        self._set_timer(None)
        self._loop.remove_reader(self._process.connection)
        self._loop.remove_writer(self._process.connection)
        if self._process.death is not None:
            self._loop.remove_reader(self._process.death)
        self._process.close()

    def _set_timer(self, delay: float | None, callback: Callable[[], None] | None = None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay is not None and callback is not None:
            self._timer = self._owner.clock.call_later(delay, callback)

    def _send(self, message: Message) -> None:
        self._unsent += pack(message)
        self._write()

    def _write(self) -> None:
        connection = self._process.connection
        try:
            while self._unsent:
                del self._unsent[: connection.send(self._unsent[:_AT_ONCE])]
        except BlockingIOError:
            self._loop.add_writer(connection, self._write)
            return
        except OSError:
            # It is gone; its end is told in another way.
            self._unsent.clear()
        self._loop.remove_writer(connection)
