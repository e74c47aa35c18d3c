-- What operators see and do. A release before this one goes on writing beside it: it knows nothing
-- of these tables, and of its jobs they tell less.

-- Queues whose jobs do not start.
CREATE TABLE paused_queues (
    name  TEXT PRIMARY KEY,
    at    REAL NOT NULL,
    who   TEXT
) STRICT, WITHOUT ROWID;

-- Who did what. The ids never go back, so that the feed can go on behind one.
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      REAL NOT NULL,
    who     TEXT,
    action  TEXT NOT NULL,
    target  TEXT NOT NULL,
    details TEXT NOT NULL
) STRICT;
CREATE INDEX audit_by_target ON audit (target);

-- Whom a job belongs to, for those that belong to somebody.
CREATE TABLE job_owners (
    job  INTEGER PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
    name TEXT NOT NULL
) STRICT;
CREATE INDEX job_owners_by_name ON job_owners (name, job);

-- The tags of jobs, to find jobs by. A release before this one does not write here, so that the
-- jobs which it stores are not found by their tags: a trigger would cost every job.
CREATE TABLE job_tags (
    tag TEXT NOT NULL,
    job INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    PRIMARY KEY (tag, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_tags_by_job ON job_tags (job);
INSERT OR IGNORE INTO job_tags (tag, job)
SELECT tag.value, jobs.seq FROM jobs JOIN json_each(jobs.tags) AS tag
WHERE jobs.tags IS NOT NULL AND json_valid(jobs.tags) AND tag.type = 'text';

-- Kinds of failures: an error's class and the innermost place in the user's code.
CREATE TABLE error_groups (
    id         TEXT PRIMARY KEY,
    error_type TEXT NOT NULL,
    place      TEXT NOT NULL,
    task       INTEGER NOT NULL REFERENCES tasks (id),
    message    TEXT NOT NULL,
    total      INTEGER NOT NULL,
    first_seen REAL NOT NULL,
    last_seen  REAL NOT NULL,
    sample     TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX error_groups_by_time ON error_groups (last_seen);
-- The kind of each job's latest failure.
CREATE TABLE job_failures (
    job      INTEGER PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
    in_group TEXT NOT NULL
) STRICT;
CREATE INDEX job_failures_by_group ON job_failures (in_group, job);

-- How far jobs have come, and what they have logged.
CREATE TABLE job_progress (
    job     INTEGER PRIMARY KEY REFERENCES jobs (seq) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    done    REAL NOT NULL,
    total   REAL,
    message TEXT,
    at      REAL NOT NULL
) STRICT;
CREATE TABLE job_logs (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    job     INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    attempt INTEGER NOT NULL,
    at      REAL NOT NULL,
    level   TEXT NOT NULL,
    text    TEXT NOT NULL,
    fields  TEXT,
    size    INTEGER NOT NULL
) STRICT;
CREATE INDEX job_logs_by_job ON job_logs (job, id, size);

-- What attempts came to and how long they took, by the minute (span 60) and by the hour (3600).
-- Kinds: 0 outcomes, 1 run time, 2 queue wait. The class is an outcome's or a length of time's.
CREATE TABLE metrics (
    span  INTEGER NOT NULL,
    kind  INTEGER NOT NULL,
    at    INTEGER NOT NULL,
    task  TEXT NOT NULL,
    class INTEGER NOT NULL,
    total INTEGER NOT NULL,
    PRIMARY KEY (span, kind, at, task, class)
) STRICT, WITHOUT ROWID;

-- How lists find their jobs.
CREATE INDEX jobs_of_task ON jobs (task);
CREATE INDEX jobs_of_queue ON jobs (queue);
CREATE INDEX jobs_ended ON jobs (state, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_retrying ON jobs (due_at) WHERE state = 'queued' AND attempt > 0;
-- What may be claimed of one queue and one task, in the order in which it is; also how long a queue
-- is.
CREATE INDEX jobs_in_line ON jobs (queue, task, priority, due_at)
    WHERE state = 'queued' AND owner IS NULL AND after IS NULL;
CREATE INDEX attempts_by_time ON attempts (ended_at);
