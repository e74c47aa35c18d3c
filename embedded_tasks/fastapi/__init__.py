"""The FastAPI adapter: `install`, and nothing of it in the user's code.

What lives here: what users import. `installing.py` gets the runner into an app's lifespan, routes
and requests; `edge.py` is around each request, `batch.py` is the tasks of one. Called by apps.
"""

from __future__ import annotations

from embedded_tasks.fastapi.background import BackgroundTask
from embedded_tasks.fastapi.installing import DurableRoute, TaskRunner

__all__ = ["BackgroundTask", "DurableRoute", "TaskRunner"]
