"""Sums over attempts, as a report shows them: what was used, and how much of it was wasted.

Wasted is what attempts used that gave no result: all that did not succeed, and a success of a task that had succeeded before.
Databases sum with SQL; the few attempts that are not in one yet are summed here, and both are added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct, structs

from ergates.cluster.attempt import Attempt, Outcome
from ergates.errors import UsageError
from ergates.taskqueue.ledger import LedgerRow

LABEL_PREFIX = "label:"
LEDGER_GROUPS = ("job", "host", "worker", "outcome", "reason", "queue")
"""What attempts of a ledger can be grouped by, besides `label:KEY`."""
ENERGY_LABELS = ("unknown", "measured", "modelled", "estimated")
"""How joules were obtained, the best known first: a sum is only as good as the worst that is in it."""


class LedgerSums(Struct, frozen=True, kw_only=True):
    """Sums of the attempts that share one value of what was grouped by.

    Args:
        group: the value: a job, a host, the value of a label (empty for tasks without it), ...
        attempts: how many; several can belong to one task.
        succeeded: those that gave their task its result, at most one for each.
        wasted_wall_ns, wasted_cpu_ns: of attempts that gave no result.
        peak_bytes: the highest peak of one attempt.
        cost_usd_micros, wasted_cost_usd_micros: None when no attempt had a price.
        energy_uj, wasted_energy_uj: None when nothing is known of any attempt's energy.
        energy_label: how the worst known part of the energy was obtained.
    """

    group: str
    attempts: int
    succeeded: int
    wall_ns: int
    cpu_ns: int
    wasted_wall_ns: int
    wasted_cpu_ns: int
    peak_bytes: int
    cost_usd_micros: int | None = None
    wasted_cost_usd_micros: int | None = None
    energy_uj: int | None = None
    wasted_energy_uj: int | None = None
    energy_label: str = "unknown"


class Sums(Protocol):
    """What a ledger offers to a report."""

    def sums(self, by: str, uids: Sequence[str] = (), but: Sequence[LedgerRow] = ()) -> Summed:
        """Sums over all attempts, or over those of some jobs, of one moment.

        Args:
            by: one of LEDGER_GROUPS, or `label:KEY`. For `job` the groups are uids.
            uids: of jobs; empty means all.
            but: rows the caller has at hand; the answer says which of them the ledger did not have at that moment.

        Raises:
            UsageError: it cannot be grouped by that.
        """
        ...


class Summed(Struct, frozen=True, kw_only=True):
    """`missing` are the rows asked about that are not in the sums."""

    sums: tuple[LedgerSums, ...]
    missing: tuple[LedgerRow, ...] = ()


def checked_group(by: str, groups: Iterable[str] = LEDGER_GROUPS) -> str:
    """`by` itself, or UsageError that says what there is."""
    if by in groups or (by.startswith(LABEL_PREFIX) and len(by) > len(LABEL_PREFIX)):
        return by
    raise UsageError(f"cannot group by {by!r}: expected {', '.join(groups)} or label:KEY")


def sums_of(attempt: Attempt, group: str) -> LedgerSums:
    """The sums of one attempt."""
    usage = attempt.usage
    succeeded = attempt.outcome is Outcome.SUCCEEDED
    energy = None if usage.energy_label == "unknown" else int(usage.energy_uj)
    cost = usage.cost_usd_micros
    return LedgerSums(
        group=group,
        attempts=1,
        succeeded=int(succeeded),
        wall_ns=usage.wall_ns,
        cpu_ns=usage.cpu_ns,
        wasted_wall_ns=0 if succeeded else usage.wall_ns,
        wasted_cpu_ns=0 if succeeded else usage.cpu_ns,
        peak_bytes=usage.peak_bytes,
        cost_usd_micros=cost,
        wasted_cost_usd_micros=cost if cost is None or not succeeded else 0,
        energy_uj=energy,
        wasted_energy_uj=energy if energy is None or not succeeded else 0,
        energy_label=usage.energy_label,
    )


def added(one: LedgerSums, other: LedgerSums) -> LedgerSums:
    """Both together, under the name of the first."""
    return LedgerSums(
        group=one.group,
        attempts=one.attempts + other.attempts,
        succeeded=one.succeeded + other.succeeded,
        wall_ns=one.wall_ns + other.wall_ns,
        cpu_ns=one.cpu_ns + other.cpu_ns,
        wasted_wall_ns=one.wasted_wall_ns + other.wasted_wall_ns,
        wasted_cpu_ns=one.wasted_cpu_ns + other.wasted_cpu_ns,
        peak_bytes=max(one.peak_bytes, other.peak_bytes),
        cost_usd_micros=_known(one.cost_usd_micros, other.cost_usd_micros),
        wasted_cost_usd_micros=_known(one.wasted_cost_usd_micros, other.wasted_cost_usd_micros),
        energy_uj=_known(one.energy_uj, other.energy_uj),
        wasted_energy_uj=_known(one.wasted_energy_uj, other.wasted_energy_uj),
        energy_label=max(one.energy_label, other.energy_label, key=ENERGY_LABELS.index),
    )


def merged_sums(sums: Iterable[LedgerSums]) -> tuple[LedgerSums, ...]:
    """One entry a group, sorted by it."""
    together: dict[str, LedgerSums] = {}
    for entry in sums:
        known = together.get(entry.group)
        together[entry.group] = entry if known is None else added(known, entry)
    return tuple(together[group] for group in sorted(together))


def total_of(sums: Sequence[LedgerSums]) -> LedgerSums | None:
    """All groups together, named `all`; None of nothing."""
    total: LedgerSums | None = None
    for entry in sums:
        total = entry if total is None else added(total, entry)
    return None if total is None else structs.replace(total, group="all")


def _known(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
