"""What is measured of every rival, in the same way.

What lives here: the order of measuring, in the rival's own environment. What does not: how a rival
is driven (`with_*.py`), and starting this. Standard library only.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.peers.record import started_at, times_run

__all__ = ["CALLERS", "FOLDER", "KIND", "REDIS", "SLOTS", "TEXT", "Command", "Peer", "run"]

CALLERS = 100
SLOTS = 10
TEXT = "a short string"
FOLDER = Path(os.environ.get("BENCH_FOLDER", "."))
REDIS = os.environ.get("BENCH_REDIS", "")
KIND = os.environ.get("BENCH_KIND", "sync")

_ONE_BY_ONE = 30
_ONE_BY_ONE_SECONDS = 3.0
_WARM_UP = 20
_PATIENCE = 60.0


class Peer(ABC):
    """One rival. `enqueue` returns an awaitable if the rival is async, else when it is stored.

    Args:
        package: Its name on the index, for its version.
    """

    package = ""

    def version(self) -> str:
        try:
            return version(self.package)
        except PackageNotFoundError:
            return "of this folder"

    async def open(self) -> None:  # noqa: B027  # many have nothing to do
        """Do what an app does before it enqueues."""

    @abstractmethod
    def enqueue(self, number: int) -> Awaitable[object] | None:
        """Store one job."""

    @abstractmethod
    async def start(self) -> None:
        """Start to run jobs."""

    @abstractmethod
    async def stop(self) -> None:
        """Stop to run jobs; what has not run is kept."""

    async def settled(self, last: float) -> float:
        """Return when all was done; where a rival does not tell, when the last job ran."""
        return last

    async def close(self) -> None:  # noqa: B027  # many have nothing to do
        """Do what an app does at its end."""


class Command:
    """A worker that is a process of its own.

    Args:
        arguments: Its command, as an app's deployment has it.
    """

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = (FOLDER / "worker.log").open("ab")
        self._process = subprocess.Popen(
            self._arguments, stdout=log, stderr=log, start_new_session=True
        )

    def stop(self) -> None:
        """End it, first politely, and all that it has started."""
        assert self._process is not None
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()


class _Run:
    """One measuring of one rival.

    Args:
        peer: The rival.
        jobs: How many jobs it gets at a time.
    """

    def __init__(self, peer: Peer, jobs: int) -> None:
        self._peer = peer
        self._jobs = max(CALLERS, jobs // CALLERS * CALLERS)
        self._next = 0
        self._called: dict[int, float] = {}

    async def all(self) -> dict[str, float]:
        """Return one sample of each figure."""
        peer = self._peer
        await peer.open()
        await peer.start()
        await self._by_callers(_WARM_UP, 1)
        await self._ran()
        values = {f"idle.{key}": value for key, value in (await self._one_by_one()).items()}
        values |= await self._meanwhile()
        await peer.stop()
        single = max(20, self._jobs // 4)
        one = await self._by_callers(single, 1)
        many = await self._by_callers(self._jobs, CALLERS)
        values |= {"enqueue.one": single / one, "enqueue.hundred": self._jobs / many}
        drained = await self._drained(single + self._jobs)
        whole = 1 / (1 / drained + many / self._jobs)
        await peer.stop()
        await peer.close()
        return values | {"drained": drained, "whole": whole}

    async def _one_by_one(self) -> dict[str, float]:
        """Return how long an idle worker takes to hear of a job."""
        first, begun = self._next, time.monotonic()
        while self._next - first < _ONE_BY_ONE and (
            time.monotonic() - begun < _ONE_BY_ONE_SECONDS or self._next - first < 5
        ):
            await self._by_callers(1, 1)
            await self._ran()
            await asyncio.sleep(0.005)
        return self._waited(first)

    async def _meanwhile(self) -> dict[str, float]:
        first, begun = self._next, time.monotonic()
        await self._by_callers(self._jobs, CALLERS)
        await self._ran()
        last = max(moment for number, moment in started_at().items() if number >= first)
        last = await self._peer.settled(last)
        values = {f"busy.{key}": value for key, value in self._waited(first).items()}
        return values | {"meanwhile": self._jobs / (last - begun)}

    async def _drained(self, jobs: int) -> float:
        """Return how many ran per second, from the first to the last; starting does not count."""
        before = self._next - jobs
        await self._peer.start()
        await self._ran()
        moments = sorted(moment for number, moment in started_at().items() if number >= before)
        last = await self._peer.settled(moments[-1])
        return (len(moments) - 1) / max(last - moments[0], 1e-9)

    async def _by_callers(self, jobs: int, callers: int) -> float:
        """Enqueue so many jobs by so many callers; return the seconds."""
        first, self._next = self._next, self._next + jobs
        share = jobs // callers
        ranges = [range(first + i * share, first + (i + 1) * share) for i in range(callers)]
        begun = time.monotonic()
        if inspect.iscoroutinefunction(self._peer.enqueue):
            await asyncio.gather(*(self._call_async(numbers) for numbers in ranges))
        elif callers == 1:
            self._call(ranges[0])
        else:
            with ThreadPoolExecutor(callers) as pool:
                await asyncio.gather(
                    *(
                        asyncio.get_running_loop().run_in_executor(pool, self._call, numbers)
                        for numbers in ranges
                    )
                )
        return time.monotonic() - begun

    def _call(self, numbers: range) -> None:
        for number in numbers:
            self._called[number] = time.monotonic()
            self._peer.enqueue(number)

    async def _call_async(self, numbers: range) -> None:
        for number in numbers:
            self._called[number] = time.monotonic()
            done = self._peer.enqueue(number)
            assert done is not None
            await done

    async def _ran(self) -> None:
        """Wait until all that was enqueued has run."""
        deadline = time.monotonic() + _PATIENCE
        while times_run() < self._next:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{times_run()} of {self._next} jobs ran in {_PATIENCE:g} s")
            await asyncio.sleep(0.001)

    def _waited(self, first: int) -> dict[str, float]:
        """Return milliseconds from the call of enqueue to the function's first line."""
        waited = sorted(
            (moment - self._called[number]) * 1000
            for number, moment in started_at().items()
            if number >= first
        )
        return {"p50": waited[len(waited) // 2], "p99": waited[len(waited) * 99 // 100]}


def run(peer: Peer) -> None:
    """Measure and print one line of JSON; what a rival has printed before it does not matter."""
    values = asyncio.run(_Run(peer, int(os.environ["BENCH_JOBS"])).all())
    print()
    print(json.dumps({"version": peer.version(), "values": values}), flush=True)
    # Threads that a rival has left behind shall not keep the next one waiting.
    sys.stdout.flush()
    os._exit(0)
