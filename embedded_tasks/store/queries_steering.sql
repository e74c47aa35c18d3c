-- name: paused_queues
-- The queues whose jobs do not start.
SELECT name, at, who FROM paused_queues;

-- name: pause
-- Keep the jobs of a queue from starting.
INSERT OR IGNORE INTO paused_queues (name, at, who) VALUES (:queue, :now, :by) RETURNING name;

-- name: resume
-- Let the jobs of a queue start again.
DELETE FROM paused_queues WHERE name = :queue RETURNING name;

-- name: waiting_queues
-- The queues that have waiting jobs, found by skipping from one to the next.
WITH RECURSIVE queue (name) AS (
    SELECT min(queue) FROM jobs INDEXED BY jobs_in_line
    WHERE state = 'queued' AND owner IS NULL AND after IS NULL
    UNION ALL
    SELECT (
        SELECT min(queue) FROM jobs INDEXED BY jobs_in_line
        WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND queue > queue.name
    )
    FROM queue WHERE queue.name IS NOT NULL
)
SELECT name FROM queue WHERE name IS NOT NULL;

-- name: queues_of_jobs
-- The queues that stored jobs name, in whatever state, found by skipping from one to the next.
WITH RECURSIVE queue (name) AS (
    SELECT min(queue) FROM jobs INDEXED BY jobs_of_queue
    UNION ALL
    SELECT (SELECT min(queue) FROM jobs INDEXED BY jobs_of_queue WHERE queue > queue.name)
    FROM queue WHERE queue.name IS NOT NULL
    LIMIT :limit
)
SELECT name FROM queue WHERE name IS NOT NULL;

-- name: run_now
-- Make waiting jobs due now, reserved ones and those behind another one excepted.
UPDATE jobs SET due_at = :now
WHERE id = :id AND state = 'queued' AND owner IS NULL AND due_at > :now
RETURNING id;

-- name: delete_job
-- Remove a finished or held job with all that is known of it.
DELETE FROM jobs
WHERE id = :id AND state IN ('succeeded', 'failed', 'cancelled', 'expired', 'held')
RETURNING id, leads;

-- name: add_audit
-- Somebody did something.
INSERT INTO audit (at, who, action, target, details) VALUES (:now, :by, :action, :target, :details);

-- name: trim_audit
-- Keep the newest entries.
DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - :keep;

-- name: add_owners
-- Whom new jobs belong to.
INSERT INTO job_owners (job, name)
SELECT jobs.seq, row.value ->> 1 FROM json_each(:rows) AS row
JOIN jobs ON jobs.id = row.value ->> 0;

-- name: add_tags
-- The tags of new jobs; a row is (job, tag).
INSERT OR IGNORE INTO job_tags (tag, job)
SELECT row.value ->> 1, jobs.seq FROM json_each(:rows) AS row
JOIN jobs ON jobs.id = row.value ->> 0;

-- name: count_failures
-- Failed attempts by kind; a row is (job, group, class, place, message, when).
INSERT INTO error_groups (
    id, error_type, place, task, message, total, first_seen, last_seen, sample
)
SELECT row.value ->> 1, row.value ->> 2, row.value ->> 3, jobs.task, row.value ->> 4, 1,
    row.value ->> 5, row.value ->> 5, row.value ->> 0
FROM json_each(:rows) AS row JOIN jobs ON jobs.id = row.value ->> 0
WHERE true
ON CONFLICT (id) DO UPDATE SET
    total = total + 1, task = excluded.task, message = excluded.message,
    last_seen = max(last_seen, excluded.last_seen), sample = excluded.sample;

-- name: mark_failures
-- The kind of each job's latest failure.
INSERT INTO job_failures (job, in_group)
SELECT jobs.seq, row.value ->> 1 FROM json_each(:rows) AS row
JOIN jobs ON jobs.id = row.value ->> 0
WHERE true
ON CONFLICT (job) DO UPDATE SET in_group = excluded.in_group
WHERE in_group <> excluded.in_group;

-- name: forget_groups
-- Remove kinds of failures that were not seen for long and that no job is of any more.
DELETE FROM error_groups WHERE last_seen < :before
    AND NOT EXISTS (SELECT 1 FROM job_failures WHERE in_group = error_groups.id);

-- name: add_metrics
-- Add to what is counted; a row is (span, kind, at, task, class, how many).
INSERT INTO metrics (span, kind, at, task, class, total)
SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5
FROM json_each(:rows)
WHERE true
ON CONFLICT (span, kind, at, task, class) DO UPDATE SET total = total + excluded.total;

-- name: forget_metrics
-- Remove what is older than it is kept.
DELETE FROM metrics WHERE span = :span AND kind = :kind AND at < :before;

-- name: set_progress
-- How far jobs have come; a row is (job, attempt, done, total, message, when).
INSERT INTO job_progress (job, attempt, done, total, message, at)
SELECT jobs.seq, row.value ->> 1, row.value ->> 2, row.value ->> 3, row.value ->> 4,
    row.value ->> 5
FROM json_each(:rows) AS row JOIN jobs ON jobs.id = row.value ->> 0
WHERE true
ON CONFLICT (job) DO UPDATE SET
    attempt = excluded.attempt, done = excluded.done, total = excluded.total,
    message = excluded.message, at = excluded.at
WHERE excluded.attempt >= job_progress.attempt;

-- name: add_logs
-- Lines that jobs have logged; a row is (job, attempt, when, level, text, fields, size).
INSERT INTO job_logs (job, attempt, at, level, text, fields, size)
SELECT jobs.seq, row.value ->> 1, row.value ->> 2, row.value ->> 3, row.value ->> 4,
    row.value ->> 5, row.value ->> 6
FROM json_each(:rows) AS row JOIN jobs ON jobs.id = row.value ->> 0
ORDER BY row.key;

-- name: trim_logs
-- Drop the oldest lines of a job that has logged more than it may keep.
DELETE FROM job_logs
WHERE job = (SELECT seq FROM jobs WHERE id = :id) AND id <= (
    SELECT max(id) FROM (
        SELECT id, sum(size) OVER (ORDER BY id DESC) AS behind FROM job_logs
        WHERE job = (SELECT seq FROM jobs WHERE id = :id)
    ) WHERE behind > :keep
);
