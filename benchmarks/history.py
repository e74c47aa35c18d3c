"""A file with a long history of every kind of job, for looking at.

What lives here: filling it by a few statements. What does not: what is measured of it (`admin.py`).
Called by the module that measures.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks.files import Place

__all__ = ["GROUP", "LIVE", "add_live", "history"]

LIVE: Final = "live"
"""The queue whose jobs are run; all others are paused."""
GROUP: Final = "benchmark-group-3"

_TASKS = """
    INSERT OR IGNORE INTO tasks (name)
    SELECT 'benchmarks.jobs:' || value FROM json_each(
        '["nothing", "counted_in_a_thread", "mark", "linger", "burn", "burn_in_a_thread"]'
    )
"""
_PAUSED = """
    INSERT INTO paused_queues (name, at, who)
    SELECT 'queue-' || value, :now, 'bench' FROM json_each('[0, 1, 2, 3, 4]')
"""
# Of a thousand: 680 succeeded, 100 failed, 40 in three other ends and held, 10 to be retried,
# 80 due and 90 scheduled. Mixed by a prime, so that neighbours are unlike.
_JOBS = """
    INSERT INTO jobs (
        id, task, state, queue, priority, due_at, created_at, attempt, failures, on_crash, tags,
        started_at, finished_at, reason, held_for, args
    )
    WITH RECURSIVE number (value) AS (
        SELECT 1 UNION ALL SELECT value + 1 FROM number WHERE value < :jobs
    ),
    mixed (value, kind, born) AS (
        SELECT value, value * 7919 % 104729 % 1000, :now - (:jobs - value) * 0.6 - 60 FROM number
    ),
    stated (value, kind, born, state) AS (
        SELECT value, kind, born, CASE
            WHEN kind < 680 THEN 'succeeded' WHEN kind < 780 THEN 'failed'
            WHEN kind < 790 THEN 'cancelled' WHEN kind < 800 THEN 'expired'
            WHEN kind < 820 THEN 'held' ELSE 'queued' END
        FROM mixed
    )
    SELECT
        printf('00000009-0000-7000-8000-%012x', value),
        1 + value * 31 % 6,
        state,
        'queue-' || (value * 17 % 5),
        0,
        CASE WHEN kind < 820 THEN born WHEN kind < 830 THEN :now + 3600 + value % 600
            WHEN kind < 910 THEN :now - 3600 + value % 3000
            ELSE :now + 7200 + value % 86400 END,
        born,
        iif(kind < 830, 1, 0),
        iif(state IN ('failed', 'held') OR kind BETWEEN 820 AND 829, 1, 0),
        'retry',
        iif(value % 10 = 0, json_array('tag-' || (value / 10 % 50)), NULL),
        iif(state IN ('succeeded', 'failed'), born + 1, NULL),
        iif(kind < 800, born + 5, NULL),
        iif(kind BETWEEN 680 AND 829, 'OSError: it went wrong at place ' || (value % 20), NULL),
        iif(state = 'held', 'crash', NULL),
        (SELECT args FROM jobs ORDER BY seq DESC LIMIT 1)
    FROM stated
"""
_BESIDE = (
    """
    INSERT INTO job_tags (tag, job)
    SELECT json_extract(tags, '$[0]'), seq FROM jobs WHERE tags IS NOT NULL
    """,
    """
    INSERT INTO error_groups (id, error_type, place, task, message, total, first_seen, last_seen,
        sample)
    SELECT 'benchmark-group-' || value, 'OSError', 'shop.mail:send', 1, 'it went wrong', 6000,
        :now - 86400, :now - value, (SELECT id FROM jobs WHERE state = 'failed' LIMIT 1)
    FROM (WITH RECURSIVE n (value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM n WHERE value < 19)
        SELECT value FROM n)
    """,
    """
    INSERT INTO job_failures (job, in_group)
    SELECT seq, 'benchmark-group-' || (seq % 20) FROM jobs WHERE failures = 1
    """,
    """
    INSERT INTO attempts (job, number, outcome, started_at, ended_at, error_type, error_message,
        traceback)
    SELECT seq, 1, iif(state = 'queued', 'retry', 'failed'), created_at + 1, created_at + 5,
        'OSError', 'it went wrong at place ' || (seq % 20), 'Traceback (most recent call last):'
    FROM jobs WHERE failures = 1
    """,
    # Six hours of minutes, thirty days of hours.
    """
    INSERT INTO metrics (span, kind, at, task, class, total)
    WITH RECURSIVE n (value) AS (SELECT 0 UNION ALL SELECT value + 1 FROM n WHERE value < 719)
    SELECT span.value, kind.value, CAST(:now AS INTEGER) / span.value * span.value
        - n.value * span.value, tasks.name, class.value, 100
    FROM n, json_each('[60, 3600]') AS span, json_each('[0, 1, 2]') AS kind, tasks,
        json_each('[0, 1, 2, 3, 4, 5, 6, 7]') AS class
    WHERE n.value < iif(span.value = 60, 360, 720)
    """,
)
_LIVE = """
    INSERT INTO jobs (id, task, state, queue, priority, due_at, created_at, attempt, on_crash, args)
    WITH RECURSIVE number (value) AS (
        SELECT 1 UNION ALL SELECT value + 1 FROM number WHERE value < :jobs
    )
    SELECT printf('%08x-0000-7000-8000-%012x', :salt, value), tasks.id, 'queued', 'live', 0, :now,
        :now, 0, 'retry', :args
    FROM number, tasks WHERE tasks.name = 'benchmarks.jobs:nothing'
"""


def history(place: Place, jobs: int) -> Path:
    """Return a file with so many jobs in all states, and with the figures of a month."""
    path = place.with_schema()
    now = time.time()
    with closing(sqlite3.connect(path)) as connection:
        # Only while it is filled: a test file needs no fsync.
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -200000")
        connection.execute(_TASKS)
        for statement in (_PAUSED, _JOBS, *_BESIDE):
            named = {"now": now, "jobs": jobs}
            connection.execute(statement, named)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def add_live(path: Path, jobs: int) -> None:
    """Add jobs that are due and are run."""
    with closing(sqlite3.connect(path)) as connection:
        salt = connection.execute("SELECT max(seq) FROM jobs").fetchone()[0]
        args = connection.execute("SELECT args FROM jobs LIMIT 1").fetchone()[0]
        values = {"jobs": jobs, "salt": salt, "now": time.time(), "args": args}
        connection.execute(_LIVE, values)
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
