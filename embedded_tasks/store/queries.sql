-- name: insert
-- none -> queued, none -> running: the jobs of a batch, in the order of `NewJob`.
INSERT INTO jobs (
    id, task, args, due_at, created_at, owner, attempt, queue, tags, priority, options, on_crash,
    start_by, finish_by, request_id, traceparent, after, leads, state, started_at, expires_at
)
WITH new (
    id, task, args, due_at, created_at, owner, attempt, queue, tags, priority, options, on_crash,
    start_by, finish_by, request_id, traceparent, after, leads, belongs_to
) AS (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))
SELECT
    id, (SELECT tasks.id FROM tasks WHERE tasks.name = new.task), args, due_at, created_at, owner,
    attempt, queue, tags, priority, options, on_crash, start_by, finish_by, request_id,
    traceparent, after, leads, iif(attempt = 0, 'queued', 'running'),
    iif(attempt = 0, NULL, created_at), coalesce(min(start_by, finish_by), start_by, finish_by)
FROM new;

-- name: withdraw
-- Take back jobs whose client was told that storing them took too long, unless they started: each
-- waits, is held for want of its code, or runs where it was reserved.
DELETE FROM jobs
WHERE id IN (SELECT value ->> 0 FROM json_each(:rows))
    AND ((state = 'queued' AND attempt = 0) OR (state = 'held' AND attempt = 0)
        OR (state = 'running' AND EXISTS (
            SELECT 1 FROM json_each(:rows) AS row
            WHERE row.value ->> 0 = jobs.id AND row.value ->> 1 = jobs.owner
        )));

-- name: begin
-- queued -> running: reserved jobs of this process whose turn has come. (By id: the plus keeps
-- SQLite from walking over all jobs of the process.)
UPDATE jobs
SET state = 'running', attempt = attempt + 1, after = NULL, started_at = :now
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'queued' AND +owner = :owner
RETURNING id;

-- name: release
-- running -> queued, queued -> queued: jobs of this process that never started go to everybody.
-- (By id, as above.)
UPDATE jobs
SET attempt = attempt - (state = 'running'),
    started_at = NULL, state = 'queued', owner = NULL
WHERE id IN (SELECT value FROM json_each(:ids)) AND +owner = :owner
RETURNING id, cancel_requested, reason;

-- name: record_attempt
-- Keep an attempt that did not succeed, while the job is still ours.
INSERT INTO attempts (
    job, number, outcome, started_at, ended_at, error_type, error_message, traceback
)
SELECT jobs.seq, jobs.attempt, row.value ->> 3, row.value ->> 4, row.value ->> 5,
    row.value ->> 6, row.value ->> 7, row.value ->> 8
FROM json_each(:rows) AS row
JOIN jobs ON jobs.id = row.value ->> 0
WHERE jobs.state = 'running' AND jobs.attempt = row.value ->> 1 AND jobs.owner = row.value ->> 2;

-- name: settle
-- running -> succeeded, failed, cancelled, expired, held, queued: the outcomes of a batch.
UPDATE jobs
SET state = done.state, owner = NULL, started_at = done.started_at,
    due_at = coalesce(done.due_at, jobs.due_at), result = done.result, reason = done.reason,
    held_for = done.held_for, failures = done.failures, crashes = done.crashes,
    snoozes = done.snoozes, finished_at = done.finished_at, prune_at = done.prune_at,
    expires_at = jobs.finish_by,
    cancel_requested = iif(done.state = 'queued', jobs.cancel_requested, 0)
FROM (
    WITH outcome (
        id, number, owner, state, started_at, due_at, result, reason, held_for, failures, crashes,
        snoozes, finished_at, prune_at
    ) AS (VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?))
    SELECT * FROM outcome
) AS done
WHERE jobs.id = done.id AND jobs.state = 'running'
    AND jobs.attempt = done.number AND jobs.owner = done.owner;

-- name: to_cancel
-- Those of these jobs that were queued again and that somebody wants to stop.
SELECT id FROM jobs
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 'queued' AND cancel_requested = 1;

-- name: recover
-- running -> queued, held, failed: a job of a dead process whose attempt had started.
UPDATE jobs
SET state = :state, owner = NULL, crashes = crashes + :crashed,
    failures = failures + :failed, reason = :reason,
    held_for = :held_for, finished_at = :finished_at, prune_at = :prune_at,
    expires_at = finish_by, cancel_requested = iif(:state = 'queued', cancel_requested, 0)
WHERE id = :id AND state = 'running' AND attempt = :attempt AND owner = :owner
RETURNING id, cancel_requested;

-- name: record_crash
-- Keep the attempt that ended with its process.
INSERT OR IGNORE INTO attempts (
    job, number, outcome, started_at, ended_at, error_type, error_message, traceback
)
SELECT seq, attempt, :outcome, started_at, :now, :error_type, :error_message, :traceback FROM jobs
WHERE id = :id AND state = 'running' AND attempt = :attempt AND owner = :owner;

-- name: unblock
-- The jobs behind these may start.
UPDATE jobs SET after = NULL WHERE after IN (SELECT value FROM json_each(:ids));

-- name: expire
-- queued -> expired: jobs whose time has passed, reserved ones excepted.
UPDATE jobs
SET state = 'expired', finished_at = :now, prune_at = :now + :keep,
    reason = iif(attempt = 0 AND start_by IS NOT NULL AND start_by <= :now,
        'It was not started within its time (start_within).',
        'It was not finished within its time (finish_within).')
WHERE state = 'queued' AND owner IS NULL AND expires_at <= :now
RETURNING id, leads;

-- name: cancel_waiting
-- queued -> cancelled, held -> cancelled: somebody cancelled a job that does not run.
UPDATE jobs
SET state = 'cancelled', owner = NULL, finished_at = :now, prune_at = :now + :keep,
    reason = :reason, held_for = NULL
WHERE id = :id AND state IN ('queued', 'held')
RETURNING id;

-- name: request_cancel
-- Ask the process that runs the job to stop it.
UPDATE jobs SET cancel_requested = 1, reason = :reason
WHERE id = :id AND state = 'running'
RETURNING owner;

-- name: cancel_requests
-- The jobs of this process that somebody wants to stop.
SELECT id, attempt, reason FROM jobs
WHERE owner = :owner AND state = 'running' AND cancel_requested = 1;

-- name: record_success
-- Keep the attempt that succeeded before its job is retried; until now the job's row told of it.
INSERT INTO attempts (job, number, outcome, started_at, ended_at)
SELECT seq, attempt, state, started_at, finished_at FROM jobs
WHERE id = :id AND state = 'succeeded';

-- name: retry
-- held -> queued, failed -> queued, cancelled -> queued, expired -> queued, succeeded -> queued:
-- a retry by hand resets the counters and the clocks and keeps the history.
UPDATE jobs
SET state = 'queued', due_at = :now, failures = 0, crashes = 0, snoozes = 0, reason = NULL,
    held_for = NULL, result = NULL, finished_at = NULL, prune_at = NULL, cancel_requested = 0,
    start_by = NULL, finish_by = NULL, expires_at = NULL, after = NULL
WHERE id = :id AND state IN ('held', 'failed', 'cancelled', 'expired', 'succeeded')
RETURNING id;

-- name: hold_unknown
-- queued -> held: jobs of a task that no living process knows.
UPDATE jobs
SET state = 'held', held_for = 'unknown_task',
    reason = (SELECT reason FROM tasks_without_code AS lost WHERE lost.task = jobs.task)
WHERE seq IN (
        SELECT seq FROM jobs INDEXED BY jobs_claimable
        WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND crashes < 2
        UNION ALL
        SELECT seq FROM jobs INDEXED BY jobs_suspected
        WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND crashes >= 2
        UNION ALL
        SELECT seq FROM jobs INDEXED BY jobs_following
        WHERE state = 'queued' AND owner IS NULL AND after IS NOT NULL
    )
    AND task IN (SELECT lost.task FROM tasks_without_code AS lost)
RETURNING id, leads;

-- name: hold_new
-- queued -> held: those of these jobs whose task no living process knows.
UPDATE jobs
SET state = 'held', held_for = 'unknown_task',
    reason = (SELECT reason FROM tasks_without_code AS lost WHERE lost.task = jobs.task)
WHERE id IN (SELECT value FROM json_each(:ids))
    AND state = 'queued' AND owner IS NULL AND task IN (SELECT lost.task FROM tasks_without_code AS lost)
RETURNING id, leads;

-- name: any_unknown
-- Is there a task that some process does not know?
SELECT 1 FROM unknown_tasks LIMIT 1;

-- name: unhold
-- held -> queued: this process has the code that the jobs waited for.
UPDATE jobs INDEXED BY jobs_notable SET state = 'queued', held_for = NULL, reason = NULL
WHERE state = 'held' AND state IN ('failed', 'cancelled', 'expired', 'held')
    AND held_for IN ('unknown_task', 'arguments')
    AND task IN (SELECT value FROM json_each(:tasks))
RETURNING id;

-- name: owned
-- The jobs of a process, for its recovery.
SELECT jobs.id, tasks.title, jobs.state, jobs.attempt, jobs.crashes, jobs.on_crash, jobs.leads
FROM jobs JOIN tasks ON tasks.id = jobs.task WHERE owner = :owner;

-- name: owners
-- Every process that is named in the file.
SELECT id FROM processes UNION SELECT DISTINCT owner FROM jobs WHERE owner IS NOT NULL;

-- name: add_process
-- A process says that it is there.
INSERT INTO processes (id, pid, started_at, runs_jobs) VALUES (:id, :pid, :now, :runs_jobs);

-- name: remove_process
-- A process has left or was recovered, and owns no job any more.
DELETE FROM processes WHERE id = :id AND NOT EXISTS (SELECT 1 FROM jobs WHERE owner = :id);

-- name: add_unknown
-- A process does not have the code of this task.
INSERT OR IGNORE INTO unknown_tasks (process, task) VALUES (:process, :task);

-- name: add_task
-- A task name is enqueued, perhaps for the first time.
INSERT OR IGNORE INTO tasks (name) VALUES (:name);

-- name: task_names
-- The task names that came after this number.
SELECT id, name FROM tasks WHERE id > :after;

-- name: prune
-- Remove finished jobs whose time of keeping is over.
DELETE FROM jobs WHERE seq IN (
    SELECT seq FROM jobs WHERE prune_at <= :now AND prune_at IS NOT NULL LIMIT :limit
);

-- name: next_prune
-- The time at which the next finished job is to be removed.
SELECT min(prune_at) FROM jobs WHERE prune_at IS NOT NULL;

-- name: get
-- One job.
SELECT jobs.*, tasks.title AS task_name, tasks.version AS task_version FROM jobs JOIN tasks ON tasks.id = jobs.task WHERE jobs.id = :id;

-- name: attempts
-- The attempts of one job that did not succeed.
SELECT number, outcome, started_at, ended_at, error_type, error_message, traceback FROM attempts
WHERE job = :seq ORDER BY number;

-- name: ended
-- Which of these jobs have ended, are held, or are not there.
SELECT value FROM json_each(:ids)
WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE id = value AND state IN ('queued', 'running'));

-- name: counts
-- How many jobs are in each state, counted up to a cap, by indexes alone.
SELECT 'succeeded', count(*) FROM (
    SELECT 1 FROM jobs INDEXED BY jobs_ended
    WHERE state = 'succeeded' AND finished_at IS NOT NULL LIMIT :cap
)
UNION ALL
SELECT 'failed', count(*) FROM (
    SELECT 1 FROM jobs INDEXED BY jobs_ended
    WHERE state = 'failed' AND finished_at IS NOT NULL LIMIT :cap
)
UNION ALL
SELECT 'cancelled', count(*) FROM (
    SELECT 1 FROM jobs INDEXED BY jobs_ended
    WHERE state = 'cancelled' AND finished_at IS NOT NULL LIMIT :cap
)
UNION ALL
SELECT 'expired', count(*) FROM (
    SELECT 1 FROM jobs INDEXED BY jobs_ended
    WHERE state = 'expired' AND finished_at IS NOT NULL LIMIT :cap
)
UNION ALL
SELECT 'held', count(*) FROM (
    SELECT 1 FROM jobs INDEXED BY jobs_notable
    WHERE state = 'held' AND state IN ('failed', 'cancelled', 'expired', 'held') LIMIT :cap
)
UNION ALL
SELECT 'running', count(*) FROM (
    SELECT 1 FROM jobs INDEXED BY jobs_owned WHERE owner IS NOT NULL AND state = 'running' LIMIT :cap
)
UNION ALL
SELECT 'queued', count(*) FROM (
    SELECT 1 FROM jobs INDEXED BY jobs_claimable
    WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND crashes < 2
    UNION ALL
    SELECT 1 FROM jobs INDEXED BY jobs_suspected
    WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND crashes >= 2
    UNION ALL
    SELECT 1 FROM jobs INDEXED BY jobs_owned WHERE state = 'queued' AND owner IS NOT NULL
    UNION ALL
    SELECT 1 FROM jobs INDEXED BY jobs_following
    WHERE state = 'queued' AND owner IS NULL AND after IS NOT NULL
    LIMIT :cap
);

-- name: overdue
-- Of the jobs that were due before a time and are not of these tasks, the one that has waited for
-- longest; looked for by the index, among the first of each priority.
SELECT jobs.id, tasks.name, jobs.queue, jobs.due_at FROM jobs JOIN tasks ON tasks.id = jobs.task
WHERE jobs.seq IN (
    SELECT (
        SELECT first.seq FROM (
            SELECT due.seq, due.task FROM jobs AS due INDEXED BY jobs_claimable
            WHERE due.state = 'queued' AND due.owner IS NULL AND due.after IS NULL
                AND due.crashes < 2
                AND due.priority = levels.priority AND due.due_at <= :before
            ORDER BY due.due_at LIMIT 1000
        ) AS first
        WHERE first.task NOT IN (SELECT value FROM json_each(:others)) LIMIT 1
    )
    FROM levels
)
ORDER BY jobs.due_at LIMIT 1;

-- name: waiting
-- How many jobs wait, counted by indexes up to a cap.
SELECT count(*) FROM (
    SELECT 1 FROM jobs INDEXED BY jobs_claimable
    WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND crashes < 2
    UNION ALL
    SELECT 1 FROM jobs INDEXED BY jobs_suspected
    WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND crashes >= 2
    UNION ALL
    SELECT 1 FROM jobs INDEXED BY jobs_owned WHERE state = 'queued' AND owner IS NOT NULL
    UNION ALL
    SELECT 1 FROM jobs INDEXED BY jobs_following
    WHERE state = 'queued' AND owner IS NULL AND after IS NOT NULL
    LIMIT :cap
);

-- name: waiting_in
-- How many jobs wait in one queue, up to a cap; by the index below, where there is one.
SELECT count(*) FROM (
    SELECT 1 FROM jobs WHERE state = 'queued' AND queue = :queue LIMIT :cap
);

-- name: index_waiting
-- What limits of single queues are counted by. It costs each job that waits a little, so it is made
-- only where such limits are set.
CREATE INDEX IF NOT EXISTS jobs_waiting ON jobs (queue) WHERE state = 'queued';

-- name: processes
-- The processes that opened the file.
SELECT id, pid, started_at, runs_jobs FROM processes ORDER BY started_at;

-- name: ping
-- Is the file readable?
SELECT count(*) FROM meta;

-- name: fact
-- What the file says of itself.
SELECT value FROM meta WHERE key = :key;

-- name: add_fact
-- Say something of the file that was not said yet.
INSERT OR IGNORE INTO meta (key, value) VALUES (:key, :value);

-- name: set_fact
-- Say something of the file, anew.
INSERT INTO meta (key, value) VALUES (:key, :value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: oldest_reader
-- The oldest release, by its schema number, that may open this file.
SELECT value FROM meta WHERE key = 'oldest_reader';
