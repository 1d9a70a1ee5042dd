-- Two tables and the view that people query. All lies in the schema `ergates`, so that a ledger can share a database.

CREATE TABLE ergates.jobs (
    number       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uid          text NOT NULL UNIQUE,
    queue        text NOT NULL,
    id           text NOT NULL,
    key          text NOT NULL,
    name         text NOT NULL,
    labels       jsonb NOT NULL,
    spec         jsonb NOT NULL,
    submitted_ns bigint NOT NULL,
    total        bigint NOT NULL
);
CREATE INDEX jobs_by_time ON ergates.jobs (submitted_ns DESC, number DESC);

-- `job` is a number of `jobs`; a foreign key would check every row and cost a fifth of the rate. `repeat`: a success of a task that
-- had succeeded before. It used up time and money, so it is kept, but it is no second result.
CREATE TABLE ergates.attempt_rows (
    job                   integer NOT NULL,
    row                   bigint NOT NULL,
    task                  bigint NOT NULL,
    number                integer NOT NULL,
    outcome               text NOT NULL,
    repeat                boolean NOT NULL,
    worker                text NOT NULL,
    host                  text NOT NULL,
    started_ns            bigint NOT NULL,
    ended_ns              bigint NOT NULL,
    exit_code             integer,
    signal                integer,
    reason                text NOT NULL,
    wall_ns               bigint NOT NULL,
    cpu_ns                bigint NOT NULL,
    peak_bytes            bigint NOT NULL,
    peak_label            text NOT NULL,
    peak_with_cache_bytes bigint NOT NULL,
    predicted_bytes       bigint NOT NULL,
    energy_uj             bigint NOT NULL,
    energy_label          text NOT NULL,
    cost_usd_micros       bigint,
    pack                  text NOT NULL,
    pack_offset           bigint NOT NULL,
    stdout_bytes          bigint NOT NULL,
    stderr_bytes          bigint NOT NULL,
    labels                jsonb NOT NULL,
    stdout                bytea,
    stderr                bytea,
    result                bytea,
    -- This and the next make every insert idempotent: whoever writes the same again changes nothing.
    PRIMARY KEY (job, task, number)
);
CREATE UNIQUE INDEX one_success_of_each_task ON ergates.attempt_rows (job, task) WHERE outcome = 'succeeded' AND NOT repeat;
CREATE INDEX attempts_by_row ON ergates.attempt_rows (job, row, task, number);
-- Attempts arrive about in the order they ended, so a few pages of BRIN answer "since yesterday".
CREATE INDEX attempts_by_end ON ergates.attempt_rows USING brin (to_timestamp(ended_ns / 1e9::float8));

CREATE VIEW ergates.attempts AS
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
    CASE WHEN a.started_ns > 0 THEN to_timestamp(a.started_ns / 1e9::float8) END AS started,
    to_timestamp(a.ended_ns / 1e9::float8) AS ended,
    a.wall_ns / 1e9::float8 AS seconds,
    a.cpu_ns / 1e9::float8 AS cpu_seconds,
    CASE WHEN a.peak_label <> 'unknown' THEN a.peak_bytes END AS peak_bytes,
    a.peak_label,
    nullif(a.peak_with_cache_bytes, 0) AS peak_with_cache_bytes,
    nullif(a.predicted_bytes, 0) AS predicted_bytes,
    a.cost_usd_micros / 1e6::float8 AS cost_usd,
    CASE WHEN a.energy_label <> 'unknown' THEN a.energy_uj / 1e6::float8 END AS joules,
    a.energy_label AS joules_label,
    j.labels || a.labels AS labels,
    a.stdout_bytes,
    a.stderr_bytes,
    a.stdout,
    a.stderr,
    j.key AS job_key,
    j.uid AS job_uid,
    a.row
FROM ergates.attempt_rows a
JOIN ergates.jobs j ON j.number = a.job;

COMMENT ON VIEW ergates.attempts IS 'Every attempt ever made, wasted ones included: docs/ledger.md of Ergates';
