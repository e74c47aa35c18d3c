-- name: due
-- The due jobs by priority, then due time: those of these tasks among the first ones, and how many
-- were looked at. No more jobs of other tasks are walked over than are asked for, see
-- `due_in_lines`.
SELECT
    json_group_array(seq) FILTER (WHERE task IN (SELECT value FROM json_each(:tasks))), count(*)
FROM (
    SELECT due.seq, due.task FROM levels CROSS JOIN jobs AS due INDEXED BY jobs_claimable
    WHERE due.state = 'queued' AND due.owner IS NULL AND due.after IS NULL
        AND due.crashes < 2
        AND due.priority = levels.priority AND due.due_at <= :now
    LIMIT :limit
);

-- name: due_in_lines
-- The due jobs of these tasks by priority, then due time, chosen line by line, so that jobs of
-- others are never walked over.
SELECT json_group_array(seq) FROM (
    SELECT due.seq
    FROM lines CROSS JOIN jobs AS due
    WHERE lines.task IN (SELECT value FROM json_each(:tasks))
        AND lines.queue NOT IN (SELECT value FROM json_each(:paused))
        AND due.seq IN (
            SELECT waiting.seq FROM jobs AS waiting INDEXED BY jobs_in_line
            WHERE waiting.state = 'queued' AND waiting.owner IS NULL AND waiting.after IS NULL
                AND waiting.queue = lines.queue AND waiting.task = lines.task
                AND waiting.priority = lines.priority AND waiting.due_at <= :now
                AND waiting.crashes < 2
            ORDER BY waiting.due_at LIMIT :limit
        )
    ORDER BY due.priority DESC, due.due_at, due.seq LIMIT :limit
);

-- name: claim
-- queued -> running: due jobs that were chosen.
UPDATE jobs
SET state = 'running', owner = :owner, attempt = attempt + 1, started_at = :now,
    cancel_requested = 0
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'queued' AND owner IS NULL;

-- name: claimed
-- These jobs, as their attempts need them, in one row: each row more would be a step more, which
-- lets go of the interpreter.
SELECT json_group_array(json_array(
    id, task, attempt, args, options, queue, failures, crashes, snoozes, start_by, finish_by,
    request_id, traceparent, leads, on_crash, due_at, priority, seq
)) FROM jobs
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'running' AND owner = :owner;

-- name: claimed_rows
-- The same row by row, for when one of them holds text that cannot be read.
SELECT id, task, attempt, args, options, queue, failures, crashes, snoozes, start_by, finish_by,
    request_id, traceparent, leads, on_crash, due_at, priority, seq FROM jobs
WHERE seq IN (SELECT value FROM json_each(:seqs)) AND state = 'running' AND owner = :owner;

-- name: due_suspect
-- The suspect that has waited longest, in a queue that is not paused.
SELECT seq FROM jobs INDEXED BY jobs_suspected
WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND crashes >= 2
    AND due_at <= :now AND task IN (SELECT value FROM json_each(:tasks))
    AND queue NOT IN (SELECT value FROM json_each(:paused))
    AND (crashes < :accused OR :last_chance_from <= :now)
ORDER BY due_at LIMIT 1;

-- name: next_suspect
-- The time at which the next suspect of these tasks is due and may start, in a queue that is not
-- paused.
SELECT min(max(due_at, iif(crashes < :accused, :from, :last_chance_from)))
FROM jobs INDEXED BY jobs_suspected
WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND crashes >= 2
    AND task IN (SELECT value FROM json_each(:tasks))
    AND queue NOT IN (SELECT value FROM json_each(:paused));

-- name: acquit
-- A suspect that has run long enough is none any more.
UPDATE jobs SET crashes = 0
WHERE id = :id AND state = 'running' AND owner = :owner AND crashes >= 2;

-- name: next_due
-- The time at which the next job of these tasks is due, looked for line by line.
SELECT min((
    SELECT waiting.due_at FROM jobs AS waiting INDEXED BY jobs_in_line
    WHERE waiting.state = 'queued' AND waiting.owner IS NULL AND waiting.after IS NULL
        AND waiting.queue = lines.queue AND waiting.task = lines.task
        AND waiting.priority = lines.priority AND waiting.crashes < 2
    ORDER BY waiting.due_at LIMIT 1
))
FROM lines
WHERE lines.task IN (SELECT value FROM json_each(:tasks))
    AND lines.queue NOT IN (SELECT value FROM json_each(:paused));

-- name: newest
-- When the newest job was stored.
SELECT created_at FROM jobs ORDER BY seq DESC LIMIT 1;

-- name: due_again
-- The clock was put back: what was due at once is due now, and a pause before a
-- retry or after a snooze is as long as it was; what has a date of its own waits for that.
UPDATE jobs
SET due_at = iif(attempt = 0, :now, :now + (due_at - started_at))
WHERE state = 'queued' AND owner IS NULL AND due_at > :now AND (
    (attempt = 0 AND created_at > :now AND due_at <= created_at)
    OR (attempt > 0 AND started_at > :now AND due_at > started_at)
);

-- name: next_expiry
-- The time at which the next waiting job expires. Reserved ones do not, so they are not waited for:
-- their time may be past, and whoever asked would ask again at once.
SELECT min(expires_at) FROM jobs
WHERE state = 'queued' AND owner IS NULL AND expires_at IS NOT NULL;
