"""When a runner runs: opened by one or by several users at once, on one event loop.

What lives here: who may open and close a session, and when. What does not: what a session is made
of. Used by the runner.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from embedded_tasks.errors import ConfigurationError, NotStartedError
from embedded_tasks.forks import forks
from embedded_tasks.session import Session
from embedded_tasks.settings import in_test_mode

__all__ = ["Lifecycle"]


class Lifecycle:
    """The sessions of one runner, one after another.

    Args:
        make: Returns a session that is not started; told whether it may run jobs.
    """

    def __init__(self, make: Callable[[bool], Session]) -> None:
        self._make = make
        self._users = 0
        self._workers = 0
        self._opening: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None
        self._forks = -1
        self.session: Session | None = None

    @property
    def is_running(self) -> bool:
        """Whether there is a session of this process."""
        return self.session is not None and self._forks == forks()

    def on_this_loop(self) -> bool:
        """Return whether the session runs on the event loop that this is called on."""
        # A thread runs one loop at a time, under test perhaps another one, or one of trio's. To ask
        # for the running loop would be a system call (Python before 3.12), in every request.
        loop = self._loop
        return (
            loop is not None
            and self.session is not None
            and threading.get_ident() == self._thread
            and self._forks == forks()
            and loop.is_running()
        )

    def current_task(self) -> asyncio.Task[Any] | None:
        """Return the task that runs now on the session's event loop, whoever asks."""
        # As in `on_this_loop`, which is for the caller to ask where it matters.
        return None if self._loop is None else asyncio.current_task(self._loop)

    def in_its_thread(self) -> bool:
        """Return whether this is called in the thread of the session's event loop."""
        return threading.get_ident() == self._thread

    def current(self, what: str) -> Session:
        """Return the present session.

        Raises:
            NotStartedError: There is none, or it belongs to the parent of this forked process.
        """
        if self.session is None or self._forks != forks():
            raise NotStartedError(what)
        return self.session

    @asynccontextmanager
    async def open(self, *, run_jobs: bool, start_work: bool) -> AsyncIterator[None]:
        """Have a session for the length of a block; the first user starts it, the last stops it."""
        if self._is_elsewhere():
            # A second lifespan of the same app under test, with a loop of its own: its requests
            # run their tasks as plain, and the first one's session is left alone.
            yield
            return
        self._users += 1
        try:
            while self.session is None:
                await self._start_once(run_jobs, start_work)
            if run_jobs and not self.session.may_run_jobs:
                raise ConfigurationError(
                    "the runner is open already, and only to enqueue. Open it once, with "
                    "runner.open(run_jobs=True) or by the app's lifespan."
                )
            yield
        finally:
            self._users -= 1
            if self._users == 0:
                # A block that is cancelled must not leave its runner half open.
                with anyio.CancelScope(shield=True):
                    await self._stop()

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Attempt jobs for the length of a block; the last such block ends the work."""
        if self._is_elsewhere():
            yield
            return
        session = self.current("working")
        session.begin_work()
        self._workers += 1
        try:
            yield
        finally:
            self._workers -= 1
            if self._workers == 0:
                await session.end_work()

    def _is_elsewhere(self) -> bool:
        """Return whether a session runs on another loop.

        Raises:
            ConfigurationError: It does, and this is no test.
        """
        if not self.is_running or self.on_this_loop():
            return False
        if not in_test_mode():
            raise ConfigurationError(
                "this runner runs already, on another event loop. Use one loop, or a TaskRunner "
                "for each; several may share a file."
            )
        return True

    async def _start_once(self, run_jobs: bool, start_work: bool) -> None:
        """Start, or wait for whoever is starting already."""
        if self._opening is not None:
            await self._opening.wait()
            return
        opening = self._opening = asyncio.Event()
        try:
            session = self._make(run_jobs)
            self._loop = asyncio.get_running_loop()
            self._thread = threading.get_ident()
            self._forks = forks()
            await session.start()
            self.session = session
            if start_work:
                session.begin_work()
        finally:
            self._opening = None
            opening.set()

    async def _stop(self) -> None:
        try:
            if self.session is not None:
                # Jobs that come to their end within the grace may still enqueue others.
                await self.session.stop()
        finally:
            self.session = None
