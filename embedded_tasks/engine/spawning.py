"""Starting a child process, killing it with all that it has started, and looking at it.

What lives here: `Spawned`, the operating system's side of a child. What does not: what is said to
it (`children.py`). Called by `children.py`, on the event loop's thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import weakref
from pathlib import Path

from embedded_tasks.errors import ConfigurationError

__all__ = ["Spawned"]

# The whole path is given: a child finds modules where its parent finds them.
_PROGRAM = (
    "import json, sys; connection, lifeline, sys.path[:] = json.loads(sys.argv.pop()); "
    "from embedded_tasks.engine.child import main; main(connection, lifeline)"
)
_PAGE = os.sysconf("SC_PAGE_SIZE") if sys.platform != "win32" else 4096
_HELD_BACK = (signal.SIGTERM, signal.SIGINT)
_NICER = 10


class Spawned:
    """A child process, leader of a process group of its own.

    Raises:
        OSError: The system gives no more processes.
        ConfigurationError: Python does not know its own program.
    """

    def __init__(self) -> None:
        if not sys.executable:
            raise ConfigurationError(
                'run_in="process": this Python does not know its own program (sys.executable).'
            )
        ours, theirs = socket.socketpair()
        self.connection: socket.socket = ours
        their_end, self._lifeline = os.pipe()
        # The child begins with these held back, and so does not die of them before it ignores them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        try:
            self._popen = _start(theirs.fileno(), their_end)
        except BaseException:
            self.connection.close()
            os.close(self._lifeline)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            theirs.close()
            os.close(their_end)
        self.connection.setblocking(False)
        self.pid: int = self._popen.pid
        _give_way(self.pid)
        self.death = _pidfd(self.pid)
        _living.add(self)

    def ended(self) -> bool:
        """Return whether it has ended; then nothing is left of it, and of what it started."""
        if self._popen.returncode is None:
            self._end_group_of_the_dead()
            self._popen.poll()
        return self._popen.returncode is not None

    def _end_group_of_the_dead(self) -> None:
        # Before it is reaped, as its number is its own until then.
        with contextlib.suppress(ChildProcessError, AttributeError):
            flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
            if os.waitid(os.P_PID, self.pid, flags) is not None:
                self.kill()

    def kill(self) -> None:
        """Kill it, with its process group; nothing happens if it has ended."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def how_it_ended(self) -> str:
        """Return its exit code or signal, in words."""
        code = self._popen.returncode
        if code is None or code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            hint = "; perhaps memory ran out" if -code == signal.SIGKILL else ""
            return f"{name}{hint}"
        return f"signal {-code}"

    def memory(self) -> int:
        """Return the bytes of memory that it uses now (resident), or 0 where nobody tells."""
        try:
            text = Path(f"/proc/{self.pid}/statm").read_text("ascii")
        except OSError:
            return 0
        return int(text.split()[1]) * _PAGE

    def close(self) -> None:
        """Close the line; for one that has ended, or is given up."""
        self.connection.close()
        for number in (self._lifeline, self.death):
            if number is not None:
                os.close(number)
        self._lifeline, self.death = -1, None
        _living.discard(self)
        if self._popen.returncode is None:
            # It cannot be killed (a device does not answer); its warning would help nobody.
            self._popen.returncode = -signal.SIGKILL

    def close_after_fork(self) -> None:
        """Close the copies of a forked process, which would keep the child alive."""
        for number in (self._lifeline, self.connection.detach(), self.death):
            if number is not None and number >= 0:
                with contextlib.suppress(OSError):
                    os.close(number)


def _start(connection: int, lifeline: int) -> subprocess.Popen[bytes]:
    given = json.dumps([connection, lifeline, [entry or str(Path.cwd()) for entry in sys.path]])
    warnings = [f"-W{option}" for option in sys.warnoptions]
    optimize = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return subprocess.Popen(  # noqa: S603  # our own program
        [sys.executable, *optimize, *warnings, "-c", _PROGRAM, given],
        stdin=subprocess.DEVNULL,
        pass_fds=(connection, lifeline),
        # No session: Linux may share processors out among these, whatever their niceness.
        process_group=0,
    )


def _give_way(pid: int) -> None:
    """Requests come first: beside ten children of its own rank the app would get a tenth.

    From here, and not in the child: what it imports first takes longer than most of its jobs.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0) + _NICER)


def _pidfd(pid: int) -> int | None:
    """Return a descriptor that becomes readable at the end of the process, where there are such."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


_living: weakref.WeakSet[Spawned] = weakref.WeakSet()


def _close_inherited() -> None:
    for spawned in list(_living):
        spawned.close_after_fork()
    _living.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_close_inherited)
