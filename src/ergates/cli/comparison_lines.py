"""A comparison on the terminal: one table a measure, over all points first. Pure: findings in, lines out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ergates.cli.tables import Column, clean, table_lines
from ergates.cli.wording import count, plural, shortened
from ergates.experiment.layout import shown_value
from ergates.experiment.statistics.findings import Finding, effect_words, p_words, sample_words
from ergates.experiment.table import Table, failed_rows

_FAILED_SHOWN = 5


def comparison_lines(findings: Sequence[Finding], width: int) -> list[str]:
    """Under a heading for each measure: who, at which point, both figures, the effect, p, and what follows of it."""
    lines: list[str] = []
    for _, group in groupby(findings, key=lambda finding: finding.measure):
        lines += ["", *_of_measure(list(group), width)]
    return lines[1:]


def _of_measure(findings: list[Finding], width: int) -> list[str]:
    first = findings[0]
    axes = [name for name, _ in max((finding.point for finding in findings), key=len)]
    columns = (
        *(Column(name, "right") for name in axes),
        Column(first.axis),
        Column("n", "right"),
        Column(shown_value(first.baseline), "right"),
        Column("this", "right"),
        Column(f"against {shown_value(first.baseline)}"),
        Column("p", "right"),
        Column("", elastic=True),
    )
    rows = [_row(finding, axes) for finding in findings]
    notes = dict.fromkeys(each.note for each in findings if each.note and each.verdict != "nothing to compare")
    return [
        shortened(clean(_heading(first)), width),
        *table_lines(columns, rows, width),
        *(shortened(clean(f"  {note}"), width) for note in notes),
    ]


def _heading(finding: Finding) -> str:
    unit = f" [{finding.unit}]" if finding.unit else ""
    paired = ", repetition by repetition" if finding.pairs is not None else ""
    interval = (
        f"{finding.confidence * 100:g} % intervals" if finding.statistic in ("mean", "median") else "no intervals"
    )
    return (
        f"{finding.measure}{unit}: {finding.statistic} of repetitions{paired}; {interval}; {finding.better} is better"
    )


def _row(finding: Finding, axes: Sequence[str]) -> tuple[str, ...]:
    at = dict(finding.point)
    new, old = finding.sample.repetitions, finding.baseline_sample.repetitions
    n = count(finding.pairs) if finding.pairs is not None else count(new) if new == old else f"{new}, {old}"
    overall = finding.points is not None
    return (
        *(
            f"all {finding.points}" if overall and number == 0 else "" if overall else shown_value(at[axis])
            for number, axis in enumerate(axes)
        ),
        shown_value(finding.value),
        n,
        "" if overall else sample_words(finding.baseline_sample),
        "" if overall else sample_words(finding.sample),
        effect_words(finding),
        p_words(finding.p_holm).removeprefix("p ").removeprefix("= "),
        finding.note if finding.verdict == "nothing to compare" else finding.verdict,
    )


def foot_lines(findings: Sequence[Finding]) -> list[str]:
    """How p and n are to be read."""
    if not any(finding.p_holm is not None for finding in findings):
        return []
    return [
        "p: permutation test, two-sided, adjusted (Holm) for all comparisons of a measure at points, or all over the points;",
        "   not told apart is not equal: the interval says how large a difference may still be",
    ]


def failed_lines(table: Table, width: int) -> list[str]:
    """Runs that are in no figure, by name."""
    failed = failed_rows(table)
    if not failed:
        return []
    lines = [
        f"{plural(len(failed), 'run')} of {count(len(table.rows))} failed and {'is' if len(failed) == 1 else 'are'} in no figure:"
    ]
    for row in failed[:_FAILED_SHOWN]:
        lines.append(shortened(clean(f"  {row['folder']}: {row['problem']}"), width))
    if len(failed) > _FAILED_SHOWN:
        lines.append(f"  and {len(failed) - _FAILED_SHOWN} more: table.csv names them")
    return lines
