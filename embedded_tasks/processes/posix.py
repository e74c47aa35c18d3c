"""What only POSIX has: locks, and the id of the machine's present boot.

What lives here: the package's only import of fcntl. What does not: which file is locked, and what
a free lock means. Called by the other modules of `processes`; `require_posix` by the runner.
"""

from __future__ import annotations

import functools
import os
import struct
import sys
from pathlib import Path

from embedded_tasks.errors import ConfigurationError

if sys.platform != "win32":
    import fcntl

__all__ = [
    "HAS_FILE_LOCKS",
    "boot_id",
    "hold_shared",
    "let_go",
    "lock",
    "require_posix",
    "try_lock",
    "unlock",
]

HAS_FILE_LOCKS = sys.platform == "linux"
"""Whether there are locks on ranges of bytes that belong to an open file and not to a process."""

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


def hold_shared(descriptor: int, start: int, length: int) -> None:
    """Take a shared lock on some bytes; it belongs to the open file and conflicts as SQLite's do.

    Raises:
        OSError: Somebody has an exclusive one, or the file system has none.
    """
    if sys.platform == "linux":
        _lock_bytes(descriptor, fcntl.F_RDLCK, start, length)


def let_go(descriptor: int, start: int, length: int) -> None:
    """Release what `hold_shared` took."""
    if sys.platform == "linux":
        _lock_bytes(descriptor, fcntl.F_UNLCK, start, length)


def _lock_bytes(descriptor: int, kind: int, start: int, length: int) -> None:
    if sys.platform == "linux":
        # struct flock: type, whence, start, length, process id (which must be 0 here).
        request = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, request)


@functools.cache
def boot_id() -> str:
    """Return the id of the machine's present boot, or "" where the system does not tell it."""
    try:
        return _BOOT_ID.read_text("ascii").strip()
    except (OSError, UnicodeError):
        return ""
