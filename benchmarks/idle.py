"""What processes with nothing to do ask of the system, and what a job writes: counted by strace.

What lives here: tracing, and counting what was traced. What does not: the processes. Called by
`__main__`; without strace nothing is counted.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.child import BEGIN, END, command
from benchmarks.figures import Figure
from benchmarks.files import Place
from benchmarks.jobs import nothing
from benchmarks.serving import serve

__all__ = ["FIGURES", "Disk", "Idle", "can_trace"]

_CONCURRENCY = (1, 10, 100)

FIGURES = [
    Figure("idle.server", "idle: system calls of a server without a runner", "per min"),
    *(
        Figure(f"idle.{case}.{key}", f"idle: {more}, {title}", unit)
        for case, title in (
            ("one", "one process"),
            ("four", "each of four processes"),
            ("due", "one process with a job due in an hour"),
        )
        for key, more, unit in (
            ("threads", "system calls of our threads", "per min"),
            ("calls", "system calls beyond the server's own", "per min"),
            ("files", "reads, writes and syncs of files", "per min"),
        )
    ),
    Figure("disk.bytes", "a finished job in the file", "bytes"),
    *(
        Figure(f"disk.{callers}.{key}", f"{title} per job, {callers} at a time", unit)
        for callers in _CONCURRENCY
        for key, title, unit in (("writes", "writes", ""), ("syncs", "syncs", ""))
    ),
]

_CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed>)")
_OF_FILES = (
    "pread64",
    "pwrite64",
    "preadv",
    "pwritev",
    "fsync",
    "fdatasync",
    "openat",
    "newfstatat",
)
_SYNCS = ("fsync", "fdatasync")
_ROOT = Path(__file__).resolve().parents[1]
_SETTLE = 15.0
"""Seconds; ten after the first job, which the file came with, its figures are written down."""


def can_trace() -> bool:
    """Return whether strace is there and may trace."""
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(["strace", "-qq", "-o", "/dev/null", "true"], check=False)
    return tried.returncode == 0


@dataclass(frozen=True)
class _Traced:
    """What one process did: calls by name, and how many were not its main thread's."""

    calls: Counter[str]
    threads: int


class Idle:
    """Counts for a time what idle servers do, all at once.

    Args:
        place: Where files are made.
        seconds: How long they are watched.
        pure: As in `Web`.
    """

    def __init__(self, place: Place, seconds: float, *, pure: bool) -> None:
        self._place = place
        self._seconds = seconds
        self._pure = pure

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        due = self._place.fresh()
        asyncio.run(self._due_in_an_hour(due))
        shared = self._place.with_schema()
        with ExitStack() as stack:
            pure = self._pure
            servers = {
                "server": [stack.enter_context(serve(pure=pure))],
                "one": [stack.enter_context(serve(self._place.fresh(), pure=pure))],
                "four": [stack.enter_context(serve(shared, pure=pure)) for _ in range(4)],
                "due": [stack.enter_context(serve(due, pure=pure))],
            }
            time.sleep(_SETTLE)
            pids = [server.pid for group in servers.values() for server in group]
            found = iter(self._watch(pids))
            counts = {case: [next(found) for _ in group] for case, group in servers.items()}
        return self._values(counts)

    def _values(self, counts: dict[str, list[_Traced]]) -> dict[str, float]:
        per_minute = 60 / self._seconds
        own = counts.pop("server")[0].calls.total()
        values = {"idle.server": own * per_minute}
        for case, group in counts.items():
            calls = max(each.calls.total() for each in group) - own
            files = max(sum(each.calls[name] for name in _OF_FILES) for each in group)
            values[f"idle.{case}.threads"] = max(each.threads for each in group) * per_minute
            values[f"idle.{case}.calls"] = max(0, calls) * per_minute
            values[f"idle.{case}.files"] = files * per_minute
        return values

    def _watch(self, pids: Sequence[int]) -> list[_Traced]:
        logs = [self._place.fresh().parent / "trace" for _ in pids]
        tracers = [
            subprocess.Popen(["strace", "-f", "-qq", "-o", str(log), "-p", str(pid)])
            for pid, log in zip(pids, logs, strict=True)
        ]
        time.sleep(self._seconds)
        for tracer in tracers:
            tracer.send_signal(signal.SIGINT)
        for tracer in tracers:
            tracer.wait()
        return [
            _Traced(_counted(text), _of_threads(text, pid))
            for text, pid in zip((log.read_text() for log in logs), pids, strict=True)
        ]

    async def _due_in_an_hour(self, path: Path) -> None:
        async with self._place.runner(path) as runner:
            await runner.options(delay=3600).enqueue(nothing, 1)


class Disk:
    """Counts what the lives of jobs write, and what is left of them.

    Args:
        place: Where files are made.
        jobs: How many live, at each concurrency.
    """

    def __init__(self, place: Place, jobs: int) -> None:
        self._place = place
        self._jobs = jobs

    def measure(self) -> dict[str, float]:
        """Return one sample of each figure."""
        values: dict[str, float] = {}
        for callers in _CONCURRENCY:
            path = self._place.with_schema()
            before = path.stat().st_size
            jobs = max(1, self._jobs // callers) * callers
            counts = self._trace(path, jobs, callers)
            values["disk.bytes"] = (path.stat().st_size - before) / jobs
            values[f"disk.{callers}.writes"] = counts["pwrite64"] / jobs
            values[f"disk.{callers}.syncs"] = sum(counts[name] for name in _SYNCS) / jobs
        return values

    def _trace(self, path: Path, jobs: int, callers: int) -> Counter[str]:
        log = path.with_name("trace")
        calls = ",".join(("write", "pwrite64", *_SYNCS))
        tracing = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", f"trace={calls}", "-o", str(log)]
        subprocess.run(
            [*tracing, *command("churn", path, jobs=jobs, callers=callers)],
            cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip  # one call
        text = log.read_text()
        begin, end = (mark.decode().strip() for mark in (BEGIN, END))
        return _counted(text.split(begin)[1].split(end)[0])


def _counted(trace: str) -> Counter[str]:
    """Count the calls that ended; one that was waiting when the trace began counts as it ends."""
    found = (_CALL.match(line) for line in trace.splitlines() if "<unfinished" not in line)
    return Counter(match[2] for match in found if match)


def _of_threads(trace: str, pid: int) -> int:
    """Count the calls of all threads but the main one, which is the server's too."""
    found = (_CALL.match(line) for line in trace.splitlines() if "<unfinished" not in line)
    return sum(int(match[1]) != pid for match in found if match)
