"""Background work that a FastAPI app can trust, with nothing to run beside it."""

from __future__ import annotations

from embedded_tasks.config import Retention
from embedded_tasks.context import JobCancelled, JobContext
from embedded_tasks.deploy_check import check
from embedded_tasks.errors import (
    EmbeddedTasksError,
    JobEndedError,
    JobFailedError,
    NotDurableError,
    NotDurableWarning,
    NotStartedError,
    StoreUnavailableError,
)
from embedded_tasks.fastapi import TaskRunner
from embedded_tasks.fastapi.background import BackgroundTasks
from embedded_tasks.handle import CancelAnswer, Job
from embedded_tasks.retry import Backoff, Retry, Snooze
from embedded_tasks.store import JobFilter
from embedded_tasks.task import task

__all__ = [
    "BackgroundTasks",
    "Backoff",
    "CancelAnswer",
    "EmbeddedTasksError",
    "Job",
    "JobCancelled",
    "JobContext",
    "JobEndedError",
    "JobFailedError",
    "JobFilter",
    "NotDurableError",
    "NotDurableWarning",
    "NotStartedError",
    "Retention",
    "Retry",
    "Snooze",
    "StoreUnavailableError",
    "TaskRunner",
    "check",
    "task",
]
