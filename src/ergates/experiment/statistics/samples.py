"""Runs that belong together: those of one point, in the order of the file, and what stands for their repetitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from ergates.experiment.measure import Cell
from ergates.experiment.spec import Experiment, Value
from ergates.experiment.statistics.bootstrap import Interval, Statistic, interval_of, statistic_of
from ergates.experiment.table import Table, as_kind, numbers_of

Point = tuple[tuple[str, Value], ...]
Rows = Sequence[Mapping[str, Cell]]


class Sample(Struct, frozen=True, kw_only=True):
    """One value of the axis at one point.

    Args:
        repetitions: that count; `failed` are those that do not.
        value: the statistic of them; None when there are none.
        interval: of that statistic, by bootstrap; None where there is none.
        low, high: lowest and highest of them.
    """

    repetitions: int
    failed: int
    value: float | None = None
    interval: Interval | None = None
    low: float | None = None
    high: float | None = None


def is_number(table: Table, name: str) -> bool:
    """Whether a column has numbers that a statistic can be made of."""
    return any(column.name == name and column.kind in ("integer", "number") for column in table.columns)


def groups_of(table: Table, experiment: Experiment, axes: Sequence[str]) -> dict[Point, list[dict[str, Cell]]]:
    """Rows, failed ones included, by the values of some axes; points in the order in which the file names the values."""
    places = [values_of(table, experiment, axis) for axis in axes]
    groups: dict[Point, list[dict[str, Cell]]] = {}
    for row in table.rows:
        groups.setdefault(tuple((axis, value_of_cell(row[axis])) for axis in axes), []).append(row)
    return dict(
        sorted(groups.items(), key=lambda each: [places[i].index(value) for i, (_, value) in enumerate(each[0])])
    )


def values_of(table: Table, experiment: Experiment, axis: str) -> list[Value]:
    """Of an axis, as the table has them: in the order of the file, then what only the runs know. Numbers go upwards."""
    kind = next(column.kind for column in table.columns if column.name == axis)
    named = [as_kind(value, kind) for each in experiment.sweep if each.name == axis for value in each.values]
    present = dict.fromkeys(value_of_cell(row[axis]) for row in table.rows)
    values = [value for value in dict.fromkeys([*map(value_of_cell, named), *present]) if value in present]
    numbers = [value for value in values if not isinstance(value, str)]
    return [*sorted(numbers), *values[len(numbers) :]] if kind in ("integer", "number") else values


def sample_of(rows: Rows, name: str, statistic: Statistic, confidence: float, seed: str) -> Sample:
    """Of the repetitions of one point."""
    ok = ok_of(rows)
    values = numbers_of(ok, name)
    if not values:
        return Sample(repetitions=0, failed=len(rows) - len(ok))
    return Sample(
        repetitions=len(values),
        failed=len(rows) - len(ok),
        value=statistic_of(statistic, values),
        interval=interval_of(statistic, values, confidence, seed),
        low=min(values),
        high=max(values),
    )


def sides_of(rows: Rows, baseline_rows: Rows, name: str, *, paired: bool) -> tuple[list[float], list[float]]:
    """The numbers of both sides; when paired, those of repetitions that count on both, in the same order."""
    if not paired:
        return numbers_of(ok_of(rows), name), numbers_of(ok_of(baseline_rows), name)
    old = {row["repetition"]: number for row in ok_of(baseline_rows) for number in numbers_of([row], name)}
    both = [
        (number, old[row["repetition"]])
        for row in ok_of(rows)
        if row["repetition"] in old
        for number in numbers_of([row], name)
    ]
    return [number for number, _ in both], [number for _, number in both]


def ok_of(rows: Rows) -> list[Mapping[str, Cell]]:
    """Those that count: no failed run is ever averaged in."""
    return [row for row in rows if row["ok"] is True]


def value_of_cell(cell: Cell) -> Value:
    """A cell of an axis: a run has a value for every axis of its own file, but an older run may lack a new axis."""
    return "" if cell is None or isinstance(cell, list) else cell
