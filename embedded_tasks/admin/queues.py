"""The endpoints of queues and tasks.

What lives here: queues with pause and resume, and the tasks that were ever enqueued. What does
not: their jobs. Included by `routes`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Request
from fastapi.exceptions import HTTPException

from embedded_tasks.admin.access import Role
from embedded_tasks.admin.desk import Desk, Endpoint
from embedded_tasks.admin.fields import QueueName
from embedded_tasks.admin.figures import JobQueues, JobTasks, queue_of, task_of
from embedded_tasks.admin.models import JobQueueChange
from embedded_tasks.errors import ConfigurationError

__all__ = ["endpoints"]


def endpoints(desk: Desk) -> list[Endpoint]:
    """Return the routes."""
    each = _Endpoints(desk)

    def change(path: str, call: Callable[..., Any]) -> Endpoint:
        path = f"/queues/{{queue:path}}/{path}"
        return Endpoint("POST", path, call, JobQueueChange, role=Role.OPERATE, statuses=(404, 422))

    return [
        Endpoint("GET", "/queues", each.list_queues, JobQueues),
        change("pause", each.pause_queue),
        change("resume", each.resume_queue),
        Endpoint("GET", "/tasks", each.list_tasks, JobTasks),
    ]


class _Endpoints:
    """Their docstrings are what the OpenAPI document says."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def list_queues(self) -> JobQueues:
        """List the queues, those with nothing to do too, so that they can be paused beforehand."""
        queues = await self._desk.runner.reports.queues()
        return JobQueues(items=[queue_of(queue) for queue in queues])

    async def pause_queue(self, queue: QueueName, request: Request) -> JobQueueChange:
        """Keep the jobs of a queue from starting, in all processes, until it is resumed.

        Jobs that run go on; new ones are stored as always, and wait.
        """
        return await self._set(queue, request, paused=True)

    async def resume_queue(self, queue: QueueName, request: Request) -> JobQueueChange:
        """Let the jobs of a queue start again."""
        return await self._set(queue, request, paused=False)

    async def _set(self, queue: str, request: Request, *, paused: bool) -> JobQueueChange:
        control = self._desk.runner.control
        set_it = control.pause if paused else control.resume
        try:
            changed = await set_it(queue, by=self._desk.who(request))
        except ConfigurationError:
            raise HTTPException(404, "No queue can have this name.") from None
        return JobQueueChange(queue=queue, paused=paused, changed=changed)

    async def list_tasks(self) -> JobTasks:
        """List every task that was ever enqueued, with the figures of the last 24 hours."""
        tasks = await self._desk.runner.reports.tasks()
        return JobTasks(items=[task_of(task, self._desk.shown.masking) for task in tasks])
