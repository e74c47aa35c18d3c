"""The file of this process: its lock for life, and the attempts that it has started.

What lives here: writing it. What does not: judging the files of others (`probing.py`) and what
follows from a mark (recovery). Called by the runner and the worker.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from embedded_tasks.errors import StoreUnavailableError
from embedded_tasks.processes import posix
from embedded_tasks.processes.descriptors import Descriptor
from embedded_tasks.processes.layout import lock_path, publish
from embedded_tasks.processes.records import (
    EMPTY_RECORD,
    FIRST_SLOTS,
    HEADER_SIZE,
    RECORD_SIZE,
    Mark,
    decode_mark,
    encode_header,
    encode_mark,
)

__all__ = ["ProcessFile"]


class ProcessFile:
    """The file that says which attempts this process has started, locked while the process lives.

    Marks are written with pwrite: they survive SIGKILL and are not fsynced, and a full disk or a
    file cut short is an exception. (A mapped file takes half the time, and there it is SIGBUS.)
    """

    def __init__(self, path: Path, descriptor: Descriptor) -> None:
        self._path = path
        self._descriptor = descriptor
        # The records as they are in the file.
        self._records = bytearray(EMPTY_RECORD * FIRST_SLOTS)
        self._free = list(range(FIRST_SLOTS - 1, -1, -1))
        self._slots = FIRST_SLOTS
        # Never waited for in a forked child, where it might stay locked: `require` comes first.
        self._lock = threading.Lock()

    @classmethod
    def create(cls, folder: Path, process_id: str, *, boot_id: str | None = None) -> ProcessFile:
        """Create and lock the file of this process; others see it only when it is locked.

        Make the mailbox first: an id that has a lock file can then be sent messages.

        Args:
            folder: The folder of the processes, from `check_folder`.
            process_id: A fresh id, 32 hexadecimal characters.
            boot_id: The machine's boot id; by default it is asked for.

        Raises:
            ConfigurationError: The id is in use.
            StoreUnavailableError: The file cannot be written, for example on a full disk.
        """
        path = lock_path(folder, process_id)
        header = encode_header(os.getpid(), posix.boot_id() if boot_id is None else boot_id)
        try:
            return cls(path, publish(path, lambda temporary: _make(temporary, header)))
        except OSError as error:
            raise _unavailable(path, error) from error

    def mark(self, job_id: bytes, attempt: int) -> int:
        """Write that an attempt starts now; return its slot, for `annotate` and `clear`.

        Args:
            job_id: The 16 bytes of the job's id.
            attempt: The attempt's number, from 1.

        Raises:
            StoreUnavailableError: It could not be written; do not start the attempt.
        """
        return self.mark_all([(job_id, attempt)])[0]

    def mark_all(self, starts: Sequence[tuple[bytes, int]]) -> list[int]:
        """Write that these attempts start now, all by one write; return their slots in order.

        Args:
            starts: Per attempt the 16 bytes of the job's id, and the attempt's number.

        Raises:
            StoreUnavailableError: It could not be written; start none of them.
        """
        self._descriptor.require()
        with self._lock:
            while len(self._free) < len(starts):
                self._grow()
            slots = self._free[len(self._free) - len(starts) :]
            new = [encode_mark(job_id, attempt) for job_id, attempt in starts]
            self._change(slots, new)
            del self._free[len(self._free) - len(starts) :]
        return slots

    def annotate(self, slot: int, flags: int) -> None:
        """Add flags (`INTERRUPTED`, `TIMED_OUT`) to a mark; a cleared slot is left alone."""
        self._descriptor.require()
        with self._lock:
            mark = self._mark_at(slot)
            if mark is not None:
                self._change([slot], [encode_mark(mark.job_id, mark.attempt, mark.flags | flags)])

    def clear(self, *slots: int) -> None:
        """Remove marks, when their attempts have been settled; a second time changes nothing.

        One write for all of them, from the first to the last.

        Raises:
            StoreUnavailableError: It could not be written; the marks stay, which does no harm
                once the attempts are settled.
        """
        self._descriptor.require()
        with self._lock:
            gone = [slot for slot in set(slots) if self._records[slot * RECORD_SIZE]]
            # The last ones are taken first: neighbours again, so that one write is a short one.
            gone.sort(reverse=True)
            self._change(gone, [EMPTY_RECORD] * len(gone))
            self._free.extend(gone)

    def marks(self) -> list[Mark]:
        """Return the attempts of this process that have started and are not cleared."""
        self._descriptor.require()
        with self._lock:
            return self._marks()

    def in_place(self) -> bool:
        """Whether the file is still at its path; if not, others take this process for gone."""
        return _same_file(self._path, self._descriptor.number)

    def keep_until_exit(self) -> None:
        """Hold the lock until the process ends, for threads that outlive the runner."""
        self._descriptor.keep_until_exit()

    def close(self, *, remove: bool = True) -> None:
        """Release the lock and remove the file.

        Args:
            remove: False leaves the file for whoever recovers what could not be settled or
                released. It also stays while marks are set.
        """
        if not self._descriptor.is_open():
            return
        with self._lock:
            if not self._descriptor.is_open():
                return
            number = self._descriptor.number
            if remove and not self._marks() and _same_file(self._path, number):
                with contextlib.suppress(OSError):
                    self._path.unlink()
            posix.unlock(number)
            self._descriptor.close()

    def _marks(self) -> list[Mark]:
        marks = map(self._mark_at, range(self._slots))
        return [mark for mark in marks if mark is not None]

    def _mark_at(self, slot: int) -> Mark | None:
        return decode_mark(self._records[slot * RECORD_SIZE : (slot + 1) * RECORD_SIZE])

    def _change(self, slots: Sequence[int], new: Sequence[bytes]) -> None:
        """Write slots anew, and what lies between them once more; all by one write, or nothing."""
        if not slots:
            return
        begin, end = min(slots) * RECORD_SIZE, (max(slots) + 1) * RECORD_SIZE
        before = self._records[begin:end]
        for slot, record in zip(slots, new, strict=True):
            self._records[slot * RECORD_SIZE : (slot + 1) * RECORD_SIZE] = record
        try:
            self._write(begin, self._records[begin:end])
        except StoreUnavailableError:
            self._records[begin:end] = before
            raise

    def _write(self, begin: int, data: bytes | bytearray) -> None:
        """Write from a place on; only under the lock, so that the number is still this file's."""
        number = self._descriptor.number
        try:
            _write_all(number, data, HEADER_SIZE + begin)
        except OSError as error:
            raise _unavailable(self._path, error) from error

    def _grow(self) -> None:
        """Double the slots."""
        more = EMPTY_RECORD * self._slots
        self._write(len(self._records), more)
        self._records += more
        self._free = [*range(self._slots * 2 - 1, self._slots - 1, -1), *self._free]
        self._slots *= 2


def _make(temporary: Path, header: bytes) -> Descriptor | None:
    descriptor = Descriptor.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    # Real zeros, not a hole: a later mark needs no space on the disk.
    _write_all(descriptor.number, header + EMPTY_RECORD * FIRST_SLOTS, 0)
    return descriptor if posix.try_lock(descriptor.number) else None


def _write_all(number: int, data: bytes | bytearray, offset: int) -> None:
    written = os.pwrite(number, data, offset)
    if written != len(data):  # the disk is full; a second try says so by its errno
        os.pwrite(number, data[written:], offset + written)


def _same_file(path: Path, number: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(number))
    except OSError:
        return False


def _unavailable(path: Path, error: OSError) -> StoreUnavailableError:
    return StoreUnavailableError(f"The process file {path} cannot be written: {error}.")
