"""A ledger in one SQLite file: for a cluster without PostgreSQL. Whoever drains must see the file, so it suits one controller.

Every write is on the disk before it counts (synchronous FULL), for the store forgets what the ledger said it has.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ergates.drivers.ledgers.migrations import due, migrations
from ergates.drivers.ledgers.rows import (
    ATTEMPT_COLUMNS,
    ATTEMPT_TYPES,
    JOB_COLUMNS,
    SUCCEEDED,
    attempt_columns,
    few_tasks,
    job_columns,
    job_of,
    merged_ranges,
    page_rows,
    read_columns,
    row_of,
)
from ergates.drivers.ledgers.sums_sql import sums_from, sums_query
from ergates.drivers.stores.file_systems import file_system_of, is_network
from ergates.drivers.stores.sqlite_connection import NO_ROOM
from ergates.errors import ErgatesError, StoreError, StoreFullError, StoreUnavailableError
from ergates.taskqueue.ledger import DrainBatch, LedgerJob, LedgerRow
from ergates.taskqueue.ledger_sums import Summed, merged_sums

APPLICATION_ID = 0x45524C31
"""`ERL1`, in the header of every ledger file."""
BUSY_TIMEOUT_S = 30.0
TASK_MAX = 2**63 - 1

_JOB_UPSERT = f"""INSERT INTO jobs({JOB_COLUMNS}) VALUES ({", ".join("?" * 9)})
    ON CONFLICT (uid) DO UPDATE SET total = max(total, excluded.total), spec = excluded.spec
    WHERE total < excluded.total OR spec <> excluded.spec"""
_INSERT = f"""INSERT INTO attempt_rows({ATTEMPT_COLUMNS}, repeat) VALUES ({", ".join("?" * len(ATTEMPT_TYPES))}, %d)
    ON CONFLICT DO NOTHING"""
_LABEL = """coalesce((SELECT value FROM json_each(a.labels) WHERE key = ?),
    (SELECT value FROM json_each(j.labels) WHERE key = ?), '')"""


class SqliteLedger:
    """Belongs to one thread."""

    def __init__(self, path: Path) -> None:
        """Open, or create with rights 0600.

        Raises:
            StoreError: not our file, a newer schema, or it cannot be opened.
        """
        self.path = path
        with self._translated():
            self._raw = _open(path)

    def close(self) -> None:
        """Nothing is left open."""
        self._raw.close()

    def write(self, batch: DrainBatch) -> int:
        """See Ledger.write."""
        if not batch.rows and not batch.jobs:
            return 0
        with self._translated(), self._transaction("IMMEDIATE"):
            self._raw.executemany(_JOB_UPSERT, [job_columns(job) for job in batch.jobs])
            numbers = self._numbers({row.job_uid for row in batch.rows})
            rows = [attempt_columns(numbers[row.job_uid], row) for row in batch.rows]
            before = self._raw.total_changes
            self._raw.executemany(_INSERT % 0, rows)
            if self._raw.total_changes - before < len(rows):
                # What is missing is here already, or it is a success of a task that has one: only that is added.
                self._raw.executemany(_INSERT % 1, [row for row in rows if row[4] == SUCCEEDED])
            return self._raw.total_changes - before

    def jobs(self) -> tuple[LedgerJob, ...]:
        """See Ledger.jobs."""
        with self._translated():
            rows = self._raw.execute(
                "SELECT uid, queue, id, spec, submitted_ns, total FROM jobs ORDER BY submitted_ns DESC, number DESC"
            ).fetchall()
        return tuple(job_of(*row) for row in rows)

    def attempts(
        self, job_uid: str, *, ids: Sequence[tuple[int, int]] = (), since_row: int = 0, kept: bool = True
    ) -> Iterator[LedgerRow]:
        """See Ledger.attempts. A page at a time, so that a long listing keeps no transaction open."""
        columns, rows = read_columns(kept=kept), page_rows(kept=kept)
        ranges = merged_ranges(ids)
        source = _ALL if not ranges else _OF_FEW_TASKS if few_tasks(ranges) else _OF_MANY_TASKS
        query = f"""SELECT {columns} FROM {source} AND a.job = (SELECT number FROM jobs WHERE uid = :uid)
            AND (a.row, a.task, a.number) > (:row, :task, :number) ORDER BY a.row, a.task, a.number LIMIT {rows}"""
        row, task, number = since_row, TASK_MAX, 0
        while True:
            place = {"uid": job_uid, "ranges": json.dumps(ranges), "row": row, "task": task, "number": number}
            with self._translated():
                page = self._raw.execute(query, place).fetchall()
            for found in page:
                yield row_of(job_uid, found)
            if len(page) < rows:
                return
            row, task, number = page[-1][:3]

    def sums(self, by: str, uids: Sequence[str] = (), but: Sequence[LedgerRow] = ()) -> Summed:
        """See Sums.sums."""
        jobs = "j.uid IN (SELECT value FROM json_each(?))" if uids else "1"
        query, key = sums_query(by, "", _LABEL, jobs)
        values = ([key, key] if key is not None else []) + ([json.dumps(list(uids))] if uids else [])
        with self._translated(), self._transaction("DEFERRED"):
            sums = [sums_from(row) for row in self._raw.execute(query, values)]
            there = self._there(but)
        missing = tuple(row for row in but if (row.job_uid, row.task, row.attempt.number) not in there)
        return Summed(sums=merged_sums(sums), missing=missing)

    def _there(self, rows: Sequence[LedgerRow]) -> set[tuple[str, int, int]]:
        asked = json.dumps([[row.job_uid, row.task, row.attempt.number] for row in rows])
        found = self._raw.execute(
            "SELECT j.uid, a.task, a.number FROM json_each(?) c CROSS JOIN jobs j ON j.uid = json_extract(c.value, '$[0]')"
            " CROSS JOIN attempt_rows a ON a.job = j.number AND a.task = json_extract(c.value, '$[1]')"
            " AND a.number = json_extract(c.value, '$[2]')",
            (asked,),
        )
        return set(found)

    def _numbers(self, uids: set[str]) -> dict[str, int]:
        rows = self._raw.execute(
            "SELECT uid, number FROM jobs WHERE uid IN (SELECT value FROM json_each(?))", (json.dumps(sorted(uids)),)
        )
        numbers = dict(rows.fetchall())
        assert numbers.keys() == uids, "a batch names jobs that it does not describe"
        return numbers

    @contextmanager
    def _transaction(self, kind: str) -> Iterator[None]:
        self._raw.execute(f"BEGIN {kind}")
        try:
            yield
            self._raw.execute("COMMIT")
        except BaseException:
            if self._raw.in_transaction:
                self._raw.execute("ROLLBACK")
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _in_words(error, self.path) from error


_ALL = "attempt_rows a WHERE 1"
_OF_FEW_TASKS = """json_each(:ranges) r CROSS JOIN attempt_rows a
    WHERE a.task BETWEEN json_extract(r.value, '$[0]') AND json_extract(r.value, '$[1]')"""
_OF_MANY_TASKS = """attempt_rows a WHERE EXISTS (SELECT 1 FROM json_each(:ranges) r
    WHERE a.task BETWEEN json_extract(r.value, '$[0]') AND json_extract(r.value, '$[1]'))"""


def _open(path: Path) -> sqlite3.Connection:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(
            f"{path}: the ledger cannot be opened for writing: {error.strerror}.\n"
            "  hint: name a file in a directory you may write with --ledger or ERGATES_LEDGER"
        ) from error
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        _check_owner(connection, path)  # before anything is changed: another program's database stays as it is
        if not is_network(file_system_of(path)):
            connection.execute("PRAGMA journal_mode = wal")
        connection.execute("PRAGMA synchronous = FULL")
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    # In this order: another process may be making the ledger just now, and makes both in one transaction.
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    (owner,) = connection.execute("PRAGMA application_id").fetchone()
    if tables and owner != APPLICATION_ID:
        raise StoreError(
            f"{path} is an SQLite database, but not a ledger of Ergates.\n"
            "  hint: name another file with --ledger or ERGATES_LEDGER"
        )


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    steps = migrations("sqlite")
    if not due(steps, _version(connection), str(path)):
        return
    connection.execute("BEGIN IMMEDIATE")  # of two that start at once the second waits here, and then finds all done
    try:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_version(version INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT"
        )
        for step in due(steps, _version(connection), str(path)):
            for statement in _statements(step.sql):
                connection.execute(statement)
            connection.execute("INSERT INTO schema_version(version, name) VALUES (?, ?)", (step.version, step.name))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _version(connection: sqlite3.Connection) -> int:
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'schema_version'").fetchone() is None:
        return 0
    return int(connection.execute("SELECT ifnull(max(version), 0) FROM schema_version").fetchone()[0])


def _statements(sql: str) -> Iterator[str]:
    """`executescript` would commit our transaction, so the file is cut where SQLite says that a statement is complete."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _in_words(error: sqlite3.Error, path: Path) -> ErgatesError:
    code = getattr(error, "sqlite_errorcode", None)
    if code in NO_ROOM:
        return StoreFullError(f"{path}: no room to write ({error}). Nothing was changed; free some space there")
    match None if code is None else code & 0xFF:
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return StoreUnavailableError(
                f"{path}: another process has held the ledger for more than {BUSY_TIMEOUT_S:.0f} s; see who with"
                f" `fuser -v {path}`"
            )
        case sqlite3.SQLITE_NOTADB:
            text = "this file is no ledger (not even a database); name another one with --ledger or ERGATES_LEDGER"
        case sqlite3.SQLITE_CORRUPT:
            text = f"the ledger is damaged ({error}); keep a copy, then try `sqlite3 FILE .recover`"
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            text = f"the ledger cannot be written ({error}); see the rights of the file and its directory"
        case _:
            text = f"{type(error).__name__}: {error}"
    return StoreError(f"{path}: {text}")
