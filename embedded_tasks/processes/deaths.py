"""What can be known of a death: by what signal, with which stack, perhaps for want of memory.

What lives here: reading what the dead process and the system left, and putting it into words. What
does not: what follows for its jobs. Called by recovery, which holds the corpse meanwhile.
"""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from embedded_tasks.processes.layout import trace_path
from embedded_tasks.processes.memory import OutOfMemory, count_out_of_memory
from embedded_tasks.processes.system_processes import read_stat

__all__ = ["Death", "examine"]

_MOST_READ: Final = 256 * 1024
_LONGEST_STACK: Final = 16_000
_FATAL: Final = "Fatal Python error: "
_CURRENT: Final = "Current thread"
_NOTHING: Final[dict[str, Any]] = {}


class Death(NamedTuple):
    """What is known of a death.

    Attributes:
        at: When, or when it was found, as words.
        end: By what, such as "killed by SIGKILL"; "" where nobody knows.
        memory: That memory may have run out; "" where nothing points to it.
        stack: What each thread was doing, the one that crashed first; None without faulthandler.
    """

    at: str = ""
    end: str = ""
    memory: str = ""
    stack: str | None = None

    def sentence(self, pid: int | None, others: int) -> str:
        """Return what is kept with each job that ran then.

        Args:
            pid: Of the dead process.
            others: How many other jobs ran there.
        """
        beside = f", with {others} other{'s' if others > 1 else ''}" if others else ""
        end = f": {self.end}" if self.end else ""
        died = f"Its process (pid {pid}) died while it ran{beside}{end}."
        return " ".join(part for part in (died, self.at, self.memory) if part)


def examine(
    folder: Path,
    process_id: str,
    now: float,
    *,
    memory: OutOfMemory | None = None,
    proc: Path = Path("/proc"),
) -> Death:
    """Find out what can be known of a death on this machine, since its last boot.

    Args:
        folder: The folder of the processes.
        process_id: The dead process.
        now: The wall clock.
        memory: The counter of kills; by default the system's own.
        proc: Where the system tells of processes.
    """
    path = trace_path(folder, process_id)
    first, _, rest = _read(path).partition("\n")
    facts = _facts(first)
    # The last one, for a process may live on after a signal that it handles itself.
    _, found, fatal = rest.rpartition(_FATAL)
    stack = _shortened(found + fatal) if found else None
    end = _by_system(facts, proc) or (fatal.partition("\n")[0] if found else "")
    counted = count_out_of_memory() if memory is None else memory
    return Death(_when(path, now, written=bool(found)), end, _memory(facts, counted), stack)


def _read(path: Path) -> str:
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            return os.read(number, _MOST_READ).decode("utf-8", "replace").replace("\0", "")
        finally:
            os.close(number)
    except OSError:
        return ""


def _facts(line: str) -> dict[str, Any]:
    try:
        facts = json.loads(line)
    except ValueError:
        return _NOTHING
    return facts if isinstance(facts, dict) else _NOTHING


def _by_system(facts: dict[str, Any], proc: Path) -> str:
    """Return how it ended, if its parent has not yet asked, after which nobody else can know."""
    pid, started = facts.get("pid"), facts.get("started")
    if not isinstance(pid, int) or started is None:
        return ""
    stat = read_stat(pid, proc)
    if stat is None or stat.started != started:  # gone, or another process with its number
        return ""
    if stat.state != "Z" and not stat.status:  # it is on its way out, and has not said how
        return ""
    code = os.waitstatus_to_exitcode(stat.status)
    return f"exit code {code}" if code >= 0 else f"killed by {_signal(-code)}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _when(path: Path, now: float, *, written: bool) -> str:
    if written:  # by faulthandler, in its last moment
        return f"It died at {_words(path.stat().st_mtime)}."
    return f"It was found dead at {_words(now)}."


def _words(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _memory(facts: dict[str, Any], now: OutOfMemory | None) -> str:
    try:
        before = OutOfMemory(str(facts["oom"][0]), int(facts["oom"][1]))
    except (KeyError, IndexError, TypeError, ValueError):
        return ""
    if now is None or now.source != before.source or now.kills <= before.kills:
        return ""
    count = now.kills - before.kills
    where = "on this machine" if now.of_machine else "in its control group (container or service)"
    return (
        f"Perhaps memory ran out: since it began, the kernel has killed {count} "
        f"process{'es' if count > 1 else ''} {where} for that."
    )


def _shortened(text: str) -> str:
    """Return faulthandler's text with the thread that crashed first, and no longer than is kept."""
    head, *threads = text.strip().split("\n\n")
    threads.sort(key=lambda thread: not thread.startswith(_CURRENT))
    whole = "\n\n".join((head, *threads))
    return whole if len(whole) <= _LONGEST_STACK else f"{whole[:_LONGEST_STACK]}\n... cut ..."
