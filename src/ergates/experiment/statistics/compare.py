"""Which is better, by how much, could it be chance: every value of an axis against a baseline.

At each point of the other axes, and over all of them. Pure: a table in, findings out. Runs that failed are in no figure here;
that they failed is said. An answer that so few repetitions cannot give is not given: with 3 against 3 at one point no test can
come below p = 0.1, whatever was measured.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, structs

from ergates.experiment.layout import shown_value
from ergates.experiment.spec import Comparison, Experiment, Measure, Value
from ergates.experiment.statistics.bootstrap import effect_interval, statistic_of
from ergates.experiment.statistics.findings import Finding, Verdict, counted, shown_point
from ergates.experiment.statistics.samples import (
    Point,
    Rows,
    Sample,
    groups_of,
    is_number,
    sample_of,
    sides_of,
    value_of_cell,
    values_of,
)
from ergates.experiment.statistics.significance import holm, p_value, repetitions_needed, smallest_p
from ergates.experiment.statistics.stratified import overall_interval, overall_p, overall_size, overall_smallest_p
from ergates.experiment.table import Table, as_kind

_RATIO_MOST = 1e12


def compare(table: Table, experiment: Experiment, comparison: Comparison) -> tuple[Finding, ...]:
    """Findings measure by measure: over all points first, then point by point, in the order in which the file names them.

    Args:
        table: of all finished runs, failed ones included.
        experiment: whose measures and order of axes; measures that are no numbers (texts, lists) are left out.
        comparison: its axis is a column of the table.
    """
    findings: list[Finding] = []
    for measure in experiment.measures:
        if is_number(table, measure.name) and (not comparison.measures or measure.name in comparison.measures):
            subjects = _subjects(table, experiment, comparison, measure)
            findings += _adjusted(_overall(subjects))
            findings += _adjusted([_at_point(subject) for subject in subjects])
    return tuple(findings)


class _Subject(Struct, frozen=True, kw_only=True):
    """One value of the axis at one point, before anything is computed."""

    measure: Measure
    comparison: Comparison
    point: Point
    value: Value
    baseline: Value
    seed: int
    rows: Rows
    baseline_rows: Rows

    def stream(self, what: Value, *, everywhere: bool = False) -> str:
        """Names the random numbers of one figure."""
        where = "" if everywhere else shown_point(self.point)
        return f"{self.seed}/{self.measure.name}/{where}/{shown_value(what)}"

    def sides(self) -> tuple[list[float], list[float]]:
        return sides_of(self.rows, self.baseline_rows, self.measure.name, paired=self.comparison.paired)

    def finding(self, sample: Sample, baseline_sample: Sample) -> Finding:
        return Finding(
            measure=self.measure.name,
            unit=self.measure.unit,
            better=self.measure.better,
            statistic=self.comparison.statistic,
            confidence=self.comparison.confidence,
            point=self.point,
            axis=self.comparison.axis,
            value=self.value,
            baseline=self.baseline,
            sample=sample,
            baseline_sample=baseline_sample,
        )


def _subjects(table: Table, experiment: Experiment, comparison: Comparison, measure: Measure) -> list[_Subject]:
    axis = comparison.axis
    kind = next(column.kind for column in table.columns if column.name == axis)
    baseline = value_of_cell(as_kind(comparison.baseline, kind))
    others = [name for name in table.names("axis") if name != axis]
    values = values_of(table, experiment, axis)
    subjects = []
    for point, rows in groups_of(table, experiment, others).items():
        for value in values:
            own = [row for row in rows if row[axis] == value]
            if value != baseline and own:
                subjects.append(
                    _Subject(
                        measure=measure,
                        comparison=comparison,
                        point=point,
                        value=value,
                        baseline=baseline,
                        seed=experiment.seed,
                        rows=own,
                        baseline_rows=[row for row in rows if row[axis] == baseline],
                    )
                )
    return subjects


def _at_point(subject: _Subject) -> Finding:
    comparison, name = subject.comparison, subject.measure.name
    statistic, confidence, paired = comparison.statistic, comparison.confidence, comparison.paired
    finding = subject.finding(
        sample_of(subject.rows, name, statistic, confidence, subject.stream(subject.value)),
        sample_of(subject.baseline_rows, name, statistic, confidence, subject.stream(subject.baseline)),
    )
    new, old = subject.sides()
    if paired:
        finding = structs.replace(finding, pairs=len(new))
    if not new or not old:
        return structs.replace(finding, note=_why_nothing(finding))
    ratio = _have_ratio(new, old)
    seed = f"{subject.stream(subject.value)}/{shown_value(subject.baseline)}"
    a, b = statistic_of(statistic, new), statistic_of(statistic, old)
    least = smallest_p(len(new), len(old), paired=paired)
    few = least >= 1 - confidence
    return structs.replace(
        finding,
        effect="ratio" if ratio else "difference",
        size=a / b if ratio else a - b,
        interval=None if few else effect_interval(statistic, new, old, confidence, seed, ratio=ratio, paired=paired),
        p=p_value(statistic, new, old, seed, paired=paired),
        p_least=least,
        verdict="too few to tell" if few else "not told apart",
    )


def _overall(subjects: Sequence[_Subject]) -> list[Finding]:
    """One for each value of the axis that meets the baseline at two points or more."""
    findings = []
    for value in dict.fromkeys(subject.value for subject in subjects):
        there = [subject for subject in subjects if subject.value == value and all(subject.sides())]
        if len(there) > 1:
            findings.append(_over_all(there))
    return findings


def _over_all(subjects: Sequence[_Subject]) -> Finding:
    first, strata = subjects[0], [subject.sides() for subject in subjects]
    statistic, confidence, paired = first.comparison.statistic, first.comparison.confidence, first.comparison.paired
    ratio = all(_have_ratio(new, old) for new, old in strata)
    seed = first.stream(first.value, everywhere=True)
    least = overall_smallest_p(strata, paired=paired)
    few = least >= 1 - confidence
    finding = structs.replace(first, point=()).finding(
        _sum([len(new) for new, _ in strata], [subject.rows for subject in subjects]),
        _sum([len(old) for _, old in strata], [subject.baseline_rows for subject in subjects]),
    )
    return structs.replace(
        finding,
        points=len(strata),
        pairs=sum(len(new) for new, _ in strata) if paired else None,
        effect="ratio" if ratio else "difference",
        size=overall_size(statistic, strata, ratio=ratio),
        interval=overall_interval(statistic, strata, confidence, seed, ratio=ratio, paired=paired),
        p=overall_p(statistic, strata, seed, paired=paired),
        p_least=least,
        verdict="too few to tell" if few else "not told apart",
        note="too few repetitions and points to tell" if few else "",
    )


def _have_ratio(new: Sequence[float], old: Sequence[float]) -> bool:
    """Of figures above 0, unless they are so far apart that no ratio says anything."""
    return min(*new, *old) > 0 and max(*new, *old) / min(*new, *old) < _RATIO_MOST


def _sum(counts: Sequence[int], rows: Sequence[Rows]) -> Sample:
    failed = sum(row["ok"] is not True for own in rows for row in own)
    return Sample(repetitions=sum(counts), failed=failed)


def _adjusted(findings: list[Finding]) -> list[Finding]:
    """With p adjusted for all of them, and the verdict that follows."""
    family = sum(each.p_least is not None for each in findings)
    tested = [number for number, each in enumerate(findings) if each.verdict == "not told apart"]
    adjusted = dict(zip(tested, holm([findings[number].p for number in tested]), strict=True))
    return [
        _with_need(_judged(each, p_holm, len(tested)) if (p_holm := adjusted.get(number)) is not None else each, family)
        for number, each in enumerate(findings)
    ]


def _judged(finding: Finding, p_holm: float, family: int) -> Finding:
    alpha = 1 - finding.confidence
    assert finding.size is not None and finding.p_least is not None
    neutral = 1.0 if finding.effect == "ratio" else 0.0
    interval = finding.interval
    apart = interval is None or not interval.low <= neutral <= interval.high
    if p_holm < alpha and finding.size != neutral and apart:
        lower = finding.size < neutral
        verdict: Verdict = "better" if lower == (finding.better == "lower") else "worse"
        return structs.replace(finding, p_holm=p_holm, verdict=verdict)
    if finding.p_least * family < alpha or finding.points is not None:
        return structs.replace(finding, p_holm=p_holm)
    return structs.replace(finding, p_holm=p_holm, verdict="too few to tell")


def _with_need(finding: Finding, family: int) -> Finding:
    """How many repetitions could tell, if each comparison of the family had as many."""
    if finding.verdict != "too few to tell" or finding.points is not None:
        return finding
    paired = finding.pairs is not None
    fewest = finding.pairs or min(finding.sample.repetitions, finding.baseline_sample.repetitions)
    enough = repetitions_needed((1 - finding.confidence) / family, paired=paired)
    have = counted(fewest, "pair" if paired else "repetition")
    need = f"{enough}{'' if paired else ' of each'} could tell{f' {family} comparisons at once' if family > 1 else ''}"
    return structs.replace(finding, note=f"{have}: too few to tell; {need}")


def _why_nothing(finding: Finding) -> str:
    for value, sample in ((finding.value, finding.sample), (finding.baseline, finding.baseline_sample)):
        if not sample.repetitions:
            why = f"{sample.failed} failed" if sample.failed else "there is none"
            return f"no run of {finding.axis}={shown_value(value)} counts: {why}"
    return "no repetition counts on both sides"
