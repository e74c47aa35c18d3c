"""Where the file and the process files are; in test mode, somewhere private.

What lives here: `Place`. What does not: opening anything. Used by the runner.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path

import structlog

from embedded_tasks.processes import check_folder
from embedded_tasks.settings import in_test_mode

__all__ = ["Place"]

_log = structlog.get_logger("embedded_tasks")


class Place:
    """The place of one runner.

    Args:
        path: The file that the app names, or ":memory:".
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._own: str | None = None

    def file(self) -> str | None:
        """Return the database file, or None where there is none outside of this process."""
        if self._path == ":memory:":
            return None
        if in_test_mode():
            return self._own and str(Path(self._own, "tasks.db"))
        return self._path

    def prepare(self) -> tuple[str, Path]:
        """Return the database file and the folder of the process files, checked and made.

        In test mode both are in a temporary folder that goes with this object, so that a test run
        never touches the jobs of an app.

        Raises:
            ConfigurationError: The place cannot work; says why.
        """
        if in_test_mode() or self._path == ":memory:":
            if self._own is None:
                self._own = tempfile.mkdtemp(prefix="embedded_tasks-")
                weakref.finalize(self, _remove, self._own, os.getpid())
            private = str(Path(self._own, "tasks.db"))
            folder = check_folder(private).folder
            return (self._path if self._path == ":memory:" else private), folder
        check = check_folder(self._path)
        if check.warning:
            _log.warning("store.place", file=self._path, warning=check.warning)
        return self._path, check.folder


def _remove(folder: str, pid: int) -> None:
    # A forked child that ends has a copy of the object, not of the folder.
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
