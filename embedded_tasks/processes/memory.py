"""How often the kernel has killed for want of memory, here or on the whole machine.

What lives here: reading the counters of the control group, version 2 or 1, and of the machine. What
does not: what a difference means for a process that died. Called by `last_words.py`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["OutOfMemory", "count_out_of_memory"]

_COUNTER: Final = "oom_kill"


class OutOfMemory(NamedTuple):
    """A counter of processes that were killed for want of memory.

    Attributes:
        source: What counts, such as "/sys/fs/cgroup/app#4711"; only equal ones can be compared.
        kills: How many it has counted.
    """

    source: str
    kills: int

    @property
    def of_machine(self) -> bool:
        """Whether it counts on the whole machine, for want of one for our control group."""
        return self.source.startswith("/proc")


def count_out_of_memory(root: Path = Path("/")) -> OutOfMemory | None:
    """Return the counter that is nearest to this process, or None where the system has none.

    Args:
        root: Where the system's own folders are.
    """
    for path in (*_of_control_group(root), root / "proc" / "vmstat"):
        kills = _read(path)
        if kills is not None:
            # A restarted container has a new group, perhaps of the same name: the inode tells.
            return OutOfMemory(f"/{path.relative_to(root)}#{os.stat(path).st_ino}", kills)
    return None


def _of_control_group(root: Path) -> list[Path]:
    """Return where the counter may be; inside a container the group's own path may not be seen."""
    found: list[Path] = []
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        own = path.strip().lstrip("/")
        if not controllers:
            base, name = root / "sys" / "fs" / "cgroup", "memory.events"
        elif "memory" in controllers.split(","):
            base, name = root / "sys" / "fs" / "cgroup" / "memory", "memory.oom_control"
        else:
            continue
        found += [base / own / name, base / name]
    return found


def _read(path: Path) -> int | None:
    for line in _text(path).splitlines():
        word, _, count = line.partition(" ")
        if word == _COUNTER and count.strip().isdecimal():
            return int(count)
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
