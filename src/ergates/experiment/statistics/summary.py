"""What the repetitions of each point look like by themselves: how many, mean, spread, median, extremes. Nothing is compared."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median, stdev

from msgspec import Struct

from ergates.experiment.measure import Cell
from ergates.experiment.spec import Experiment
from ergates.experiment.statistics.samples import Point, groups_of, is_number, ok_of
from ergates.experiment.table import Table, numbers_of


class Summary(Struct, frozen=True, kw_only=True):
    """One measure at one point.

    Args:
        repetitions: that count; `failed` are those that do not.
        deviation: standard deviation of the repetitions (n - 1); None for fewer than two.
        mean, median, low, high: None when no repetition counts.
    """

    measure: str
    unit: str
    point: Point
    repetitions: int
    failed: int
    mean: float | None = None
    deviation: float | None = None
    median: float | None = None
    low: float | None = None
    high: float | None = None


def summaries_of(table: Table, experiment: Experiment, measures: Sequence[str] = ()) -> tuple[Summary, ...]:
    """Measure by measure, points in the order of the file; measures without numbers are left out.

    Args:
        table: of the finished runs.
        experiment: whose axes and units they are.
        measures: only these; empty for all.
    """
    units = {measure.name: measure.unit for measure in experiment.measures}
    groups = groups_of(table, experiment, table.names("axis"))
    return tuple(
        _of_point(name, units.get(name, ""), point, rows)
        for name in measures or table.names("measure")
        if is_number(table, name)
        for point, rows in groups.items()
    )


def _of_point(name: str, unit: str, point: Point, rows: Sequence[dict[str, Cell]]) -> Summary:
    ok = ok_of(rows)
    values = numbers_of(ok, name)
    failed = len(rows) - len(ok)
    if not values:
        return Summary(measure=name, unit=unit, point=point, repetitions=0, failed=failed)
    return Summary(
        measure=name,
        unit=unit,
        point=point,
        repetitions=len(values),
        failed=failed,
        mean=fmean(values),
        deviation=stdev(values) if len(values) > 1 else None,
        median=median(values),
        low=min(values),
        high=max(values),
    )
