"""The app of the crash tests, with responses that never end.

What lives here: an event stream, another endless response, and an endpoint for any task. What does
not: judging. Started by `test_deploys.py` as `uvicorn tests.crash.streaming_app:app`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import StreamingResponse

from tests.crash import tasks
from tests.crash.app import app, runner

__all__ = ["app"]


async def endless() -> AsyncIterator[bytes]:
    """Say one thing, and then nothing for ever."""
    yield b"data: 1\n\n"
    await asyncio.Event().wait()


@app.get("/events")
async def events() -> StreamingResponse:
    return StreamingResponse(endless(), media_type="text/event-stream")


@app.get("/rows")
async def rows() -> StreamingResponse:
    return StreamingResponse(endless(), media_type="text/plain")


@app.post("/run/{task}/{key}", status_code=202)
async def run(task: str, key: str, seconds: float) -> str:
    return (await runner.enqueue(getattr(tasks, task), key, seconds)).id
