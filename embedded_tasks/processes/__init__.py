"""Processes that share one database file: who lives, who had started what, and how to wake them.

What lives here: locks, process files, and the pipes between siblings. What does not: SQLite, jobs,
and any decision about them. Called by the runner and its services.
"""

from __future__ import annotations

from embedded_tasks.processes.deaths import Death, examine
from embedded_tasks.processes.file_guard import FileGuard
from embedded_tasks.processes.filesystem import FolderCheck, check_folder
from embedded_tasks.processes.holders import (
    lock_holders,
    named,
    readers,
    users,
    who_keeps_it,
    writers,
)
from embedded_tasks.processes.last_words import LastWords
from embedded_tasks.processes.layout import list_processes, processes_folder
from embedded_tasks.processes.mailbox import Mailbox
from embedded_tasks.processes.messages import NOBODY, Kind
from embedded_tasks.processes.peers import Peers
from embedded_tasks.processes.posix import require_posix
from embedded_tasks.processes.probing import Corpse, Probe, probe
from embedded_tasks.processes.process_file import ProcessFile
from embedded_tasks.processes.records import INTERRUPTED, TIMED_OUT, Mark
from embedded_tasks.processes.writers_lock import WritersLock

__all__ = [
    "INTERRUPTED",
    "NOBODY",
    "TIMED_OUT",
    "Corpse",
    "Death",
    "FileGuard",
    "FolderCheck",
    "Kind",
    "LastWords",
    "Mailbox",
    "Mark",
    "Peers",
    "Probe",
    "ProcessFile",
    "WritersLock",
    "check_folder",
    "examine",
    "list_processes",
    "lock_holders",
    "named",
    "probe",
    "processes_folder",
    "readers",
    "require_posix",
    "users",
    "who_keeps_it",
    "writers",
]
