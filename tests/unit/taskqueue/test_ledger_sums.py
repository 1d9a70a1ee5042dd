"""Sums of attempts, without any database."""

from __future__ import annotations

import pytest

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.usage import Usage
from ergates.errors import UsageError
from ergates.taskqueue.ledger_sums import LedgerSums, added, checked_group, merged_sums, sums_of, total_of
from ergates.units import Bytes, Microjoules, Nanoseconds, UsdMicros


def attempt(outcome: Outcome, cost: int | None = None, energy: int | None = None, label: str = "measured") -> Attempt:
    usage = Usage(
        wall_ns=Nanoseconds(10),
        cpu_ns=Nanoseconds(8),
        peak_bytes=Bytes(100),
        cost_usd_micros=None if cost is None else UsdMicros(cost),
        energy_uj=Microjoules(energy or 0),
        energy_label="unknown" if energy is None else label,  # type: ignore[arg-type]
    )
    return Attempt(number=1, outcome=outcome, usage=usage)


def test_what_succeeded_is_not_wasted() -> None:
    good = sums_of(attempt(Outcome.SUCCEEDED, 5, 70), "g")
    bad = sums_of(attempt(Outcome.EVICTED, 2, 30, "estimated"), "g")
    assert (good.succeeded, good.wasted_wall_ns, good.wasted_cost_usd_micros, good.wasted_energy_uj) == (1, 0, 0, 0)
    assert (bad.succeeded, bad.wasted_wall_ns, bad.wasted_cost_usd_micros, bad.wasted_energy_uj) == (0, 10, 2, 30)
    assert added(good, bad) == LedgerSums(
        group="g", attempts=2, succeeded=1, wall_ns=20, cpu_ns=16, wasted_wall_ns=10, wasted_cpu_ns=8, peak_bytes=100,
        cost_usd_micros=7, wasted_cost_usd_micros=2, energy_uj=100, wasted_energy_uj=30, energy_label="estimated",
    )  # fmt: skip


def test_what_is_not_known_stays_so() -> None:
    unknown, known = sums_of(attempt(Outcome.FAILED), "g"), sums_of(attempt(Outcome.FAILED, 0, 0), "g")
    both = added(unknown, unknown)
    assert both.cost_usd_micros is both.wasted_cost_usd_micros is both.energy_uj is both.wasted_energy_uj is None
    assert both.energy_label == "unknown"
    assert added(unknown, known).cost_usd_micros == added(known, unknown).energy_uj == 0
    assert added(known, unknown).energy_label == "measured"


def test_groups_are_merged_and_sorted_and_totalled() -> None:
    sums = merged_sums(sums_of(attempt(Outcome.FAILED), group) for group in "bab")
    assert [(entry.group, entry.attempts) for entry in sums] == [("a", 1), ("b", 2)]
    total = total_of(sums)
    assert total is not None and (total.group, total.attempts, total.wall_ns) == ("all", 3, 30)
    assert total_of(()) is None


@pytest.mark.parametrize("by", ["label:x", "job", "reason"])
def test_groups_there_are(by: str) -> None:
    assert checked_group(by) == by


@pytest.mark.parametrize("by", ["label:", "label", "priority", ""])
def test_groups_there_are_not(by: str) -> None:
    with pytest.raises(UsageError, match="cannot group by"):
        checked_group(by)
