-- The first schema. Times are seconds since 1970 (UTC). Migrations only add.

-- Facts about the file itself.
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Every task name that was ever enqueued; jobs refer to it by number.
CREATE TABLE tasks (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Every process that opened the file and was not yet recovered. Its lock tells whether it lives.
CREATE TABLE processes (
    id         TEXT PRIMARY KEY,
    pid        INTEGER NOT NULL,
    started_at REAL NOT NULL,
    runs_jobs  INTEGER NOT NULL CHECK (runs_jobs IN (0, 1))
) STRICT, WITHOUT ROWID;

-- A process says here which task names its code does not have.
CREATE TABLE unknown_tasks (
    process TEXT NOT NULL REFERENCES processes (id) ON DELETE CASCADE,
    task    INTEGER NOT NULL REFERENCES tasks (id),
    PRIMARY KEY (process, task)
) STRICT, WITHOUT ROWID;

CREATE TABLE jobs (
    seq              INTEGER PRIMARY KEY,
    id               TEXT NOT NULL UNIQUE,
    task             INTEGER NOT NULL REFERENCES tasks (id),
    -- Checks say OR and not IN: SQLite builds the list of an IN anew for every row it writes.
    state            TEXT NOT NULL CHECK (
        state = 'queued' OR state = 'running' OR state = 'succeeded' OR state = 'failed'
        OR state = 'cancelled' OR state = 'expired' OR state = 'held'
    ),
    queue            TEXT NOT NULL,
    priority         INTEGER NOT NULL,
    due_at           REAL NOT NULL,
    created_at       REAL NOT NULL,
    -- The process that reserved or claimed the job; nobody else may take it.
    owner            TEXT,
    -- The number of the present or last attempt; it never goes back once an attempt has started.
    attempt          INTEGER NOT NULL CHECK (attempt >= 0),
    failures         INTEGER NOT NULL DEFAULT 0,
    crashes          INTEGER NOT NULL DEFAULT 0,
    snoozes          INTEGER NOT NULL DEFAULT 0,
    on_crash         TEXT NOT NULL CHECK (
        on_crash = 'retry' OR on_crash = 'hold' OR on_crash = 'fail'
    ),
    options          TEXT,
    tags             TEXT,
    start_by         REAL,
    finish_by        REAL,
    -- When a queued job expires: before its first attempt min(start_by, finish_by), then finish_by.
    expires_at       REAL,
    request_id       TEXT,
    traceparent      TEXT,
    -- The job of the same request whose first attempt must end before this one starts.
    after            TEXT,
    -- 1 when another job of the same request waits for this one.
    leads            INTEGER NOT NULL DEFAULT 0 CHECK (leads IN (0, 1)),
    cancel_requested INTEGER NOT NULL DEFAULT 0 CHECK (cancel_requested IN (0, 1)),
    started_at       REAL,
    finished_at      REAL,
    -- When retention removes the job.
    prune_at         REAL,
    -- Why the job did not succeed, in words.
    reason           TEXT,
    -- What a held job waits for: 'unknown_task', 'arguments' or 'crash'.
    held_for         TEXT,
    -- The long texts come last: a row is read no further than to the last column that is asked for.
    args             TEXT NOT NULL,
    result           TEXT,
    CHECK (state <> 'running' OR (owner IS NOT NULL AND attempt >= 1)),
    CHECK (owner IS NULL OR state IN ('queued', 'running')),
    CHECK (
        (state = 'succeeded' OR state = 'failed' OR state = 'cancelled' OR state = 'expired')
        = (finished_at IS NOT NULL)
    ),
    CHECK (
        reason IS NOT NULL
        OR state = 'queued' OR state = 'running' OR state = 'succeeded'
    ),
    CHECK ((state = 'held') = (held_for IS NOT NULL)),
    CHECK (state = 'succeeded' OR result IS NULL)
) STRICT;

-- What may be claimed: by priority, then due time, then age.
CREATE INDEX jobs_claimable ON jobs (priority, due_at)
    WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND crashes < 2;
-- What may be claimed one at a time: jobs that may be what killed their process.
CREATE INDEX jobs_suspected ON jobs (due_at)
    WHERE state = 'queued' AND owner IS NULL AND after IS NULL AND crashes >= 2;
CREATE INDEX jobs_owned ON jobs (owner) WHERE owner IS NOT NULL;
CREATE INDEX jobs_following ON jobs (after) WHERE after IS NOT NULL;
CREATE INDEX jobs_expiring ON jobs (expires_at) WHERE state = 'queued' AND expires_at IS NOT NULL;
CREATE INDEX jobs_prunable ON jobs (prune_at) WHERE prune_at IS NOT NULL;
-- The states that people look for; the bulk, the succeeded ones, costs nothing here.
CREATE INDEX jobs_notable ON jobs (state, seq)
    WHERE state IN ('failed', 'cancelled', 'expired', 'held');

-- Attempts that did not succeed. The one that did is told by its job's row.
CREATE TABLE attempts (
    job           INTEGER NOT NULL REFERENCES jobs (seq) ON DELETE CASCADE,
    number        INTEGER NOT NULL CHECK (number >= 1),
    outcome       TEXT NOT NULL,
    started_at    REAL,
    ended_at      REAL,
    error_type    TEXT,
    error_message TEXT,
    traceback     TEXT,
    PRIMARY KEY (job, number)
) STRICT, WITHOUT ROWID;

-- The states as people see them, beside `shown_state` in job.py.
CREATE VIEW shown_jobs AS
SELECT jobs.*, tasks.name AS task_name,
    CASE
        WHEN state = 'queued' AND attempt > 0 THEN 'retrying'
        WHEN state = 'queued' AND due_at > (julianday('now') - 2440587.5) * 86400.0 THEN 'scheduled'
        ELSE state
    END AS shown
FROM jobs JOIN tasks ON tasks.id = jobs.task;

-- The oldest release, by its schema number, that may open this file.
INSERT INTO meta (key, value) VALUES ('oldest_reader', '1');
