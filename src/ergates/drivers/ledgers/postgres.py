"""The ledger in PostgreSQL: plain SQL in a schema of its own, batches by COPY, and a connection that comes back by itself.

A batch is copied into a temporary table and inserted from there. The two unique indexes decide what is new, so a batch
may be written twice, by two writers at once, or half an hour later by another one, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ergates.drivers.ledgers.address import LedgerAddress, import_driver
from ergates.drivers.ledgers.postgres_schema import prepare_schema
from ergates.drivers.ledgers.postgres_words import connecting_in_words, in_words
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
from ergates.taskqueue.ledger import DrainBatch, LedgerJob, LedgerRow
from ergates.taskqueue.ledger_sums import Summed, merged_sums

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[tuple[Any, ...]]

T = TypeVar("T")
TASK_MAX = 2**63 - 1
CONNECT_TIMEOUT_S = 10
_DEFAULTS = {
    "application_name": "erg ledger",
    "connect_timeout": str(CONNECT_TIMEOUT_S),
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "client_encoding": "UTF8",
}
"""A server that went away without a word (a partition) is noticed within about a minute."""

_NEW = f"CREATE TEMPORARY TABLE erg_new ({', '.join(f'{name} {kind}' for name, kind in ATTEMPT_TYPES.items())}) ON COMMIT DROP"
_COPY = f"COPY erg_new ({ATTEMPT_COLUMNS}) FROM STDIN (FORMAT BINARY)"
_SELECTED = ATTEMPT_COLUMNS.replace("labels", "labels::jsonb")
_INSERT = f"""INSERT INTO ergates.attempt_rows ({ATTEMPT_COLUMNS}, repeat)
    SELECT {_SELECTED}, {{repeat}} FROM erg_new {{where}} ORDER BY row ON CONFLICT DO NOTHING"""
_INSERT_ALL = _INSERT.format(repeat="false", where="")
_INSERT_REPEATS = _INSERT.format(repeat="true", where=f"WHERE outcome = '{SUCCEEDED}'")
_JOB_UPSERT = f"""INSERT INTO ergates.jobs ({JOB_COLUMNS}) VALUES ({", ".join(["%s"] * 9)})
    ON CONFLICT (uid) DO UPDATE SET total = greatest(jobs.total, excluded.total), spec = excluded.spec
    WHERE jobs.total < excluded.total OR jobs.spec <> excluded.spec"""
_DURABLE = "SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
"""The store forgets what the ledger said it has, so it must be on the disk whatever the server's default is."""
_LABEL = "coalesce(a.labels ->> %s, j.labels ->> %s, '')"


class PostgresLedger:
    """Belongs to one thread. Connects when it is first used, and again after the server was away."""

    def __init__(self, address: LedgerAddress) -> None:
        """Only remembers where; `connect` or the first call finds out whether it is there."""
        import_driver()
        self._address = address
        self._connection: Connection | None = None

    def connect(self) -> None:
        """Connect, and make or bring up to date what the ledger needs there.

        Raises:
            StoreUnavailableError: the server is away.
            StoreError: it does not let us in, has no such database, or its ledger is of a newer Ergates.
        """
        self._connected()

    def close(self) -> None:
        """Nothing is left open."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def write(self, batch: DrainBatch) -> int:
        """See Ledger.write."""
        if not batch.rows and not batch.jobs:
            return 0
        return self._do(lambda connection: _write(connection, batch))

    def jobs(self) -> tuple[LedgerJob, ...]:
        """See Ledger.jobs."""
        query = (
            "SELECT uid, queue, id, spec::text, submitted_ns, total FROM ergates.jobs"
            " ORDER BY submitted_ns DESC, number DESC"
        )
        return tuple(job_of(*row) for row in self._do(lambda connection: connection.execute(query).fetchall()))

    def attempts(
        self, job_uid: str, *, ids: Sequence[tuple[int, int]] = (), since_row: int = 0, kept: bool = True
    ) -> Iterator[LedgerRow]:
        """See Ledger.attempts. A page at a time, so that a long listing keeps no transaction open."""
        columns, rows = read_columns(kept=kept).replace("a.labels", "a.labels::text"), page_rows(kept=kept)
        ranges = merged_ranges(ids)
        source = _ALL if not ranges else _OF_FEW_TASKS if few_tasks(ranges) else _OF_MANY_TASKS
        query = f"""SELECT {columns} FROM {source} AND a.job = (SELECT number FROM ergates.jobs WHERE uid = %(uid)s)
            AND (a.row, a.task, a.number) > (%(row)s, %(task)s, %(number)s) ORDER BY a.row, a.task, a.number LIMIT {rows}"""
        firsts, lasts = [first for first, _ in ranges], [last for _, last in ranges]
        row, task, number = since_row, TASK_MAX, 0
        while True:
            place = {"uid": job_uid, "firsts": firsts, "lasts": lasts, "row": row, "task": task, "number": number}
            page = self._do(lambda connection: connection.execute(query, place, binary=True).fetchall())  # noqa: B023
            for found in page:
                yield row_of(job_uid, found)
            if len(page) < rows:
                return
            row, task, number = page[-1][:3]

    def sums(self, by: str, uids: Sequence[str] = (), but: Sequence[LedgerRow] = ()) -> Summed:
        """See Sums.sums."""
        query, key = sums_query(by, "ergates.", _LABEL, "j.uid = ANY(%s)" if uids else "true")
        values = ([key, key] if key is not None else []) + ([list(uids)] if uids else [])

        def read(connection: Connection) -> Summed:
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                sums = [sums_from(row) for row in connection.execute(query, values).fetchall()]
                there = _there(connection, but)
            missing = tuple(row for row in but if (row.job_uid, row.task, row.attempt.number) not in there)
            return Summed(sums=merged_sums(sums), missing=missing)

        return self._do(read)

    # --- the connection -----------------------------------------------------------------------

    def _do(self, call: Callable[[Connection], T]) -> T:
        """Every call here may be made twice: one whose connection had died while idle is made again on a new one."""
        import psycopg

        for fresh in (self._connection is None, True):
            connection = self._connected()
            try:
                return call(connection)
            except psycopg.Error as error:
                broken = connection.broken or connection.closed
                if broken:
                    self.close()
                if fresh or not broken:
                    raise in_words(error, self._address) from error
        raise AssertionError("unreachable: the second try is always fresh")

    def _connected(self) -> Connection:
        import psycopg

        if self._connection is None:
            address = self._address
            secrets = {"password": address.password, "sslpassword": address.ssl_password}
            options = _DEFAULTS | dict(address.server) | {name: value for name, value in secrets.items() if value}
            try:
                connection = psycopg.connect("", autocommit=True, prepare_threshold=None, **options)  # type: ignore[arg-type]
            except psycopg.Error as error:
                raise connecting_in_words(error, address) from None  # the cause may hold the parameters
            try:
                prepare_schema(connection, str(address))
            except psycopg.Error as error:
                connection.close()
                raise in_words(error, address) from error
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection


def _write(connection: Connection, batch: DrainBatch) -> int:
    with connection.transaction():
        connection.execute(_DURABLE)
        # In one order, so that two writers of the same jobs wait for each other instead of locking each other out.
        with connection.cursor() as cursor:
            cursor.executemany(_JOB_UPSERT, [job_columns(job) for job in sorted(batch.jobs, key=lambda job: job.uid)])
        if not batch.rows:
            return 0
        numbers = _numbers(connection, {row.job_uid for row in batch.rows})
        connection.execute(_NEW)
        with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.set_types(list(ATTEMPT_TYPES.values()))
            for row in batch.rows:
                copy.write_row(attempt_columns(numbers[row.job_uid], row))
        new = connection.execute(_INSERT_ALL).rowcount
        if new < len(batch.rows):
            # What is missing is here already, or it is a success of a task that has one: only that is added.
            new += connection.execute(_INSERT_REPEATS).rowcount
        return new


def _numbers(connection: Connection, uids: set[str]) -> dict[str, int]:
    found = connection.execute("SELECT uid, number FROM ergates.jobs WHERE uid = ANY(%s)", (sorted(uids),)).fetchall()
    numbers: dict[str, int] = dict(found)
    assert numbers.keys() == uids, "a batch names jobs that it does not describe"
    return numbers


def _there(connection: Connection, rows: Sequence[LedgerRow]) -> set[tuple[str, int, int]]:
    if not rows:
        return set()
    found = connection.execute(
        "SELECT j.uid, a.task, a.number FROM unnest(%s::text[], %s::bigint[], %s::integer[]) c(uid, task, number)"
        " JOIN ergates.jobs j ON j.uid = c.uid"
        " JOIN ergates.attempt_rows a ON a.job = j.number AND a.task = c.task AND a.number = c.number",
        ([row.job_uid for row in rows], [row.task for row in rows], [row.attempt.number for row in rows]),
    )
    return {(uid, task, number) for uid, task, number in found}


_ALL = "ergates.attempt_rows a WHERE true"
_OF_FEW_TASKS = """unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) r(first, last)
    JOIN ergates.attempt_rows a ON a.task BETWEEN r.first AND r.last WHERE true"""
_OF_MANY_TASKS = """ergates.attempt_rows a WHERE EXISTS (
    SELECT FROM unnest(%(firsts)s::bigint[], %(lasts)s::bigint[]) r(first, last) WHERE a.task BETWEEN r.first AND r.last)"""
