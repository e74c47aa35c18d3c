"""The app that is measured, with and without a runner, in a process of its own.

What lives here: some endpoints and uvicorn around them. What does not: load. Started by
`serving.py` as `python -m benchmarks.server`, with the path of a database or with none.
"""

from __future__ import annotations

import argparse
import gc
import logging
import socket
from pathlib import Path

import structlog
import uvicorn
from fastapi import BackgroundTasks, Depends, FastAPI

from benchmarks.jobs import nothing
from benchmarks.least import add_least
from embedded_tasks import TaskRunner, admin
from embedded_tasks.job import JobState

__all__ = ["make_app"]


async def _anybody() -> None:
    """Let everybody in."""


def make_app(database: str | None, *, watched: bool = False) -> FastAPI:
    """Return the app; with a database, its background tasks are durable.

    Args:
        database: The runner's file, or None for no runner at all.
        watched: With the status routes and the dashboard.
    """
    app = FastAPI()
    runner = TaskRunner(database, modules=["benchmarks"]) if database else None
    if runner is not None:
        runner.install(app)
    if runner is not None and watched:
        routes = admin.router(runner, dependencies=[Depends(_anybody)])
        app.include_router(routes, prefix="/admin")

    @app.post("/task")
    async def task(background_tasks: BackgroundTasks) -> dict[str, bool]:
        background_tasks.add_task(nothing, 1)
        return {"ok": True}

    @app.post("/none")
    async def none() -> dict[str, bool]:
        return {"ok": True}

    @app.post("/ping")
    async def ping() -> dict[str, bool]:
        """Has nothing to do with jobs."""
        return {"ok": True}

    @app.get("/waiting")
    async def waiting() -> int:
        """How many jobs are still to be done."""
        if runner is None:
            return 0
        counts = await runner.counts()
        return counts[JobState.QUEUED] + counts[JobState.RUNNING]

    return app


def main() -> None:
    """Serve on a free port and print it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--database")
    parser.add_argument("--least")
    parser.add_argument("--pure", action="store_true")
    parser.add_argument("--watched", action="store_true")
    parser.add_argument("--frozen", action="store_true")
    options = parser.parse_args()
    # The port is all that is read of what this process prints.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    # With its protocol named, asyncio sets TCP_NODELAY on what is accepted, as on its own sockets.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    app = make_app(options.database, watched=options.watched)
    if options.least:
        add_least(app, Path(options.least))
    config = uvicorn.Config(
        app,
        http="h11" if options.pure else "httptools",
        loop="asyncio" if options.pure else "uvloop",
        log_level="warning",
        access_log=False,
    )
    config.load()
    if options.frozen:
        gc.collect()
        gc.freeze()
    # Who connects now is answered as soon as the app has started.
    listening.listen()
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()
