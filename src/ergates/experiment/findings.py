"""What a comparison found, one record a value of the axis and point. Pure records; words for them are in comparison_words.py."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ergates.experiment.bootstrap import Interval
from ergates.experiment.comparison_words import words_of
from ergates.experiment.samples import Point, Sample
from ergates.experiment.spec import Value

Verdict = Literal["better", "worse", "not told apart", "too few to tell", "nothing to compare"]
"""`better` and `worse` need both: p below 1 - confidence, and an interval (where there is one) that leaves out no effect at all.
`not told apart` does not mean equal.
"""


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
