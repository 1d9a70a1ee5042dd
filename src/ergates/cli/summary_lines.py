"""Repetitions of each point on the terminal, one table a measure. Pure: summaries in, lines out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ergates.cli.tables import Column, clean, table_lines
from ergates.cli.wording import count, shortened
from ergates.experiment.layout import shown_value
from ergates.experiment.statistics.findings import number_words
from ergates.experiment.statistics.summary import Summary


def summary_lines(summaries: Sequence[Summary], width: int) -> list[str]:
    """Under a heading for each measure: every point with its repetitions, mean, deviation, median and extremes."""
    lines: list[str] = []
    for _, group in groupby(summaries, key=lambda each: each.measure):
        lines += ["", *_of_measure(list(group), width)]
    return lines[1:]


def _of_measure(summaries: list[Summary], width: int) -> list[str]:
    first = summaries[0]
    columns = (
        *(Column(name, "right") for name, _ in first.point),
        *(Column(name, "right") for name in ("n", "mean", "deviation", "median", "min", "max")),
        Column("", elastic=True),
    )
    unit = f" [{first.unit}]" if first.unit else ""
    return [
        shortened(clean(f"{first.measure}{unit}: the repetitions of each point"), width),
        *table_lines(columns, [_row(each) for each in summaries], width),
    ]


def _row(each: Summary) -> tuple[str, ...]:
    figures = (each.mean, each.deviation, each.median, each.low, each.high)
    return (
        *(shown_value(value) for _, value in each.point),
        count(each.repetitions),
        *("-" if figure is None else number_words(figure) for figure in figures),
        f"{count(each.failed)} failed" if each.failed else "",
    )
