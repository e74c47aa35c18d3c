"""A control group with a limit of memory, in which the kernel really kills.

What lives here: making it below the group of this process, version 1 or 2, and removing it. What
does not: what runs in it. Called by the tests of deaths.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["memory_group"]

_FIRST = {"v1": "memory.limit_in_bytes", "v2": "memory.max"}
# Without swap, or the kernel would move memory there for long before it kills.
_MORE = {
    "memory.memsw.limit_in_bytes": None,
    "memory.swap.max": "0",
    "memory.oom.group": "0",
}


@contextlib.contextmanager
def memory_group(limit: int) -> Iterator[Path]:
    """Give a new group; who writes "0" to its `cgroup.procs` is in it. Else the test is skipped.

    Args:
        limit: Bytes that all of it may use.
    """
    group = _make(limit)
    try:
        yield group
    finally:
        _remove(group)


def _make(limit: int) -> Path:
    why = "the system tells of no control group for memory"
    for version, own in _own_groups():
        group = own / f"embedded-tasks-{os.getpid()}-{time.monotonic_ns()}"
        try:
            group.mkdir()
        except OSError as error:
            why = f"{error}"
            continue
        try:
            (group / _FIRST[version]).write_text(str(limit))
        except OSError as error:
            why = f"{error}"
            group.rmdir()
            continue
        for name, value in _MORE.items():
            with contextlib.suppress(OSError):
                (group / name).write_text(str(limit) if value is None else value)
        return group
    pytest.skip(f"no control group with a limit of memory can be made here: {why}")


def _own_groups() -> Iterator[tuple[str, Path]]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                yield "v1", Path("/sys/fs/cgroup/memory") / path.lstrip("/")
            elif not controllers:
                yield "v2", Path("/sys/fs/cgroup") / path.lstrip("/")


def _remove(group: Path) -> None:
    """It goes as soon as the system has forgotten who was in it, which takes a moment."""
    for _ in range(400):
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.01)
        else:
            return
    group.rmdir()
