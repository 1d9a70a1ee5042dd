"""Sums over the ledger, grouped as a report needs them; and the workers of a store.

Unlike `status` these scan the attempts of the jobs they are asked about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from ergates.cluster.attempt import Outcome
from ergates.cluster.node import WorkerInfo
from ergates.cluster.task import JobId
from ergates.drivers.stores.sqlite_connection import StoreConnection
from ergates.drivers.stores.sqlite_records import SpecDecoder, job_number
from ergates.drivers.stores.sqlite_workers import worker_info
from ergates.errors import UsageError
from ergates.units import Nanoseconds

LABEL_PREFIX = "label:"
GROUPS = {
    "job": "'j' || (a.task >> 32)",
    "host": "(SELECT text FROM names WHERE id = a.host)",
    "worker": "(SELECT text FROM names WHERE id = a.worker)",
    "outcome": "(SELECT text FROM names WHERE id = a.outcome)",
    "priority": "n.priority",
}
_SUMS = """count(*), sum(a.outcome = {won}), sum(a.wall_ns), sum(a.cpu_ns),
    sum(CASE WHEN a.outcome = {won} THEN 0 ELSE a.wall_ns END), sum(CASE WHEN a.outcome = {won} THEN 0 ELSE a.cpu_ns END),
    max(a.peak_bytes), sum(a.cost_usd_micros)"""


class LedgerSums(msgspec.Struct, frozen=True, kw_only=True):
    """Sums of the attempts that share one value of what was grouped by.

    Args:
        group: the value: a job, a host, the value of a label (empty for tasks without it), ...
        attempts, succeeded: how many; several attempts can belong to one task, at most one of them succeeded.
        wasted_wall_ns, wasted_cpu_ns: of attempts that did not end in success.
        peak_bytes: the highest peak of one attempt.
        cost_usd_micros: None when no attempt had a price.
    """

    group: str
    attempts: int
    succeeded: int
    wall_ns: int
    cpu_ns: int
    wasted_wall_ns: int
    wasted_cpu_ns: int
    peak_bytes: int
    cost_usd_micros: int | None


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as the store knows it. `standing`: live, condemned (silent), reaped (its tasks were taken) or left."""

    info: WorkerInfo
    standing: str
    registered_ns: Nanoseconds
    beat_ns: Nanoseconds
    leases: int


class SqliteReport:
    """Reads the ledger of one store. `SqliteReport(store.connection()).sums("host")`."""

    def __init__(self, db: StoreConnection) -> None:
        self._db = db

    def sums(self, by: str, jobs: Sequence[JobId] = ()) -> tuple[LedgerSums, ...]:
        """Sums by `job`, `host`, `worker`, `outcome`, `priority` or `label:KEY`, sorted by that value.

        Raises:
            UsageError: it cannot be grouped by that.
        """
        numbers = [job_number(job) for job in jobs]
        with self._db.reading() as raw:
            won = raw.execute("SELECT id FROM names WHERE text = ?", (Outcome.SUCCEEDED.value,)).fetchone()
            sums = _SUMS.format(won=won[0] if won else -1)
            where = " OR ".join(f"a.task >> 32 = {number}" for number in numbers) or "1"
            if by.startswith(LABEL_PREFIX) and len(by) > len(LABEL_PREFIX):
                return self._by_label(by.removeprefix(LABEL_PREFIX), sums, where)
            if by not in GROUPS:
                raise UsageError(f"cannot group by {by!r}: expected {', '.join(GROUPS)} or label:KEY")
            join = "JOIN tasks t ON t.row = a.task JOIN lanes n ON n.id = t.lane" if by == "priority" else ""
            rows = raw.execute(
                f"SELECT {GROUPS[by]} AS value, {sums} FROM attempts a {join} WHERE {where} GROUP BY value"
            ).fetchall()
        ordered: Callable[[LedgerSums], Any] = _natural if by in ("job", "priority") else (lambda row: row.group)
        return tuple(sorted((_sums(str(value), columns) for value, *columns in rows), key=ordered))

    def workers(self) -> tuple[WorkerView, ...]:
        """All workers that ever registered, newest first."""
        with self._db.reading() as raw:
            rows = raw.execute(
                "SELECT info, standing, registered_ns, beat_ns, (SELECT count(*) FROM leases l WHERE l.worker = w.id)"
                " FROM workers w ORDER BY registered_ns DESC, id DESC"
            ).fetchall()
        return tuple(
            WorkerView(
                info=worker_info(info),
                standing=standing,
                registered_ns=Nanoseconds(registered_ns),
                beat_ns=Nanoseconds(self._db.to_caller_time(beat_ns)),
                leases=leases,
            )
            for info, standing, registered_ns, beat_ns, leases in rows
        )

    def _by_label(self, key: str, sums: str, where: str) -> tuple[LedgerSums, ...]:
        """Grouped by profile in SQL; tasks whose labels are their own (`profile` 0 and `extra`) one by one."""
        rows = self._db.raw.execute(
            "SELECT t.profile, CASE WHEN t.profile = 0 THEN t.extra END AS own,"
            f" {sums} FROM attempts a JOIN tasks t ON t.row = a.task WHERE {where} GROUP BY t.profile, own"
        )
        totals: dict[str, LedgerSums] = {}
        for value, columns in self._labelled(key, rows.fetchall()):
            row = _sums(value, columns)
            totals[value] = _added(totals[value], row) if value in totals else row
        return tuple(totals[value] for value in sorted(totals))

    def _labelled(self, key: str, rows: Sequence[Sequence[Any]]) -> Iterator[tuple[str, Sequence[Any]]]:
        decoder = SpecDecoder(self._db)
        for profile, own, *columns in rows:
            yield decoder.labels(profile, own).get(key, ""), columns


def _sums(value: str, columns: Sequence[Any]) -> LedgerSums:
    attempts, succeeded, wall_ns, cpu_ns, wasted_wall_ns, wasted_cpu_ns, peak_bytes, cost = columns
    return LedgerSums(
        group=value,
        attempts=attempts,
        succeeded=succeeded,
        wall_ns=wall_ns,
        cpu_ns=cpu_ns,
        wasted_wall_ns=wasted_wall_ns,
        wasted_cpu_ns=wasted_cpu_ns,
        peak_bytes=peak_bytes,
        cost_usd_micros=cost,
    )


def _added(one: LedgerSums, other: LedgerSums) -> LedgerSums:
    costs = [row.cost_usd_micros for row in (one, other) if row.cost_usd_micros is not None]
    return LedgerSums(
        group=one.group,
        attempts=one.attempts + other.attempts,
        succeeded=one.succeeded + other.succeeded,
        wall_ns=one.wall_ns + other.wall_ns,
        cpu_ns=one.cpu_ns + other.cpu_ns,
        wasted_wall_ns=one.wasted_wall_ns + other.wasted_wall_ns,
        wasted_cpu_ns=one.wasted_cpu_ns + other.wasted_cpu_ns,
        peak_bytes=max(one.peak_bytes, other.peak_bytes),
        cost_usd_micros=sum(costs) if costs else None,
    )


def _natural(row: LedgerSums) -> int:
    return int(row.group.removeprefix("j"))
