"""The copy of a file that is kept before its schema is changed.

What lives here: making it, whole or not at all. What does not: when, which is in `opening.py`.
Called in the connection's thread.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path

__all__ = ["copy_before", "make_copy", "remove_parts", "sync_file", "sync_folder"]


def copy_before(path: str, version: int) -> Path:
    """Return where the copy of a file with this schema is kept."""
    return Path(f"{path}.before-schema-{version + 1}")


def make_copy(connection: sqlite3.Connection, path: str, version: int) -> None:
    """Copy a file as the last commit has left it; others may write meanwhile."""
    copy = copy_before(path, version)
    # Under another name until it is whole: what has the name can be relied on.
    number, part = tempfile.mkstemp(prefix=f"{copy.name}.", dir=copy.parent)
    os.close(number)
    try:
        target = sqlite3.connect(part)
        try:
            # It is synced once, when it is whole.
            target.execute("PRAGMA synchronous=OFF")
            connection.backup(target)
        finally:
            target.close()
        sync_file(part)
        os.replace(part, copy)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    sync_folder(copy.absolute().parent)


def remove_parts(path: str, version: int) -> None:
    """Remove what processes that died while they copied have left."""
    copy = copy_before(path, version)
    for part in copy.parent.glob(f"{copy.name}.*"):
        part.unlink(missing_ok=True)


def sync_file(path: str) -> None:
    """Let what was written to a file survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Let names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
