"""The tables of the embedded store, and what to do with a file that has other ones.

A task is one small row; what many tasks share is written once:

- `lanes`: a job, a requirement, a priority (and a host to avoid). Counts what waits, so an offer reads counters only.
- `profiles`: environment, labels, limits and so on that tasks have in common.
- `setbacks`: only for tasks that came back, wait for a time, failed or were cancelled.
- `leases`: only for tasks somebody holds now.
- `attempts`: the ledger. Text that repeats (worker, host, pack, outcome) is in `names`; the view `ledger` joins it.

A row number of a task is `job * 2**32 + task`, so one integer key orders tasks by job and id, and a range of ids is a
range of keys.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable

from ergates.errors import StoreError

APPLICATION_ID = 0x45524731
"""`ERG1`, in the header of every store file: `file ergates.db` and we can tell it from other databases."""

SCHEMA_VERSION = 3


def _jobs_may_be_open(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE jobs ADD COLUMN open INTEGER NOT NULL DEFAULT 0")


def _leases_know_their_age(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE leases ADD COLUMN since_ns INTEGER NOT NULL DEFAULT 0")


MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {1: _jobs_may_be_open, 2: _leases_know_their_age}
"""Step from the version that is the key to the next one. Run inside one transaction when a store is opened."""

_TABLES = (
    """CREATE TABLE store(
        id INTEGER PRIMARY KEY CHECK (id = 1),
        fence INTEGER NOT NULL,
        now_ns INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE names(id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT""",
    """CREATE TABLE classes(id INTEGER PRIMARY KEY, body TEXT NOT NULL UNIQUE) STRICT""",
    """CREATE TABLE profiles(id INTEGER PRIMARY KEY, job INTEGER NOT NULL, body TEXT NOT NULL) STRICT""",
    """CREATE TABLE jobs(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL,
        spec TEXT NOT NULL,
        phase TEXT NOT NULL DEFAULT 'active' CHECK (phase IN ('active', 'paused', 'cancelled')),
        submitted_ns INTEGER NOT NULL,
        finished_ns INTEGER,
        total INTEGER NOT NULL DEFAULT 0,
        max_failed INTEGER,
        aging_ns INTEGER,
        range_levels INTEGER NOT NULL DEFAULT 0,
        blocked INTEGER NOT NULL DEFAULT 0,
        ready INTEGER NOT NULL DEFAULT 0,
        delayed INTEGER NOT NULL DEFAULT 0,
        leased INTEGER NOT NULL DEFAULT 0,
        done INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        cancelled INTEGER NOT NULL DEFAULT 0,
        first_attempt INTEGER NOT NULL DEFAULT 0,
        last_attempt INTEGER NOT NULL DEFAULT 0,
        open INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    "CREATE INDEX jobs_by_key ON jobs(key)",
    "CREATE INDEX jobs_unfinished ON jobs(id) WHERE finished_ns IS NULL",
    """CREATE TABLE sums(
        job INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        wall_ns INTEGER NOT NULL,
        cpu_ns INTEGER NOT NULL,
        peak_bytes INTEGER NOT NULL,
        cost_usd_micros INTEGER,
        PRIMARY KEY (job, outcome)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE lanes(
        id INTEGER PRIMARY KEY,
        job INTEGER NOT NULL,
        class INTEGER NOT NULL,
        priority INTEGER NOT NULL,
        avoid_host TEXT NOT NULL DEFAULT '',
        waiting INTEGER NOT NULL DEFAULT 0,
        touched_ns INTEGER NOT NULL DEFAULT 0,
        UNIQUE (job, class, priority, avoid_host)
    ) STRICT""",
    "CREATE INDEX lanes_waiting ON lanes(job, priority DESC) WHERE waiting > 0",
    """CREATE TABLE tasks(
        row INTEGER PRIMARY KEY,
        state INTEGER NOT NULL,
        lane INTEGER NOT NULL,
        profile INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        command ANY NOT NULL,
        extra BLOB
    ) STRICT""",
    "CREATE INDEX tasks_ready ON tasks(lane) WHERE state = 3",
    """CREATE TABLE setbacks(
        row INTEGER PRIMARY KEY,
        job INTEGER NOT NULL,
        failures INTEGER NOT NULL DEFAULT 0,
        memory INTEGER NOT NULL DEFAULT 0,
        losses INTEGER NOT NULL DEFAULT 0,
        timeouts INTEGER NOT NULL DEFAULT 0,
        last_peak_bytes INTEGER NOT NULL DEFAULT 0,
        not_before_ns INTEGER NOT NULL DEFAULT 0,
        cause INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT ''
    ) STRICT""",
    "CREATE INDEX setbacks_delayed ON setbacks(not_before_ns, job) WHERE not_before_ns > 0",
    """CREATE TABLE prerequisites(
        id INTEGER PRIMARY KEY,
        level INTEGER NOT NULL,
        first INTEGER NOT NULL,
        last INTEGER NOT NULL,
        open INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX prerequisites_by_place ON prerequisites(level, first)",
    """CREATE TABLE waits(
        task INTEGER NOT NULL,
        prerequisite INTEGER NOT NULL,
        PRIMARY KEY (task, prerequisite)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX waits_by_prerequisite ON waits(prerequisite, task)",
    """CREATE TABLE workers(
        id INTEGER PRIMARY KEY,
        uuid TEXT NOT NULL UNIQUE,
        host TEXT NOT NULL,
        info TEXT NOT NULL,
        pid INTEGER NOT NULL,
        pid_start_ticks INTEGER NOT NULL,
        boot_id TEXT NOT NULL,
        standing TEXT NOT NULL CHECK (standing IN ('live', 'condemned', 'reaped', 'left')),
        registered_ns INTEGER NOT NULL,
        beat_ns INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE leases(
        row INTEGER PRIMARY KEY,
        fence INTEGER NOT NULL,
        worker INTEGER NOT NULL,
        revoked INTEGER NOT NULL DEFAULT 0,
        reason TEXT NOT NULL DEFAULT '',
        since_ns INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    "CREATE INDEX leases_by_worker ON leases(worker)",
    """CREATE TABLE attempts(
        id INTEGER PRIMARY KEY,
        task INTEGER NOT NULL,
        number INTEGER NOT NULL,
        outcome INTEGER NOT NULL,
        worker INTEGER NOT NULL,
        host INTEGER NOT NULL,
        started_ns INTEGER NOT NULL,
        ended_ns INTEGER NOT NULL,
        exit_code INTEGER,
        signal INTEGER,
        reason TEXT NOT NULL,
        wall_ns INTEGER NOT NULL,
        cpu_ns INTEGER NOT NULL,
        peak_bytes INTEGER NOT NULL,
        peak_label INTEGER NOT NULL,
        peak_with_cache_bytes INTEGER NOT NULL,
        energy_uj INTEGER NOT NULL,
        energy_label INTEGER NOT NULL,
        cost_usd_micros INTEGER,
        pack INTEGER NOT NULL,
        pack_offset INTEGER NOT NULL,
        stdout_bytes INTEGER NOT NULL,
        stderr_bytes INTEGER NOT NULL,
        predicted_bytes INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX attempts_by_task ON attempts(task)",
    """CREATE VIEW ledger AS SELECT
        'j' || (a.task >> 32) AS job, a.task & 0xffffffff AS task, a.number, o.text AS outcome, w.text AS worker,
        h.text AS host, a.started_ns, a.ended_ns, a.exit_code, a.signal, a.reason, a.wall_ns, a.cpu_ns, a.peak_bytes,
        pl.text AS peak_label, a.peak_with_cache_bytes, a.energy_uj, el.text AS energy_label, a.cost_usd_micros,
        p.text AS pack, a.pack_offset, a.stdout_bytes, a.stderr_bytes, a.predicted_bytes, a.id
        FROM attempts a JOIN names o ON o.id = a.outcome JOIN names w ON w.id = a.worker JOIN names h ON h.id = a.host
        JOIN names pl ON pl.id = a.peak_label JOIN names el ON el.id = a.energy_label JOIN names p ON p.id = a.pack""",
    """CREATE TABLE memory_history(
        id INTEGER PRIMARY KEY,
        shape TEXT NOT NULL,
        peak_bytes INTEGER NOT NULL,
        input_bytes INTEGER NOT NULL,
        wall_ns INTEGER NOT NULL,
        at_ns INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX memory_history_by_shape ON memory_history(shape, id)",
)


def prepare_schema(connection: sqlite3.Connection, path: str) -> None:
    """Create the tables in an empty file, or bring those of an older version up to date."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not schema_is_current(connection, path):  # another process may have come first while we waited
            _create_or_migrate(connection)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def schema_is_current(connection: sqlite3.Connection, path: str) -> bool:
    """False when there is something to create or to migrate.

    Raises:
        StoreError: the file belongs to another program, or to a newer Ergates.
    """
    if (
        _number(connection, "schema_version") == 0
    ):  # read first: when it is not 0, the creator has written the others, too
        return False
    application = _number(connection, "application_id")
    version = _number(connection, "user_version")
    if application != APPLICATION_ID:
        raise StoreError(
            f"{path} is an SQLite database of another program, not an Ergates store.\n"
            "  hint: move it away, or name another state directory with --state DIR or ERGATES_STATE"
        )
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{path} was written by a newer Ergates (schema {version}, this one knows up to {SCHEMA_VERSION}).\n"
            "  hint: update ergates, or use another state directory with --state DIR or ERGATES_STATE"
        )
    return version == SCHEMA_VERSION


def _create_or_migrate(connection: sqlite3.Connection) -> None:
    version = _number(connection, "user_version")
    if version == 0:
        for statement in _TABLES:
            connection.execute(statement)
        # Every store counts its fences from its own random place, so a worker that outlives a deleted state
        # directory cannot commit into the one that took its place.
        start = int.from_bytes(os.urandom(4), "big") >> 2
        connection.execute("INSERT INTO store(id, fence, now_ns) VALUES (1, ?, 0)", (start << 32,))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    else:
        for step in range(version, SCHEMA_VERSION):
            MIGRATIONS[step](connection)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])
