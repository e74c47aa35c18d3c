"""What a real process did to its files, in order.

What lives here: compiling the library that writes it down, running a load under it, reading the
log. What does not: what the load does (`load.py`), and what follows (`disk.py`). Called by
test_power_loss.py.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ACKNOWLEDGEMENTS", "Entry", "Recording", "compile_shim", "record"]

ACKNOWLEDGEMENTS = "acknowledged"
"""The file, beside the database, to which the load writes what was acknowledged."""

_ROOT = Path(__file__).parents[3]
_RECORD = struct.Struct("=c3xIIIQQ")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that a process did.

    Args:
        kind: C(reated), W(ritten), T(runcated), U(nlinked), R(enamed), B(egin of a sync), S(ynced).
        path: Below the folder; "." is the folder itself.
        thread: Who did it.
        inode: To which file.
        offset: Where, or the new size.
        data: What was written.
    """

    kind: str
    path: str
    thread: int
    inode: int
    offset: int
    data: bytes

    def acknowledged(self) -> list[str]:
        """The lines that the load wrote, if this is such a write."""
        if self.kind != "W" or self.path != ACKNOWLEDGEMENTS:
            return []
        return self.data.decode().splitlines()


@dataclass(frozen=True, slots=True)
class Recording:
    """All that was done in a folder, and the folder as it was left."""

    folder: Path
    entries: list[Entry] = field(repr=False)


def compile_shim(target: Path) -> Path:
    source = Path(__file__).with_name("shim.c")
    """Compile the library into a folder; return its path."""
    library = target / "shim.so"
    command = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return library


def record(folder: Path, shim: Path, size: int, **options: object) -> Recording:
    """Run the load once, with these options of its runner, and return what it did.

    Args:
        folder: An empty folder.
        shim: The library that writes it down.
        size: How much is done.
    """
    data, log = folder / "data", folder / "log"
    data.mkdir(parents=True)
    environment = os.environ | {
        "LD_PRELOAD": str(shim),
        "POWER_LOG": str(log),
        "POWER_FOLDER": str(data),
        "POWER_SIZE": str(size),
        "POWER_OPTIONS": json.dumps(options),
        "EMBEDDED_TASKS_TESTING": "",
        "PYTHONPATH": str(_ROOT),
        "PYTHONWARNINGS": "error",
    }
    command = [sys.executable, "-c", "from tests.crash.power.load import main; main()"]
    done = subprocess.run(
        command,
        check=False,
        env=environment,
        cwd=_ROOT,
        timeout=200,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return Recording(data, list(_entries(log.read_bytes())))


def _entries(text: bytes) -> Iterator[Entry]:
    at = 0
    while at < len(text):
        kind, thread, path_size, data_size, inode, offset = _RECORD.unpack_from(text, at)
        at += _RECORD.size
        path = text[at : at + path_size].decode()
        at += path_size
        yield Entry(kind.decode(), path, thread, inode, offset, text[at : at + data_size])
        at += data_size
