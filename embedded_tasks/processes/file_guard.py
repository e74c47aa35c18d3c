"""A hold on the database's files that no other code in this process can drop by accident.

What lives here: shared locks on the bytes by which SQLite knows that a file is in use. What does
not: SQLite itself. Built by the session, used by the store.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from embedded_tasks.processes import posix
from embedded_tasks.processes.descriptors import Descriptor

__all__ = ["FileGuard"]

# Documented parts of SQLite's file format: what every connection locks, shared, while it is open.
_IN_USE: Final = (0x40000000 + 2, 510)
_SHM_IN_USE: Final = (128, 1)


class FileGuard:
    """Keeps siblings from taking a database for unused while this process has it open.

    SQLite's own locks belong to the process, and the system drops them when *any* descriptor of
    the file is closed in it: by `shutil.make_archive`, a backup, a virus scanner's hook. A sibling
    that closes would then delete the WAL, and one that opens would empty its index, under our
    hands. These locks belong to an open file of ours and stay (Linux; elsewhere there are none).

    Args:
        database: The database file.
    """

    def __init__(self, database: str | os.PathLike[str]) -> None:
        path = os.path.realpath(database)
        self._places = ((Path(path), _IN_USE), (Path(f"{path}-shm"), _SHM_IN_USE))
        self._held: list[tuple[Descriptor, tuple[int, int]]] = []

    def hold(self) -> bool:
        """Take the locks, while SQLite has the file open in WAL mode; return if that worked."""
        if not posix.HAS_FILE_LOCKS:
            return False
        locked = 0
        for path, place in self._places:
            with contextlib.suppress(OSError):
                descriptor = Descriptor.open(path, os.O_RDONLY | os.O_NOFOLLOW)
                self._held.append((descriptor, place))
                posix.hold_shared(descriptor.number, *place)
                locked += 1
        return locked == len(self._places)

    def release(self) -> None:
        """Give the locks back, so that the last connection can tidy up as it closes."""
        for descriptor, place in self._held:
            if descriptor.is_open():
                posix.let_go(descriptor.number, *place)

    def close(self) -> None:
        """Close the files; only when SQLite has closed them, for it drops SQLite's locks too."""
        for descriptor, _ in self._held:
            descriptor.close()
        self._held.clear()
