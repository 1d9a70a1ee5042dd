"""The SQL of sums, the same for every kind of ledger but for the name of the schema and the way to read a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ergates.drivers.ledgers.rows import SUCCEEDED
from ergates.taskqueue.ledger_sums import ENERGY_LABELS, LABEL_PREFIX, LedgerSums, checked_group

_GROUPS = {
    "job": "j.uid",
    "host": "a.host",
    "worker": "a.worker",
    "outcome": "a.outcome",
    "reason": "a.reason",
    "queue": "j.queue",
}
_USEFUL = f"a.outcome = '{SUCCEEDED}' AND NOT a.repeat"
_ENERGY = "CASE WHEN a.energy_label <> 'unknown' THEN {} END"
_SUMS = ", ".join(
    (
        "count(*)",
        f"sum(CASE WHEN {_USEFUL} THEN 1 ELSE 0 END)",
        "sum(a.wall_ns)",
        "sum(a.cpu_ns)",
        f"sum(CASE WHEN {_USEFUL} THEN 0 ELSE a.wall_ns END)",
        f"sum(CASE WHEN {_USEFUL} THEN 0 ELSE a.cpu_ns END)",
        "max(a.peak_bytes)",
        "sum(a.cost_usd_micros)",
        f"sum(CASE WHEN {_USEFUL} THEN a.cost_usd_micros * 0 ELSE a.cost_usd_micros END)",
        f"sum({_ENERGY.format('a.energy_uj')})",
        f"sum({_ENERGY.format(f'CASE WHEN {_USEFUL} THEN 0 ELSE a.energy_uj END')})",
        "max(CASE a.energy_label "
        + " ".join(f"WHEN '{label}' THEN {number}" for number, label in enumerate(ENERGY_LABELS))
        + " END)",
    )
)


def sums_query(by: str, schema: str, label: str, jobs: str) -> tuple[str, str | None]:
    """The query, and the label's key when it groups by one.

    Args:
        by: a name of `_GROUPS`, or `label:KEY`.
        schema: prefix of the tables' names.
        label: expression for the value of a label, with the placeholders for its key; '' where there is none.
        jobs: condition that chooses jobs.

    Raises:
        UsageError: it cannot be grouped by that.
    """
    checked_group(by, _GROUPS)
    key = None if by in _GROUPS else by.removeprefix(LABEL_PREFIX)
    group = label if key is not None else _GROUPS[by]
    tables = f"{schema}attempt_rows a JOIN {schema}jobs j ON j.number = a.job"
    return f"SELECT {group} AS value, {_SUMS} FROM {tables} WHERE {jobs} GROUP BY value", key


def sums_from(columns: Sequence[Any]) -> LedgerSums:
    """One line of the answer; PostgreSQL's sums are decimals."""
    group, *numbers = columns
    (
        attempts, succeeded, wall, cpu, wasted_wall, wasted_cpu, peak, cost, wasted_cost, energy, wasted_energy, label,
    ) = (None if number is None else int(number) for number in numbers)  # fmt: skip
    return LedgerSums(
        group=group,
        attempts=attempts or 0,
        succeeded=succeeded or 0,
        wall_ns=wall or 0,
        cpu_ns=cpu or 0,
        wasted_wall_ns=wasted_wall or 0,
        wasted_cpu_ns=wasted_cpu or 0,
        peak_bytes=peak or 0,
        cost_usd_micros=cost,
        wasted_cost_usd_micros=wasted_cost,
        energy_uj=energy,
        wasted_energy_uj=wasted_energy,
        energy_label=ENERGY_LABELS[label or 0],
    )
