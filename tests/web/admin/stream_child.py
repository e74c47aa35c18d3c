"""A process of its own that serves the status routes, for tests that end it.

What lives here: the app and its server, which waits for open requests as long as it takes. What
does not: what is asked of it. Started by `test_streams.py`.
"""

from __future__ import annotations

import sys

import uvicorn
from fastapi import Depends, FastAPI

from embedded_tasks import TaskRunner, admin
from tests.web.admin.status_app import only_operators


async def wait() -> None: ...


def main() -> None:
    descriptor, path, slots = sys.argv[1:]
    runner = TaskRunner(path, concurrency=int(slots), modules=["tests"])
    app = FastAPI()
    runner.install(app, background_tasks=False)
    app.include_router(admin.router(runner, dependencies=[Depends(only_operators)]))

    @app.post("/enqueue")
    async def enqueue() -> str:
        return (await runner.options(delay=3600).enqueue(wait)).id

    uvicorn.run(app, fd=int(descriptor), log_level="warning")


if __name__ == "__main__":
    main()
