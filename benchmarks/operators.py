"""The app whose dashboard is measured, in a process of its own.

What lives here: the app, and uvicorn around it. What does not: asking it (`admin.py`), and the app
that users ask (`server.py`). Started as `python -m benchmarks.operators`, with a database's path.
"""

from __future__ import annotations

import argparse
import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
import uvicorn
from fastapi import Depends, FastAPI

from embedded_tasks import TaskRunner, admin

__all__ = ["serve_dashboard"]

_ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def serve_dashboard(database: Path, *, pure: bool = False) -> Iterator[int]:
    """Yield the port of a server that has started; it is killed at the end.

    Args:
        database: The runner's file.
        pure: Without uvicorn's fast parts.
    """
    command = [sys.executable, "-m", "benchmarks.operators", str(database.resolve())]
    command += ["--pure"] if pure else []
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("the server did not start; what it wrote is above")
            yield int(line)
        finally:
            process.kill()


async def _anybody() -> None:
    """Let everybody in."""


def _make_app(database: str) -> FastAPI:
    app = FastAPI()
    runner = TaskRunner(database, modules=["benchmarks"])
    runner.install(app)
    app.include_router(admin.router(runner, dependencies=[Depends(_anybody)]), prefix="/admin")
    return app


def main() -> None:
    """Serve on a free port and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("--pure", action="store_true")
    options = parser.parse_args()
    # The port is all that is read of what this process prints.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    config = uvicorn.Config(
        _make_app(options.database),
        http="h11" if options.pure else "httptools",
        loop="asyncio" if options.pure else "uvloop",
        log_level="warning",
        access_log=False,
    )
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
