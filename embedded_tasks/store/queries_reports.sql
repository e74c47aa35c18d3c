-- name: keys_of_all
-- Jobs, newest first.
WITH found (key) AS MATERIALIZED (
    SELECT seq FROM jobs WHERE seq < :before ORDER BY seq DESC LIMIT :limit
)
SELECT json_group_array(key) FROM found;

-- name: keys_of_notable
-- Jobs of a state that people look for.
WITH found (key) AS MATERIALIZED (
    SELECT seq FROM jobs INDEXED BY jobs_notable
    WHERE state = :key AND state IN ('failed', 'cancelled', 'expired', 'held') AND seq < :before
    ORDER BY seq DESC LIMIT :limit
)
SELECT json_group_array(key) FROM found;

-- name: keys_of_task
-- Jobs of a task, by its number.
WITH found (key) AS MATERIALIZED (
    SELECT seq FROM jobs INDEXED BY jobs_of_task
    WHERE task = :key AND seq < :before ORDER BY seq DESC LIMIT :limit
)
SELECT json_group_array(key) FROM found;

-- name: keys_of_queue
-- Jobs of a queue.
WITH found (key) AS MATERIALIZED (
    SELECT seq FROM jobs INDEXED BY jobs_of_queue
    WHERE queue = :key AND seq < :before ORDER BY seq DESC LIMIT :limit
)
SELECT json_group_array(key) FROM found;

-- name: keys_of_tag
-- Jobs with a tag.
WITH found (key) AS MATERIALIZED (
    SELECT job FROM job_tags WHERE tag = :key AND job < :before ORDER BY job DESC LIMIT :limit
)
SELECT json_group_array(key) FROM found;

-- name: keys_of_owner
-- Jobs that belong to somebody.
WITH found (key) AS MATERIALIZED (
    SELECT job FROM job_owners INDEXED BY job_owners_by_name
    WHERE name = :key AND job < :before ORDER BY job DESC LIMIT :limit
)
SELECT json_group_array(key) FROM found;

-- name: keys_of_group
-- Jobs whose latest failure is of a kind.
WITH found (key) AS MATERIALIZED (
    SELECT job FROM job_failures INDEXED BY job_failures_by_group
    WHERE in_group = :key AND job < :before ORDER BY job DESC LIMIT :limit
)
SELECT json_group_array(key) FROM found;

-- name: some_running
-- All running jobs, up to a limit, in no order.
WITH found (key) AS MATERIALIZED (
    SELECT seq FROM jobs INDEXED BY jobs_owned
    WHERE owner IS NOT NULL AND state = 'running' LIMIT :limit
)
SELECT json_group_array(key) FROM found;

-- name: some_retrying
-- The jobs that are queued again, up to a limit, in no order.
WITH found (key) AS MATERIALIZED (
    SELECT seq FROM jobs INDEXED BY jobs_retrying
    WHERE state = 'queued' AND attempt > 0 LIMIT :limit
)
SELECT json_group_array(key) FROM found;

-- name: some_ended
-- The jobs of a finished state that ended in a time, up to a limit, in no order.
WITH found (key) AS MATERIALIZED (
    SELECT seq FROM jobs INDEXED BY jobs_ended
    WHERE state = :key AND finished_at IS NOT NULL
        AND finished_at >= :finished_after AND finished_at < :finished_before
    LIMIT :limit
)
SELECT json_group_array(key) FROM found;

-- name: some_waiting
-- The jobs that are queued and due, or not due yet (:later), up to a limit, in no order.
WITH found (key) AS MATERIALIZED (
    SELECT * FROM (
        SELECT due.seq FROM levels CROSS JOIN jobs AS due INDEXED BY jobs_claimable
        WHERE due.state = 'queued' AND due.owner IS NULL AND due.after IS NULL AND due.crashes < 2
            AND due.priority = levels.priority
            AND due.due_at > iif(:later, :now, -1e18) AND due.due_at <= iif(:later, 1e18, :now)
        UNION ALL
        SELECT seq FROM jobs INDEXED BY jobs_suspected
        WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND crashes >= 2
        UNION ALL
        SELECT seq FROM jobs INDEXED BY jobs_owned WHERE state = 'queued' AND owner IS NOT NULL
        UNION ALL
        SELECT seq FROM jobs INDEXED BY jobs_following
        WHERE state = 'queued' AND owner IS NULL AND after IS NOT NULL
    )
    LIMIT :limit
)
SELECT json_group_array(key) FROM found;

-- name: matching
-- Which of these jobs a filter means; a look at each row.
WITH found (key) AS MATERIALIZED (
    SELECT jobs.seq FROM json_each(:keys) AS given CROSS JOIN jobs ON jobs.seq = given.value
    WHERE (:states IS NULL OR CASE
                WHEN state <> 'queued' THEN state
                WHEN attempt > 0 THEN 'retrying'
                WHEN due_at > :now THEN 'scheduled'
                ELSE 'queued'
            END IN (SELECT value FROM json_each(:states)))
        AND (:tasks IS NULL OR task IN (SELECT value FROM json_each(:tasks)))
        AND (:queue IS NULL OR queue = :queue)
        AND (:created_after IS NULL OR created_at >= :created_after)
        AND (:created_before IS NULL OR created_at < :created_before)
        AND (:finished_after IS NULL OR finished_at >= :finished_after)
        AND (:finished_before IS NULL OR finished_at < :finished_before)
        AND (:tag IS NULL OR EXISTS (SELECT 1 FROM job_tags WHERE tag = :tag AND job = jobs.seq))
        AND (:belongs_to IS NULL OR EXISTS (
            SELECT 1 FROM job_owners WHERE job = jobs.seq AND name = :belongs_to
        ))
        AND (:group IS NULL OR EXISTS (
            SELECT 1 FROM job_failures WHERE job = jobs.seq AND in_group = :group
        ))
)
SELECT json_group_array(key) FROM found;

-- name: with_text
-- Which of these jobs have a text in their arguments, or in a reason or an error.
WITH found (key) AS MATERIALIZED (
    SELECT jobs.seq FROM json_each(:keys) AS given CROSS JOIN jobs ON jobs.seq = given.value
    WHERE (:in_arguments AND (
            instr(lower(args), :text) OR (:escaped <> :text AND instr(lower(args), :escaped))
        ))
        OR (:in_errors AND (instr(lower(reason), :text) OR EXISTS (
            SELECT 1 FROM attempts
            WHERE job = jobs.seq AND instr(lower(error_type || ': ' || error_message), :text)
        )))
)
SELECT json_group_array(key) FROM found;

-- name: lines
-- These jobs as a list shows them. Arguments and results are left out; they may be a megabyte each.
SELECT jobs.seq, jobs.id, jobs.state, jobs.queue, jobs.priority, jobs.due_at, jobs.created_at,
    jobs.owner, jobs.attempt, jobs.failures, jobs.crashes, jobs.snoozes, jobs.on_crash, jobs.tags,
    jobs.options, jobs.start_by, jobs.finish_by, jobs.request_id, jobs.traceparent,
    jobs.cancel_requested, jobs.started_at, jobs.finished_at, jobs.reason, jobs.held_for,
    tasks.title AS task_name, tasks.version AS task_version,
    iif(:with_args, jobs.args, NULL) AS args, NULL AS result
FROM json_each(:keys) AS given CROSS JOIN jobs ON jobs.seq = given.value
JOIN tasks ON tasks.id = jobs.task
ORDER BY jobs.seq DESC;

-- name: beside
-- What stands beside these jobs: whose they are, how far they have come, what kind of failure.
SELECT jobs.id, job_owners.name, job_failures.in_group, job_progress.done, job_progress.total,
    job_progress.message, job_progress.at, job_progress.attempt
FROM json_each(:ids) AS given CROSS JOIN jobs ON jobs.id = given.value
LEFT JOIN job_owners ON job_owners.job = jobs.seq
LEFT JOIN job_failures ON job_failures.job = jobs.seq
LEFT JOIN job_progress ON job_progress.job = jobs.seq;

-- name: first_from
-- The first job from a key on, and when it was created.
SELECT seq, created_at FROM jobs WHERE seq >= :seq ORDER BY seq LIMIT 1;

-- name: last_key
-- The key of the newest job.
SELECT max(seq) FROM jobs;

-- name: numbers_of_task
-- The numbers of a task's versions.
SELECT id FROM tasks WHERE title = :task;

-- name: task_titles
-- Every task name that was ever enqueued, without versions.
SELECT DISTINCT title FROM tasks ORDER BY title;

-- name: kinds_of_waiting
-- Waiting jobs, each up to a cap: those that wait for their time and those that do not; of the ones
-- that are queued again, the same two.
SELECT
    (SELECT count(*) FROM (
        SELECT 1 FROM levels CROSS JOIN jobs AS due INDEXED BY jobs_claimable
        WHERE due.state = 'queued' AND due.owner IS NULL AND due.after IS NULL AND due.crashes < 2
            AND due.priority = levels.priority
            AND due.due_at > iif(:later, :now, -1e18) AND due.due_at <= iif(:later, 1e18, :now)
        LIMIT :cap
    ))
    + (SELECT count(*) FROM (
        SELECT due_at FROM jobs INDEXED BY jobs_suspected
        WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND crashes >= 2
            AND (due_at > :now) = :later
        UNION ALL
        SELECT due_at FROM jobs INDEXED BY jobs_owned
        WHERE state = 'queued' AND owner IS NOT NULL AND (due_at > :now) = :later
        UNION ALL
        SELECT due_at FROM jobs INDEXED BY jobs_following
        WHERE state = 'queued' AND owner IS NULL AND after IS NOT NULL AND (due_at > :now) = :later
        LIMIT :cap
    )) AS waiting,
    (SELECT count(*) FROM (
        SELECT 1 FROM jobs INDEXED BY jobs_retrying
        WHERE state = 'queued' AND attempt > 0
            AND due_at > iif(:later, :now, -1e18) AND due_at <= iif(:later, 1e18, :now)
        LIMIT :cap
    )) AS again;

-- name: depth_of_queue
-- How many jobs of a queue are due, and how many are not due yet, each up to a cap.
WITH RECURSIVE line (seq) AS (
    SELECT (
        SELECT seq FROM jobs INDEXED BY jobs_in_line
        WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND queue = :queue
        ORDER BY task, priority LIMIT 1
    )
    UNION ALL
    SELECT coalesce(
        (
            SELECT next.seq FROM jobs AS next INDEXED BY jobs_in_line
            WHERE next.state = 'queued' AND next.owner IS NULL AND next.after IS NULL
                AND next.queue = :queue AND next.task = last.task
                AND next.priority > last.priority
            ORDER BY next.priority LIMIT 1
        ),
        (
            SELECT next.seq FROM jobs AS next INDEXED BY jobs_in_line
            WHERE next.state = 'queued' AND next.owner IS NULL AND next.after IS NULL
                AND next.queue = :queue AND next.task > last.task
            ORDER BY next.task, next.priority LIMIT 1
        )
    )
    FROM line JOIN jobs AS last ON last.seq = line.seq
)
SELECT
    (SELECT count(*) FROM (
        SELECT 1 FROM jobs INDEXED BY jobs_in_line
        WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND queue = :queue
        LIMIT :cap
    )) AS waiting,
    (SELECT count(*) FROM (
        SELECT 1
        FROM line CROSS JOIN jobs AS first ON first.seq = line.seq
        CROSS JOIN jobs AS due INDEXED BY jobs_in_line
        WHERE due.state = 'queued' AND due.owner IS NULL AND due.after IS NULL
            AND due.queue = :queue AND due.task = first.task AND due.priority = first.priority
            AND due.due_at <= :now
        LIMIT :cap
    )) AS due,
    (SELECT min((
        SELECT due.due_at FROM jobs AS due INDEXED BY jobs_in_line
        WHERE due.state = 'queued' AND due.owner IS NULL AND due.after IS NULL
            AND due.queue = :queue AND due.task = first.task AND due.priority = first.priority
        ORDER BY due.due_at LIMIT 1
    )) FROM line CROSS JOIN jobs AS first ON first.seq = line.seq) AS oldest;

-- name: running_by_queue
-- How many jobs run, by queue.
SELECT queue, count(*) FROM jobs INDEXED BY jobs_owned
WHERE owner IS NOT NULL AND state = 'running' GROUP BY queue;

-- name: running_by_process
-- How many jobs run, by process.
SELECT owner, count(*) FROM jobs INDEXED BY jobs_owned
WHERE owner IS NOT NULL AND state = 'running' GROUP BY owner;

-- name: groups
-- The kinds of failures, the one seen last first.
SELECT error_groups.id, error_type, place, tasks.title AS task_name, message, total, first_seen,
    last_seen, sample
FROM error_groups JOIN tasks ON tasks.id = error_groups.task
WHERE :task IS NULL OR tasks.title = :task
ORDER BY last_seen DESC LIMIT :limit;

-- name: failed_of_group
-- How many jobs are failed or held with a kind of failure, among so many at most.
SELECT count(*), coalesce(sum(state = 'failed' OR state = 'held'), 0) FROM (
    SELECT jobs.state FROM job_failures INDEXED BY job_failures_by_group
    JOIN jobs ON jobs.seq = job_failures.job
    WHERE in_group = :group ORDER BY job DESC LIMIT :cap
);

-- name: series
-- What was counted of one kind, by time and class.
SELECT at / :bucket * :bucket AS start, class, sum(total) FROM metrics
WHERE span = :span AND kind = :kind AND at >= :since AND (:task IS NULL OR task = :task)
GROUP BY start, class;

-- name: figures
-- What was counted of one kind, by task and class.
SELECT task, class, sum(total) FROM metrics
WHERE span = 3600 AND kind = :kind AND at >= :since GROUP BY task, class;

-- name: logs
-- The lines of a job from one on, oldest first.
SELECT id, at, attempt, level, text, fields FROM job_logs INDEXED BY job_logs_by_job
WHERE job = (SELECT seq FROM jobs WHERE jobs.id = :id) AND id > :after ORDER BY id LIMIT :limit;

-- name: size_of_logs
-- How much a job has logged, of what is kept.
SELECT coalesce(sum(size), 0) FROM job_logs INDEXED BY job_logs_by_job
WHERE job = (SELECT seq FROM jobs WHERE jobs.id = :id);

-- name: audit
-- What was done, newest first.
SELECT id, at, who, action, target, details FROM audit
WHERE id < :before ORDER BY id DESC LIMIT :limit;

-- name: audit_of
-- What was done to one job or queue, oldest first.
SELECT id, at, who, action, target, details FROM audit INDEXED BY audit_by_target
WHERE target = :target ORDER BY id LIMIT 200;

-- What the feed reads comes as one JSON text: stepping through rows, Python would take and give back
-- its lock for each, beside an event loop that wants it too.

-- name: news_enqueued
-- Jobs that came after a key.
SELECT json_group_array(json_array(seq, id, title, queue, state, attempt, due_at, at, NULL, reason))
FROM (
    SELECT jobs.seq, jobs.id, tasks.title, jobs.queue, jobs.state, jobs.attempt, jobs.due_at,
        jobs.created_at AS at, jobs.reason
    FROM jobs JOIN tasks ON tasks.id = jobs.task
    WHERE jobs.seq > :seq ORDER BY jobs.seq LIMIT :limit
);

-- name: news_finished_keys
-- Which jobs finished from a time on, and when.
SELECT group_concat(seq || ':' || finished_at) FROM (
    SELECT seq, finished_at FROM jobs INDEXED BY jobs_ended
    WHERE state = :state AND finished_at IS NOT NULL AND finished_at >= :since LIMIT :limit
);

-- name: news_finished
-- These jobs, as they finished.
SELECT json_group_array(
    json_array(seq, id, title, queue, state, attempt, due_at, at, state, reason)
) FROM (
    SELECT jobs.seq, jobs.id, tasks.title, jobs.queue, jobs.state, jobs.attempt, jobs.due_at,
        jobs.finished_at AS at, jobs.reason
    FROM json_each(:keys) AS wanted CROSS JOIN jobs ON jobs.seq = wanted.value
    JOIN tasks ON tasks.id = jobs.task WHERE jobs.finished_at IS NOT NULL
);

-- name: news_attempt_keys
-- Which attempts ended from a time on and did not finish their job, and when.
SELECT group_concat(job || '/' || number || ':' || ended_at) FROM (
    SELECT job, number, ended_at FROM attempts INDEXED BY attempts_by_time
    WHERE ended_at >= :since
        AND outcome NOT IN ('failed', 'cancelled', 'expired', 'succeeded') LIMIT :limit
);

-- name: news_attempts
-- These attempts, as they ended.
SELECT json_group_array(
    json_array(seq, id, title, queue, state, number, due_at, at, outcome, reason)
) FROM (
    SELECT jobs.seq, jobs.id, tasks.title, jobs.queue, jobs.state, attempts.number, jobs.due_at,
        attempts.ended_at AS at, attempts.outcome,
        coalesce(attempts.error_message, jobs.reason) AS reason
    FROM json_each(:keys) AS wanted CROSS JOIN attempts
        ON attempts.job = wanted.value ->> 0 AND attempts.number = wanted.value ->> 1
    JOIN jobs ON jobs.seq = attempts.job JOIN tasks ON tasks.id = jobs.task
);

-- name: news_audit
-- What operators did after an entry.
SELECT json_group_array(json_array(id, at, who, action, target, details)) FROM (
    SELECT * FROM audit WHERE id > :id ORDER BY id LIMIT :limit
);

-- name: news_running
-- The jobs that run, how far they have come, and their last line.
SELECT json_group_array(json_array(
    seq, id, title, queue, state, attempt, due_at, at, NULL, reason,
    done, total, message, told_at, last_line
)) FROM (
    SELECT jobs.seq, jobs.id, tasks.title, jobs.queue, jobs.state, jobs.attempt, jobs.due_at,
        jobs.started_at AS at, jobs.reason,
        job_progress.done, job_progress.total, job_progress.message, job_progress.at AS told_at,
        (SELECT max(id) FROM job_logs WHERE job_logs.job = jobs.seq) AS last_line
    FROM jobs INDEXED BY jobs_owned JOIN tasks ON tasks.id = jobs.task
    LEFT JOIN job_progress ON job_progress.job = jobs.seq
    WHERE jobs.owner IS NOT NULL AND jobs.state = 'running' LIMIT :limit
);

-- name: news_given
-- What these jobs were given.
SELECT json_group_array(json_array(id, title, args)) FROM (
    SELECT jobs.id, tasks.title, jobs.args
    FROM json_each(:ids) AS wanted CROSS JOIN jobs ON jobs.id = wanted.value
    JOIN tasks ON tasks.id = jobs.task
);

-- name: ends
-- Where the feed stands: the newest job and the newest entry of the audit.
SELECT coalesce((SELECT max(seq) FROM jobs), 0), coalesce((SELECT max(id) FROM audit), 0);
