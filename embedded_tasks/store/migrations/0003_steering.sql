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

-- The priorities at which jobs may be claimed, from the highest down. Skips from one to the next, so
-- that jobs due in future are never walked over.
CREATE VIEW levels AS
WITH RECURSIVE level (priority) AS (
    SELECT max(priority) FROM jobs INDEXED BY jobs_claimable
    WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND crashes < 2
    UNION ALL
    SELECT (
        SELECT max(lower.priority) FROM jobs AS lower INDEXED BY jobs_claimable
        WHERE lower.state = 'queued' AND lower.owner IS NULL AND lower.after IS NULL
            AND lower.crashes < 2 AND lower.priority < level.priority
    )
    FROM level WHERE level.priority IS NOT NULL
)
SELECT priority FROM level WHERE priority IS NOT NULL;

-- The lines in which jobs wait: what waits in one queue, of one task, with one priority. Each is told
-- by its first job, found by skipping, so that what waits behind it is never walked over. (Compared
-- as a whole, of a line all jobs would be.)
CREATE VIEW lines AS
WITH RECURSIVE line (seq) AS (
    SELECT (
        SELECT seq FROM jobs INDEXED BY jobs_in_line
        WHERE state = 'queued' AND owner IS NULL AND after IS NULL
        ORDER BY queue, task, priority LIMIT 1
    )
    UNION ALL
    SELECT coalesce(
        (
            SELECT next.seq FROM jobs AS next INDEXED BY jobs_in_line
            WHERE next.state = 'queued' AND next.owner IS NULL AND next.after IS NULL
                AND next.queue = last.queue AND next.task = last.task
                AND next.priority > last.priority
            ORDER BY next.priority LIMIT 1
        ),
        (
            SELECT next.seq FROM jobs AS next INDEXED BY jobs_in_line
            WHERE next.state = 'queued' AND next.owner IS NULL AND next.after IS NULL
                AND next.queue = last.queue AND next.task > last.task
            ORDER BY next.task, next.priority LIMIT 1
        ),
        (
            SELECT next.seq FROM jobs AS next INDEXED BY jobs_in_line
            WHERE next.state = 'queued' AND next.owner IS NULL AND next.after IS NULL
                AND next.queue > last.queue
            ORDER BY next.queue, next.task, next.priority LIMIT 1
        )
    )
    FROM line JOIN jobs AS last ON last.seq = line.seq
)
SELECT first.queue, first.task, first.priority
FROM line CROSS JOIN jobs AS first ON first.seq = line.seq;

-- The tasks that no living process can run, and what is said of their jobs.
CREATE VIEW tasks_without_code AS
SELECT DISTINCT tasks.id AS task,
    iif(tasks.version = 1, 'No running process has a task of this name: ',
        'No running process can run version ' || tasks.version || ' of the task ')
        || tasks.title AS reason
FROM unknown_tasks AS unknown JOIN tasks ON tasks.id = unknown.task
WHERE NOT EXISTS (
    SELECT 1 FROM processes
    WHERE processes.runs_jobs = 1 AND NOT EXISTS (
        SELECT 1 FROM unknown_tasks AS also
        WHERE also.process = processes.id AND also.task = unknown.task
    )
);
