"""Routes for operators and for an app's own users: see what the jobs do, and steer them.

What lives here: `router` for operators, `status_router` and `accepted` for users' own endpoints.
What does not: anything about jobs that the runner cannot tell. Included by users.

Example:
    ```python
    from embedded_tasks import admin

    router = admin.router(runner, dependencies=[Depends(require_admin)])
    app.include_router(router, prefix="/admin/tasks")
    ```
"""

from __future__ import annotations

from embedded_tasks.admin.accepted import ACCEPTED, Accepted, AcceptedJob, accepted
from embedded_tasks.admin.feed import Pace
from embedded_tasks.admin.routes import router
from embedded_tasks.admin.status import status_router

__all__ = [
    "ACCEPTED",
    "Accepted",
    "AcceptedJob",
    "Pace",
    "accepted",
    "router",
    "status_router",
]
