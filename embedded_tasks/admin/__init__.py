"""Status routes: see what the jobs do, retry them, cancel them.

What lives here: `router`, to be included in the app behind its own auth. What does not: anything
about jobs that the runner cannot tell. Included by users.

Example:
    ```python
    from embedded_tasks import admin

    router = admin.router(runner, dependencies=[Depends(require_admin)])
    app.include_router(router, prefix="/admin/tasks")
    ```
"""

from __future__ import annotations

from embedded_tasks.admin.routes import router

__all__ = ["router"]
