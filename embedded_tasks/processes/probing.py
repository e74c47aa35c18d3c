"""Whether a process is dead, and what it had started.

What lives here: the non-blocking look at another process's lock. What does not: what happens to a
dead process's jobs. Called by recovery and health.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from types import TracebackType

from embedded_tasks.processes import posix
from embedded_tasks.processes.descriptors import Descriptor
from embedded_tasks.processes.layout import (
    fifo_path,
    is_process_id,
    list_leftovers,
    lock_path,
    trace_path,
)
from embedded_tasks.processes.records import Contents, Mark, decode_file

__all__ = ["Corpse", "Probe", "probe", "remove_leftovers"]

_MAX_BYTES = 64 * 1024 * 1024


class Corpse:
    """What a dead process left; while it is held, nobody else gets it.

    Attributes:
        process_id: Its id.
        marks: The attempts that it had started.
        readable: Whether `marks` is complete. If not, anything of it may have started.
        same_boot: Whether the machine has not been restarted since. If it has, marks may be
            missing, and its death was not a crash.
        gone: Whether there was no file. Then no lock excludes a second finder.
        pid: Its process id in the system, for logs only.
    """

    def __init__(
        self,
        folder: Path,
        process_id: str,
        contents: Contents,
        *,
        boot_id: str = "",
        descriptor: Descriptor | None = None,
    ) -> None:
        self._folder = folder
        self._descriptor = descriptor
        self.process_id = process_id
        self.marks: tuple[Mark, ...] = contents.marks
        self.readable: bool = contents.readable
        self.same_boot: bool = contents.boot_id == boot_id
        self.gone: bool = descriptor is None
        self.pid: int | None = contents.pid

    def remove(self) -> None:
        """Remove its files; call it when its jobs have been recovered."""
        if not is_process_id(self.process_id):
            return
        # The pipe first: without a lock file, a pipe that is read counts as a living process.
        for named in (fifo_path, trace_path):
            with contextlib.suppress(OSError):
                named(self._folder, self.process_id).unlink()
        path = lock_path(self._folder, self.process_id)
        if self._descriptor is not None and _same_file(path, self._descriptor.number):
            with contextlib.suppress(OSError):
                path.unlink()


class Probe:
    """The answer of `probe`; as a context manager it gives the corpse, or None, and holds it.

    Attributes:
        alive: Whether the process lives, or must be taken to live.
        undecided: Why it could not be known, in words for health; None where it is known.
    """

    def __init__(
        self,
        corpse: Corpse | None = None,
        *,
        undecided: str | None = None,
        descriptor: Descriptor | None = None,
    ) -> None:
        self._corpse = corpse
        self._descriptor = descriptor
        self.alive: bool = corpse is None
        self.undecided: str | None = undecided

    def __enter__(self) -> Corpse | None:
        return self._corpse

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let the corpse go; if it was not removed, the next probe finds it again."""
        if self._descriptor is not None and self._descriptor.is_open():
            posix.unlock(self._descriptor.number)
            self._descriptor.close()


def probe(folder: Path, process_id: str, *, boot_id: str | None = None) -> Probe:
    """Find out whether a process is dead, without waiting; if it is, hold what it left.

    Args:
        folder: The folder of the processes.
        process_id: Whose file to look at; a text that cannot be an id belongs to nobody.
        boot_id: The machine's boot id; by default it is asked for.

    Example:
        with probe(folder, process_id) as corpse:
            if corpse is not None:
                ...  # put back its jobs
                corpse.remove()
    """
    if not is_process_id(process_id):
        return _gone(folder, process_id)
    path = lock_path(folder, process_id)
    try:
        descriptor = Descriptor.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except FileNotFoundError:
        return _without_lock_file(folder, process_id)
    except OSError as error:
        return _undecided(path, error)
    try:
        if not posix.try_lock(descriptor.number):
            descriptor.close()
            return Probe()
        if not _same_file(path, descriptor.number):  # recovered and removed a moment ago
            posix.unlock(descriptor.number)
            descriptor.close()
            return _without_lock_file(folder, process_id)
    except OSError as error:
        descriptor.close()
        return _undecided(path, error)
    boot = posix.boot_id() if boot_id is None else boot_id
    contents = decode_file(_read(descriptor.number))
    corpse = Corpse(folder, process_id, contents, boot_id=boot, descriptor=descriptor)
    return Probe(corpse, descriptor=descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the files of processes that died before the files were ready."""
    for path in list_leftovers(folder):
        with contextlib.suppress(OSError):
            if path.suffix == ".fifo":
                if not _is_read(path):
                    path.unlink()
                continue
            descriptor = Descriptor.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
            try:
                if posix.try_lock(descriptor.number) and _same_file(path, descriptor.number):
                    path.unlink()
            finally:
                descriptor.close()


def _without_lock_file(folder: Path, process_id: str) -> Probe:
    """Decide without a lock: a pipe that somebody reads has a living owner."""
    fifo = fifo_path(folder, process_id)
    try:
        if _is_read(fifo):
            return Probe(undecided=f"{lock_path(folder, process_id)} was removed while in use")
    except FileNotFoundError:
        if not folder.is_dir():
            return Probe(undecided=f"the folder {folder} was removed while in use")
    except OSError as error:
        return _undecided(fifo, error)
    return _gone(folder, process_id)


def _gone(folder: Path, process_id: str) -> Probe:
    return Probe(Corpse(folder, process_id, Contents(readable=False)))


def _undecided(path: Path, error: OSError) -> Probe:
    return Probe(undecided=f"{path} cannot be examined: {error.strerror or error}")


def _is_read(fifo: Path) -> bool:
    try:
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return False
        raise
    return True


def _read(number: int) -> bytes:
    """Return the whole file, or nothing where it cannot be read."""
    parts: list[bytes] = []
    size = 0
    try:
        while size < _MAX_BYTES and (part := os.pread(number, 1024 * 1024, size)):
            parts.append(part)
            size += len(part)
    except OSError:
        return b""
    return b"".join(parts)


def _same_file(path: Path, number: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(number))
    except FileNotFoundError:
        return False
