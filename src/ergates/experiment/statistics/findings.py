"""What a comparison found, one record a value of the axis and point, and how that is said.

`p99: darc at load=0.5 is 1.83x lower (1.71-1.95) than fcfs, p = 0.008, 5 repetitions: better`
"""

from __future__ import annotations

import math
from typing import Literal

from msgspec import Struct

from ergates.experiment.layout import shown_value
from ergates.experiment.spec import Value
from ergates.experiment.statistics.bootstrap import Interval
from ergates.experiment.statistics.samples import Point, Sample

Verdict = Literal["better", "worse", "not told apart", "too few to tell", "nothing to compare"]
"""`better` and `worse` need both: p below 1 - confidence, and an interval (where there is one) that leaves out no effect at all.
`not told apart` does not mean equal.
"""
_CLOSE = 1.1
"""Below this factor three decimals are shown."""


class Finding(Struct, frozen=True, kw_only=True):
    """One value of the axis against the baseline at one point, for one measure.

    Args:
        point: values of the other axes.
        axis, value, baseline: what is compared with what.
        effect: `ratio` is value over baseline; `difference`, where a value is not above 0, is value minus baseline.
        size: the effect; None when a side has no run.
        interval: of the effect.
        p: as tested; `p_holm` adjusted for all findings of the measure at points, or for all over the points.
        p_least: the least p that so many repetitions could have shown.
        pairs: how many repetitions were compared pairwise; None when not paired.
        points: over how many points of the other axes this was found; None: at one point.
    """

    measure: str
    unit: str
    better: Literal["lower", "higher"]
    statistic: str
    confidence: float
    point: Point
    axis: str
    value: Value
    baseline: Value
    sample: Sample
    baseline_sample: Sample
    effect: Literal["ratio", "difference"] = "ratio"
    size: float | None = None
    interval: Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    p_least: float | None = None
    pairs: int | None = None
    points: int | None = None
    verdict: Verdict = "nothing to compare"
    note: str = ""

    @property
    def words(self) -> str:
        """One sentence."""
        return words_of(self)


def words_of(finding: Finding) -> str:
    """One sentence; a finding that says nothing says why."""
    where = f" over all {finding.points} points" if finding.points else _at(finding.point)
    who = f"{finding.measure}: {_named(finding)}{where}"
    if finding.verdict == "nothing to compare":
        return f"{who}: {finding.note}"
    against = f"{effect_words(finding)} than {_baseline(finding)}"
    if finding.verdict == "too few to tell":
        return f"{who} is {against}, but {finding.note}"
    return f"{who} is {against}, {p_words(finding.p_holm)}, {repetition_words(finding)}: {finding.verdict}"


def effect_words(finding: Finding) -> str:
    """`1.83x lower (1.71-1.95)`; the interval stays out where there is none."""
    if finding.size is None:
        return ""
    if finding.effect == "difference":
        return _difference(finding)
    lower = finding.size < 1
    size = 1 / finding.size if lower else finding.size
    decimals = _decimals(size)
    shown = f"{size:.{decimals}f}x"
    text = "no other" if finding.size == 1 else f"{shown} {'lower' if lower else 'higher'}"
    if finding.interval is None:
        return text
    ends = sorted(1 / end if lower else end for end in (finding.interval.low, finding.interval.high))
    return f"{text} ({ends[0]:.{decimals}f}-{ends[1]:.{decimals}f})"


def _difference(finding: Finding) -> str:
    assert finding.size is not None
    unit = f" {finding.unit}" if finding.unit else ""
    if finding.size == 0:
        text, sign = "no other", 1
    else:
        sign = 1 if finding.size > 0 else -1
        text = f"{number_words(abs(finding.size))}{unit} {'higher' if sign > 0 else 'lower'}"
    if finding.interval is None:
        return text
    ends = sorted(sign * end for end in (finding.interval.low, finding.interval.high))
    return f"{text} ({number_words(ends[0])} to {number_words(ends[1])})"


def p_words(p: float | None) -> str:
    """`p < 0.001`, `p = 0.008`."""
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}" if p < 0.995 else "p = 1"


def repetition_words(finding: Finding) -> str:
    """`5 repetitions`, `5 and 4 repetitions` when the sides differ, `5 pairs`."""
    if finding.pairs is not None:
        return counted(finding.pairs, "pair")
    new, old = finding.sample.repetitions, finding.baseline_sample.repetitions
    return counted(new, "repetition") if new == old else f"{new} and {old} repetitions"


def counted(number: int, noun: str) -> str:
    """`1 pair`, `5 pairs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def shown_point(point: Point) -> str:
    """`load=0.5, cap=90`."""
    return ", ".join(f"{name}={shown_value(value)}" for name, value in point)


def sample_words(sample: Sample) -> str:
    """`183` or `183 (1 failed)`."""
    value = "-" if sample.value is None else number_words(sample.value)
    return f"{value} ({sample.failed} failed)" if sample.failed else value


def number_words(number: float) -> str:
    """Four significant digits, whole numbers whole: `183.4`, `12,345,678`, `1.5e-07`."""
    if number == 0:
        return "0"
    if not 1e-4 <= abs(number) < 1e15:
        return f"{number:.4g}"
    if number == int(number) and abs(number) < 1e6:
        return f"{number:,.0f}"
    digits = max(0, 3 - math.floor(math.log10(abs(number))))
    return f"{number:,.{digits}f}"


def _decimals(factor: float) -> int:
    if factor < _CLOSE:
        return 3
    return 2 if factor < 10 else 1 if factor < 100 else 0


def _named(finding: Finding) -> str:
    """A text speaks for itself, a number needs the name of its axis."""
    return finding.value if isinstance(finding.value, str) else f"{finding.axis}={shown_value(finding.value)}"


def _baseline(finding: Finding) -> str:
    value = finding.baseline
    return value if isinstance(value, str) else f"{finding.axis}={shown_value(value)}"


def _at(point: Point) -> str:
    return f" at {shown_point(point)}" if point else ""
