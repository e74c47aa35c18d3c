"""What a process leaves for whoever finds it dead: who it was, and its stacks if it can write them.

What lives here: one small text file beside the process file, and faulthandler, which writes to it
as the process crashes. What does not: reading it (`deaths.py`). Called by the session.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import sys
import weakref
from pathlib import Path
from typing import Final

from embedded_tasks.processes.layout import trace_path
from embedded_tasks.processes.memory import count_out_of_memory
from embedded_tasks.processes.system_processes import started_ticks

__all__ = ["LastWords"]

_CLOSED: Final = -1


class _Target:
    """What faulthandler is given: it keeps this object for as long as it writes to it."""

    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        return self.number

    def flush(self) -> None:
        """Nothing waits: faulthandler writes to the descriptor itself."""


class LastWords:
    """The file, and faulthandler's use of it.

    An app's own use of faulthandler is never touched: where it is on, it stays as it is, and where
    the app turns it on later, ours is over. A crash is then told of where the app wants it.

    Args:
        folder: The folder of the processes.
        process_id: Whose words they are.
    """

    def __init__(self, folder: Path, process_id: str) -> None:
        self._path = trace_path(folder, process_id)
        self._number = _CLOSED
        self._target: weakref.ref[_Target] | None = None
        self._pid = os.getpid()

    def begin(self) -> None:
        """Write who this process is, and let faulthandler write here if nobody else uses it.

        Call it when the process file is there, without which this one is taken for a leftover. What
        cannot be written is not missed: it only explains.
        """
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            self._number = os.open(self._path, flags, 0o600)
            os.write(self._number, _facts())
            if not faulthandler.is_enabled():
                target = _Target(self._number)
                faulthandler.enable(target)
                self._target = weakref.ref(target)
                _open_ones.add(self)

    def close(self) -> None:
        """Stop, and remove the file: the process ends in good order."""
        if self._number == _CLOSED or os.getpid() != self._pid:
            return
        self.stop()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def stop(self) -> None:
        """Let faulthandler go, if it still writes here, and close; the file stays."""
        # It holds its target, so a target that is gone means that the app has taken over.
        if self._target is not None and self._target() is not None:
            faulthandler.disable()
        number, self._number = self._number, _CLOSED
        if number != _CLOSED:
            with contextlib.suppress(OSError):
                os.close(number)


def _facts() -> bytes:
    memory = count_out_of_memory()
    facts = {
        "pid": os.getpid(),
        "started": started_ticks(os.getpid()),
        "oom": None if memory is None else list(memory),
    }
    return json.dumps(facts).encode() + b"\n"


_open_ones: weakref.WeakSet[LastWords] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """A forked child is somebody else: its crash is not written to its parent's file."""
    for words in list(_open_ones):
        words.stop()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_leave_to_parent)
