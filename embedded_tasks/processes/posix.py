"""What only POSIX has: flock, and the id of the machine's present boot.

What lives here: the package's only import of fcntl. What does not: which file is locked, and what
a free lock means. Called by the other modules of `processes`; `require_posix` by the runner.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

from embedded_tasks.errors import ConfigurationError

if sys.platform != "win32":
    import fcntl

__all__ = ["boot_id", "lock", "require_posix", "try_lock", "unlock"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def require_posix() -> None:
    """Refuse a system without flock and named pipes.

    Raises:
        ConfigurationError: The system is Windows.
    """
    if sys.platform == "win32":
        raise ConfigurationError(
            "embedded_tasks: POSIX only for now. On Windows, run the app in WSL or in a container."
        )


def try_lock(descriptor: int) -> bool:
    """Take the lock of an open file if it is free; return whether it is ours now.

    Raises:
        OSError: It cannot be known, for example ENOLCK.
    """
    require_posix()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock(descriptor: int) -> None:
    """Take the lock of an open file; wait in this thread, in the kernel's queue."""
    require_posix()
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def unlock(descriptor: int) -> None:
    """Release the lock of an open file.

    To close is not enough: a child between fork and exec holds the same lock a moment longer.
    """
    require_posix()
    fcntl.flock(descriptor, fcntl.LOCK_UN)


@functools.cache
def boot_id() -> str:
    """Return the id of the machine's present boot, or "" where the system does not tell it."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, UnicodeError):
        return ""
