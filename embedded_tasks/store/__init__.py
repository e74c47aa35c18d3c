"""Where jobs are kept: one SQLite file, its statements, and the writer that groups commits.

Called by the actions and services; it knows nothing of tasks, processes or HTTP.
"""

from __future__ import annotations

from embedded_tasks.store.connection import has_wal_reset_bug
from embedded_tasks.store.filters import JobFilter
from embedded_tasks.store.looking import WaitingJob, look_at_waiting
from embedded_tasks.store.news import News, Place
from embedded_tasks.store.operations import Claim, ClaimResult, Recovery
from embedded_tasks.store.reader import COUNT_CAP, OwnedJob, ProcessRecord
from embedded_tasks.store.steering import Act, Notes
from embedded_tasks.store.store import Store, StoreSettings
from embedded_tasks.store.views import Views

__all__ = [
    "COUNT_CAP",
    "Act",
    "Claim",
    "ClaimResult",
    "JobFilter",
    "News",
    "Notes",
    "OwnedJob",
    "Place",
    "ProcessRecord",
    "Recovery",
    "Store",
    "StoreSettings",
    "Views",
    "WaitingJob",
    "has_wal_reset_bug",
    "look_at_waiting",
]
