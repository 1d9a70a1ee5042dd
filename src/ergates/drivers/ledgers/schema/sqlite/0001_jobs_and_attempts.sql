-- Two tables and the view that people query.

CREATE TABLE jobs (
    number       INTEGER PRIMARY KEY,
    uid          TEXT NOT NULL UNIQUE,
    queue        TEXT NOT NULL,
    id           TEXT NOT NULL,
    key          TEXT NOT NULL,
    name         TEXT NOT NULL,
    labels       TEXT NOT NULL,
    spec         TEXT NOT NULL,
    submitted_ns INTEGER NOT NULL,
    total        INTEGER NOT NULL
) STRICT;

-- `job` is a number of `jobs`. `repeat`: a success of a task that had succeeded before. It used up time and money, so it is kept,
-- but it is no second result.
CREATE TABLE attempt_rows (
    job                   INTEGER NOT NULL,
    row                   INTEGER NOT NULL,
    task                  INTEGER NOT NULL,
    number                INTEGER NOT NULL,
    outcome               TEXT NOT NULL,
    repeat                INTEGER NOT NULL,
    worker                TEXT NOT NULL,
    host                  TEXT NOT NULL,
    started_ns            INTEGER NOT NULL,
    ended_ns              INTEGER NOT NULL,
    exit_code             INTEGER,
    signal                INTEGER,
    reason                TEXT NOT NULL,
    wall_ns               INTEGER NOT NULL,
    cpu_ns                INTEGER NOT NULL,
    peak_bytes            INTEGER NOT NULL,
    peak_label            TEXT NOT NULL,
    peak_with_cache_bytes INTEGER NOT NULL,
    predicted_bytes       INTEGER NOT NULL,
    energy_uj             INTEGER NOT NULL,
    energy_label          TEXT NOT NULL,
    cost_usd_micros       INTEGER,
    pack                  TEXT NOT NULL,
    pack_offset           INTEGER NOT NULL,
    stdout_bytes          INTEGER NOT NULL,
    stderr_bytes          INTEGER NOT NULL,
    labels                TEXT NOT NULL,
    stdout                BLOB,
    stderr                BLOB,
    result                BLOB,
    -- This and the next make every insert idempotent: whoever writes the same again changes nothing.
    PRIMARY KEY (job, task, number)
) STRICT;
CREATE UNIQUE INDEX one_success_of_each_task ON attempt_rows (job, task) WHERE outcome = 'succeeded' AND NOT repeat;
CREATE INDEX attempts_by_row ON attempt_rows (job, row, task, number);

CREATE VIEW attempts AS
SELECT
    j.queue,
    j.id AS job,
    j.name AS job_name,
    a.task,
    a.number AS attempt,
    a.outcome,
    (a.outcome = 'succeeded' AND NOT a.repeat) AS useful,
    a.repeat,
    a.reason,
    a.exit_code,
    a.signal,
    a.host,
    a.worker,
    CASE WHEN a.started_ns > 0 THEN strftime('%Y-%m-%d %H:%M:%f', a.started_ns / 1e9, 'unixepoch') END AS started,
    strftime('%Y-%m-%d %H:%M:%f', a.ended_ns / 1e9, 'unixepoch') AS ended,
    a.wall_ns / 1e9 AS seconds,
    a.cpu_ns / 1e9 AS cpu_seconds,
    CASE WHEN a.peak_label <> 'unknown' THEN a.peak_bytes END AS peak_bytes,
    a.peak_label,
    nullif(a.peak_with_cache_bytes, 0) AS peak_with_cache_bytes,
    nullif(a.predicted_bytes, 0) AS predicted_bytes,
    a.cost_usd_micros / 1e6 AS cost_usd,
    CASE WHEN a.energy_label <> 'unknown' THEN a.energy_uj / 1e6 END AS joules,
    a.energy_label AS joules_label,
    json_patch(j.labels, a.labels) AS labels,
    a.stdout_bytes,
    a.stderr_bytes,
    a.stdout,
    a.stderr,
    j.key AS job_key,
    j.uid AS job_uid,
    a.row
FROM attempt_rows a
JOIN jobs j ON j.number = a.job;
