"""The bytes of a process file.

What lives here: header and marks, encoded and decoded, each with a checksum. What does not: files
and locks. Called by `process_file.py`, which writes them, and `probing.py`, which reads them.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final, NamedTuple

__all__ = [
    "EMPTY_RECORD",
    "FIRST_SLOTS",
    "HEADER_SIZE",
    "INTERRUPTED",
    "RECORD_SIZE",
    "TIMED_OUT",
    "Contents",
    "Mark",
    "decode_file",
    "decode_mark",
    "encode_header",
    "encode_mark",
]

INTERRUPTED: Final = 1
"""Flag: the attempt was interrupted by a shutdown, before its process ended."""
TIMED_OUT: Final = 2
"""Flag: the attempt was given up after its timeout, and its thread still ran."""

HEADER_SIZE: Final = 128
RECORD_SIZE: Final = 32
FIRST_SLOTS: Final = (4096 - HEADER_SIZE) // RECORD_SIZE  # one page of the file system
EMPTY_RECORD: Final = bytes(RECORD_SIZE)

_MAGIC: Final = b"ETPROC\r\n"
_VERSION: Final = 1
_USED: Final = 1
_HEADER = struct.Struct("<8sIQ64s")  # magic, version, pid, boot id; then zeros and the checksum
_RECORD = struct.Struct("<BBHI16sI")  # used, flags, zero, attempt, job id, zero; then the checksum
_SUM = struct.Struct("<I")
_HEADER_BODY: Final = HEADER_SIZE - _SUM.size
_RECORD_BODY: Final = RECORD_SIZE - _SUM.size


class Mark(NamedTuple):
    """An attempt that has started: the 16 bytes of its job's id, its number, and flags."""

    job_id: bytes
    attempt: int
    flags: int = 0

    @property
    def interrupted(self) -> bool:
        """Whether a shutdown interrupted it before the process ended."""
        return bool(self.flags & INTERRUPTED)

    @property
    def timed_out(self) -> bool:
        """Whether its timeout had passed before the process ended."""
        return bool(self.flags & TIMED_OUT)


class Contents(NamedTuple):
    """What a process file says; if it is not `readable`, marks may be missing."""

    readable: bool
    marks: tuple[Mark, ...] = ()
    pid: int | None = None
    boot_id: str | None = None


def encode_header(pid: int, boot_id: str) -> bytes:
    """Return the first bytes of a process file."""
    body = _HEADER.pack(_MAGIC, _VERSION, pid, boot_id.encode()).ljust(_HEADER_BODY, b"\0")
    return body + _SUM.pack(zlib.crc32(body))


def encode_mark(job_id: bytes, attempt: int, flags: int = 0) -> bytes:
    """Return the record of a started attempt; see `Mark`."""
    body = _RECORD.pack(_USED, flags, 0, attempt, job_id, 0)
    return body + _SUM.pack(zlib.crc32(body))


def decode_file(data: bytes) -> Contents:
    """Read a whole process file; never raises.

    A record that is neither a mark nor free makes the file unreadable: an attempt may have
    started that is not among the marks. The marks that can be read are still there.
    """
    header = _decode_header(data)
    if header is None:
        return Contents(readable=False)
    pid, boot_id = header
    marks: list[Mark] = []
    readable = len(data) >= HEADER_SIZE + FIRST_SLOTS * RECORD_SIZE
    for start in range(HEADER_SIZE, len(data), RECORD_SIZE):
        record = data[start : start + RECORD_SIZE]
        if not any(record):
            continue
        mark = decode_mark(record)
        if mark is None:
            readable = False
        else:
            marks.append(mark)
    return Contents(readable, tuple(marks), pid, boot_id)


def _decode_header(data: bytes) -> tuple[int, str] | None:
    if not _checked(data[:HEADER_SIZE], HEADER_SIZE):
        return None
    magic, version, pid, boot = _HEADER.unpack_from(data)
    if magic != _MAGIC or version != _VERSION:
        return None
    return pid, boot.rstrip(b"\0").decode("utf-8", "replace")


def decode_mark(record: bytes | bytearray) -> Mark | None:
    """Return the mark of a record, or None where there is none."""
    if not _checked(record, RECORD_SIZE):
        return None
    used, flags, _, attempt, job_id, _ = _RECORD.unpack_from(record)
    return Mark(job_id, attempt, flags) if used == _USED else None


def _checked(data: bytes | bytearray, size: int) -> bool:
    if len(data) != size:
        return False
    (expected,) = _SUM.unpack_from(data, size - _SUM.size)
    return bool(zlib.crc32(data[: size - _SUM.size]) == expected)
