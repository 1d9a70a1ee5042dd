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
from ergates.taskqueue.ledger_sums import ENERGY_LABELS, LABEL_PREFIX, LedgerSums, added, checked_group
from ergates.units import Nanoseconds

GROUPS = {
    "job": "'j' || (a.task >> 32)",
    "host": "(SELECT text FROM names WHERE id = a.host)",
    "worker": "(SELECT text FROM names WHERE id = a.worker)",
    "outcome": "(SELECT text FROM names WHERE id = a.outcome)",
    "reason": "a.reason",
    "priority": "n.priority",
}
_ENERGY = "CASE e.text WHEN 'unknown' THEN NULL ELSE a.energy_uj END"
_SUMS = f"""count(*), sum(a.outcome = {{won}}), sum(a.wall_ns), sum(a.cpu_ns),
    sum(CASE WHEN a.outcome = {{won}} THEN 0 ELSE a.wall_ns END), sum(CASE WHEN a.outcome = {{won}} THEN 0 ELSE a.cpu_ns END),
    max(a.peak_bytes), sum(a.cost_usd_micros),
    sum(CASE WHEN a.outcome = {{won}} THEN a.cost_usd_micros * 0 ELSE a.cost_usd_micros END),
    sum({_ENERGY}), sum(CASE WHEN a.outcome = {{won}} THEN ({_ENERGY}) * 0 ELSE {_ENERGY} END),
    max(CASE e.text {" ".join(f"WHEN '{label}' THEN {number}" for number, label in enumerate(ENERGY_LABELS))} END)"""
_ATTEMPTS = "attempts a JOIN names e ON e.id = a.energy_label"


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
        """Sums by `job`, `host`, `worker`, `outcome`, `reason`, `priority` or `label:KEY`, sorted by that value.

        Raises:
            UsageError: it cannot be grouped by that.
        """
        numbers = [job_number(job) for job in jobs]
        with self._db.reading() as raw:
            won = raw.execute("SELECT id FROM names WHERE text = ?", (Outcome.SUCCEEDED.value,)).fetchone()
            sums = _SUMS.format(won=won[0] if won else -1)
            where = " OR ".join(f"a.task >> 32 = {number}" for number in numbers) or "1"
            if checked_group(by, GROUPS) not in GROUPS:
                return self._by_label(by.removeprefix(LABEL_PREFIX), sums, where)
            join = "JOIN tasks t ON t.row = a.task JOIN lanes n ON n.id = t.lane" if by == "priority" else ""
            rows = raw.execute(
                f"SELECT {GROUPS[by]} AS value, {sums} FROM {_ATTEMPTS} {join} WHERE {where} GROUP BY value"
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
            f" {sums} FROM {_ATTEMPTS} JOIN tasks t ON t.row = a.task WHERE {where} GROUP BY t.profile, own"
        )
        totals: dict[str, LedgerSums] = {}
        for value, columns in self._labelled(key, rows.fetchall()):
            row = _sums(value, columns)
            totals[value] = added(totals[value], row) if value in totals else row
        return tuple(totals[value] for value in sorted(totals))

    def _labelled(self, key: str, rows: Sequence[Sequence[Any]]) -> Iterator[tuple[str, Sequence[Any]]]:
        decoder = SpecDecoder(self._db)
        for profile, own, *columns in rows:
            yield decoder.labels(profile, own).get(key, ""), columns


def _sums(value: str, columns: Sequence[Any]) -> LedgerSums:
    (
        attempts, succeeded, wall_ns, cpu_ns, wasted_wall_ns, wasted_cpu_ns, peak_bytes, cost, wasted_cost, energy,
        wasted_energy, energy_label,
    ) = columns  # fmt: skip
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
        wasted_cost_usd_micros=wasted_cost,
        energy_uj=energy,
        wasted_energy_uj=wasted_energy,
        energy_label=ENERGY_LABELS[energy_label or 0],
    )


def _natural(row: LedgerSums) -> int:
    return int(row.group.removeprefix("j"))
