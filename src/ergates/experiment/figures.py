"""What a figure shows: its panels, the lines or groups of each, and for every point the statistic, its interval, each repetition.

Pure: a table in, numbers out; drawing is elsewhere. Runs of different points are never thrown together: an axis that a figure
does not name makes lines of its own. Only in an `ecdf` all runs of a line are one sample, and the figure says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

from msgspec import Struct, structs

from ergates.experiment.layout import shown_value
from ergates.experiment.measure import Cell
from ergates.experiment.spec import Experiment, Figure, Value
from ergates.experiment.statistics.bootstrap import Statistic
from ergates.experiment.statistics.samples import Point, groups_of, is_number, sample_of, values_of
from ergates.experiment.table import Table, ok_rows

Shape = Literal["line", "bar", "box", "ecdf"]
_INTERVAL_LEAST = 4
"""Repetitions from which an interval is drawn; below, lowest and highest are."""
_DEFAULT_PANELS_MOST = 9


class Mark(Struct, frozen=True, kw_only=True):
    """One point of a line: `values` are its repetitions, `low` and `high` the ends of what is drawn around `y`."""

    x: Value
    y: float
    low: float
    high: float
    values: tuple[float, ...]


class Series(Struct, frozen=True, kw_only=True):
    """One line, or the bars or boxes of one colour; `number` is the same in all panels."""

    label: str
    number: int
    marks: tuple[Mark, ...]


class Panel(Struct, frozen=True, kw_only=True):
    """One pair of axes."""

    title: str
    series: tuple[Series, ...]


class Drawing(Struct, frozen=True, kw_only=True):
    """A figure, ready to be drawn.

    Args:
        shape: of the marks; x is a number for lines, a place in `places` otherwise.
        places: values of x, in order.
        notes: what a reader must know to read it: statistic, interval, repetitions, what is left out.
    """

    name: str
    shape: Shape
    title: str
    x_label: str
    y_label: str
    log_x: bool
    log_y: bool
    places: tuple[Value, ...]
    legend: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...]


def figures_of(experiment: Experiment, table: Table) -> tuple[Figure, ...]:
    """Those of the file; when it has none, one of every measure that is a number."""
    return experiment.figures or default_figures(experiment, table)


def default_figures(experiment: Experiment, table: Table) -> tuple[Figure, ...]:
    """Every measure over the numeric axis with most values, a line for each value of the axis with most of the rest.

    A third axis makes panels. Without a numeric axis the one with most values makes groups of bars.
    """
    counts = {axis: len(values_of(table, experiment, axis)) for axis in table.names("axis")}
    swept = [axis for axis, count in sorted(counts.items(), key=lambda each: -each[1]) if count > 1]
    numeric = [axis for axis in swept if is_number(table, axis)]
    x = (numeric or swept or [""])[0]
    rest = [axis for axis in swept if axis != x]
    by = (rest or [""])[0]
    panels = next((axis for axis in rest[1:] if counts[axis] <= _DEFAULT_PANELS_MOST), "")
    log_x = bool(x) and is_number(table, x) and _geometric(values_of(table, experiment, x))
    return tuple(
        Figure(name=measure.name, x=x, y=measure.name, by=by, panels=panels, log_x=log_x)
        for measure in experiment.measures
        if is_number(table, measure.name)
    )


def drawing_of(figure: Figure, experiment: Experiment, table: Table) -> Drawing:
    """The numbers of one figure.

    Args:
        figure: its x, by and panels are axes of the table or empty; its y is a measure.
        experiment: whose units and order of values.
        table: of all finished runs.
    """
    shape = _shape(figure, table)
    axes = [axis for axis in table.names("axis") if len(values_of(table, experiment, axis)) > 1]
    placed = () if shape == "ecdf" else (figure.x,)
    lines = [axis for axis in (figure.by, *axes) if axis in axes and axis not in (*placed, figure.panels)]
    if shape == "ecdf":  # all runs of a line are one sample
        lines = [figure.by] if figure.by else []
    lines = list(dict.fromkeys(lines))
    labels = [_label(point, figure.by) for point in groups_of(table, experiment, lines)]
    panels = []
    for panel_point, rows in groups_of(table, experiment, [figure.panels] if figure.panels else []).items():
        own = structs.replace(table, rows=tuple(rows))
        series = [
            Series(label=label, number=labels.index(label), marks=marks)
            for point, group in groups_of(own, experiment, lines).items()
            if (marks := _marks(figure, shape, experiment, structs.replace(table, rows=tuple(group))))
            for label in (_label(point, figure.by),)
        ]
        panels.append(Panel(title=_label(panel_point, ""), series=tuple(series)))
    return Drawing(
        name=figure.name,
        shape=shape,
        title=figure.title or figure.name.replace("_", " "),
        x_label=_with_unit(table, figure.y if shape == "ecdf" else figure.x),
        y_label="share of runs at or below" if shape == "ecdf" else _with_unit(table, figure.y),
        log_x=figure.log_x,
        log_y=figure.log_y,
        places=tuple(values_of(table, experiment, figure.x)) if figure.x and shape != "ecdf" else ("",),
        legend=figure.by if lines == [figure.by] else "",
        panels=tuple(panels),
        notes=_notes(figure, shape, experiment, table, panels, axes),
    )


def _shape(figure: Figure, table: Table) -> Shape:
    if figure.kind:
        shape: Shape = figure.kind
        return "bar" if shape == "line" and not is_number(table, figure.x) else shape
    return "line" if figure.x and is_number(table, figure.x) else "bar"


def _marks(figure: Figure, shape: Shape, experiment: Experiment, table: Table) -> tuple[Mark, ...]:
    statistic, confidence = statistic_shown(experiment)
    marks = []
    x_axes = [figure.x] if figure.x and shape != "ecdf" else []
    for point, rows in groups_of(table, experiment, x_axes).items():
        values = _plain_numbers(rows, figure.y)
        if not values:
            continue
        if shape in ("ecdf", "box"):
            x: Value = point[0][1] if point else ""
            marks.append(Mark(x=x, y=values[0], low=min(values), high=max(values), values=tuple(values)))
            continue
        sample = sample_of(rows, figure.y, statistic, confidence, f"{experiment.seed}/{figure.y}/{point}/figure")
        assert sample.value is not None and sample.low is not None and sample.high is not None
        around = sample.interval if len(values) >= _INTERVAL_LEAST else None
        marks.append(
            Mark(
                x=point[0][1] if point else "",
                y=sample.value,
                low=sample.low if around is None else around.low,
                high=sample.high if around is None else around.high,
                values=tuple(values),
            )
        )
    return tuple(marks)


def _plain_numbers(rows: Sequence[Mapping[str, Cell]], name: str) -> list[float]:
    """Of runs that count; a list (`combine = "list"`) gives all its numbers."""
    cells = [row[name] for row in rows if row["ok"] is True]
    flat = [each for cell in cells for each in (cell if isinstance(cell, list) else [cell])]
    return [float(each) for each in flat if isinstance(each, int | float) and not isinstance(each, bool)]


def statistic_shown(experiment: Experiment) -> tuple[Statistic, float]:
    """Of `[compare]`, so that figures and comparison agree; without it the median and 0.95."""
    chosen = experiment.comparison
    return ("median", 0.95) if chosen is None else (chosen.statistic, chosen.confidence)


def _notes(
    figure: Figure, shape: Shape, experiment: Experiment, table: Table, panels: Sequence[Panel], axes: Sequence[str]
) -> tuple[str, ...]:
    notes = []
    counts = {len(mark.values) for panel in panels for series in panel.series for mark in series.marks}
    if counts and shape == "ecdf":
        pooled = " and ".join(axis for axis in axes if axis not in (figure.by, figure.panels))
        notes.append(f"{_range(counts)} values a line" + (f", over every {pooled}" if pooled else ""))
    elif counts and shape == "box":
        notes.append(f"{_repetitions(counts)}; box: quartiles; whiskers: at most 1.5 times its height")
    elif counts:
        notes.append(_meaning(*statistic_shown(experiment), counts))
    failed = len(table.rows) - len(ok_rows(table))
    if failed:
        notes.append(f"{failed} failed run{'s' if failed > 1 else ''} left out")
    if any(row.get("simulated") is True for row in table.rows):
        notes.append("simulated hosts")
    return tuple(notes)


def _meaning(statistic: Statistic, confidence: float, counts: set[int]) -> str:
    """Of a point and of the bar around it."""
    text = f"{statistic} of {_repetitions(counts)}"
    if max(counts) == 1:
        return text
    if max(counts) < _INTERVAL_LEAST or statistic in ("min", "max"):
        return f"{text}; whiskers: lowest to highest"
    below = f" (lowest to highest where fewer than {_INTERVAL_LEAST})" if min(counts) < _INTERVAL_LEAST else ""
    return f"{text}; whiskers: {confidence * 100:g} % bootstrap interval{below}"


def _repetitions(counts: set[int]) -> str:
    return f"{_range(counts)} repetition{'' if max(counts) == 1 else 's'}"


def _range(counts: set[int]) -> str:
    return f"{max(counts):,}" if len(counts) == 1 else f"{min(counts):,} to {max(counts):,}"


def _label(point: Point, by: str) -> str:
    """`darc, cap=90`: the value alone for the axis that the legend's heading names."""
    if len(point) == 1 and by:
        return place_words(point[0][1])
    return ", ".join(
        value if axis == by and isinstance(value, str) else f"{axis}={place_words(value)}" for axis, value in point
    )


def place_words(value: Value) -> str:
    """A value of an axis: a whole number among fractions is `1`, not `1.0`."""
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 1e15
    return f"{value:.0f}" if whole else shown_value(value)


def _with_unit(table: Table, name: str) -> str:
    unit = next((column.unit for column in table.columns if column.name == name), "")
    words = name.replace("_", " ")
    return f"{words} [{unit}]" if unit else words


def _geometric(values: Sequence[Value]) -> bool:
    """Whether a logarithmic axis would space them evenly: 1, 2, 4, 8 or 10, 30, 100."""
    numbers = [float(value) for value in values]
    if len(numbers) < 3 or numbers[0] <= 0 or numbers[-1] < 8 * numbers[0]:
        return False
    steps = [math.log(after / before) for before, after in pairwise(numbers)]
    return max(steps) <= 2 * min(steps)
