-- name: last_job
-- The newest job's key, 0 where there is none.
SELECT coalesce(max(seq), 0) FROM jobs;

-- name: look_at_waiting
-- The jobs between two keys that have not finished; in the words of the first schema.
SELECT jobs.id, tasks.name, jobs.state, jobs.options, jobs.args
FROM jobs JOIN tasks ON tasks.id = jobs.task
WHERE jobs.seq > :after AND jobs.seq <= :last
    AND (jobs.state = 'queued' OR jobs.state = 'running' OR jobs.state = 'held');
