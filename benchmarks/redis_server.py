"""A Redis of the benchmark's own: on a free port, with its files in a folder of its own.

What lives here: starting it with the durability that is asked for. What does not: who uses it.
Called by `rivals.py`.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["redis_server", "redis_version"]

_PATIENCE = 10.0


def redis_version() -> str | None:
    """Return the version of the system's Redis, or None without one."""
    command = shutil.which("redis-server")
    if command is None:
        return None
    text = subprocess.run([command, "--version"], stdout=subprocess.PIPE, check=True, text=True)
    return text.stdout.split("v=")[1].split()[0]


@contextmanager
def redis_server(folder: Path, *, synced: bool) -> Iterator[str]:
    """Yield the URL of an empty server.

    Args:
        folder: Where its files are.
        synced: Sync every command to the disk before it is answered; else as Redis comes: a
            snapshot after a minute or more, nothing synced before.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    if synced:
        command += ["--appendonly", "yes", "--appendfsync", "always"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
