"""Where the files of the processes are.

What lives here: names and paths inside `<database file>.processes/`. What does not: what is in the
files. Called by the other modules of `processes` and by the runner.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from embedded_tasks.errors import ConfigurationError, StoreUnavailableError

__all__ = [
    "database_of",
    "fifo_path",
    "is_process_id",
    "list_leftovers",
    "list_processes",
    "lock_path",
    "new_path",
    "processes_folder",
    "publish",
    "trace_path",
    "writers_lock_path",
]

_T = TypeVar("_T")
_ID = re.compile(r"[0-9a-f]{32}")
_NAME = re.compile(r"([0-9a-f]{32})\.(?:lock|fifo|trace)")
_LEFTOVER = re.compile(r"\.[0-9a-f]{32}\.(?:lock|fifo)")
_TRIES: Final = 5
_SUFFIX: Final = ".processes"


def processes_folder(database: str | os.PathLike[str]) -> Path:
    """Return the folder that belongs to a database file.

    Links are resolved, as SQLite does it: all ways to one file lead to one folder.
    """
    return Path(os.path.realpath(database) + _SUFFIX)


def database_of(folder: Path) -> str:
    """Return the path of the database file that such a folder belongs to."""
    return str(folder).removesuffix(_SUFFIX)


def is_process_id(text: str) -> bool:
    """Whether this can be the id of a process: 32 hexadecimal characters."""
    return _ID.fullmatch(text) is not None


def lock_path(folder: Path, process_id: str) -> Path:
    """Return the path of a process file."""
    return folder / f"{process_id}.lock"


def fifo_path(folder: Path, process_id: str) -> Path:
    """Return the path of the named pipe for messages to a process."""
    return folder / f"{process_id}.fifo"


def trace_path(folder: Path, process_id: str) -> Path:
    """Return the path of what a process says of itself, and of its crash."""
    return folder / f"{process_id}.trace"


def writers_lock_path(folder: Path) -> Path:
    """Return the path of the lock that writers take in turns."""
    return folder / "writers.lock"


def new_path(path: Path) -> Path:
    """Return the name that a file has before it is ready to be seen."""
    return path.with_name(f".{path.name}")


def list_processes(folder: Path) -> list[str]:
    """Return the ids of all processes, living or dead, that have a file here."""
    return sorted({match[1] for name in _names(folder) if (match := _NAME.fullmatch(name))})


def list_leftovers(folder: Path) -> list[Path]:
    """Return the files that were not ready when their process died, or are not ready yet."""
    return [folder / name for name in _names(folder) if _LEFTOVER.fullmatch(name)]


def publish(path: Path, make: Callable[[Path], _T | None]) -> _T:
    """Make a file under a temporary name and give it its name when it is ready.

    Args:
        path: The name that others look for.
        make: Makes the file at the temporary path; None if somebody took it for a leftover.

    Raises:
        ConfigurationError: A process with this id is there already.
    """
    temporary = new_path(path)
    for _ in range(_TRIES):
        if path.exists():
            raise ConfigurationError(f"{path} exists already: each process needs a fresh id.")
        temporary.unlink(missing_ok=True)
        made = make(temporary)
        if made is None:
            continue
        try:
            temporary.rename(path)
        except FileNotFoundError:  # somebody who tidied the folder took it for a leftover
            continue
        return made
    raise StoreUnavailableError(f"{path} could not be created: it was removed {_TRIES} times.")


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []
