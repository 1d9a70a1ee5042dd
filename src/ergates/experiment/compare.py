"""Which is better, by how much, could it be chance: every value of an axis against a baseline, at each point of the other axes.

Pure: a table in, findings out. Runs that failed are in no figure here; that they failed is said. An answer that so few
repetitions cannot give is not given: with 3 against 3 no test can come below p = 0.1, whatever was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct, structs

from ergates.experiment.bootstrap import Interval, Statistic, effect_interval, interval_of, statistic_of
from ergates.experiment.comparison_words import words_of
from ergates.experiment.layout import shown_value
from ergates.experiment.measure import Cell
from ergates.experiment.significance import holm, p_value, repetitions_needed, smallest_p
from ergates.experiment.spec import Comparison, Experiment, Measure, Value
from ergates.experiment.table import Table, as_kind, numbers_of

Verdict = Literal["better", "worse", "not told apart", "too few to tell", "nothing to compare"]
"""`not told apart` does not mean equal."""
Point = tuple[tuple[str, Value], ...]


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


class Finding(Struct, frozen=True, kw_only=True):
    """One value of the axis against the baseline at one point, for one measure.

    Args:
        point: values of the other axes.
        axis, value, baseline: what is compared with what.
        effect: `ratio` is value over baseline; `difference`, where a value is not above 0, is value minus baseline.
        size: the effect; None when a side has no run.
        interval: of the effect.
        p: as tested; `p_holm` adjusted for all findings of the measure.
        pairs: how many repetitions were compared pairwise; None when not paired.
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
    pairs: int | None = None
    verdict: Verdict = "nothing to compare"
    note: str = ""

    @property
    def words(self) -> str:
        """One sentence."""
        return words_of(self)


def compare(table: Table, experiment: Experiment, comparison: Comparison) -> tuple[Finding, ...]:
    """Findings measure by measure, point by point, in the order in which the file names them.

    Args:
        table: of all finished runs, failed ones included.
        experiment: whose measures and order of axes; measures that are no numbers (texts, lists) are left out.
        comparison: its axis is a column of the table.
    """
    findings: list[Finding] = []
    for measure in experiment.measures:
        if is_number(table, measure.name) and (not comparison.measures or measure.name in comparison.measures):
            findings += _adjusted(_of_measure(table, experiment, comparison, measure))
    return tuple(findings)


def is_number(table: Table, name: str) -> bool:
    """Whether a column has numbers that a statistic can be made of."""
    return any(column.name == name and column.kind in ("integer", "number") for column in table.columns)


def groups_of(table: Table, experiment: Experiment, axes: Sequence[str]) -> dict[Point, list[dict[str, Cell]]]:
    """Rows, failed ones included, by the values of some axes; points in the order in which the file names the values."""
    places = [values_of(table, experiment, axis) for axis in axes]
    groups: dict[Point, list[dict[str, Cell]]] = {}
    for row in table.rows:
        groups.setdefault(tuple((axis, _value(row[axis])) for axis in axes), []).append(row)
    return dict(
        sorted(groups.items(), key=lambda each: [places[i].index(value) for i, (_, value) in enumerate(each[0])])
    )


def values_of(table: Table, experiment: Experiment, axis: str) -> list[Value]:
    """Of an axis, as the table has them: in the order of the file, then what only the runs know. Numbers go upwards."""
    kind = next(column.kind for column in table.columns if column.name == axis)
    named = [as_kind(value, kind) for each in experiment.sweep if each.name == axis for value in each.values]
    present = [_value(row[axis]) for row in table.rows]
    values = [value for value in dict.fromkeys([*map(_value, named), *present]) if value in present]
    numbers = [value for value in values if not isinstance(value, str)]
    return [*sorted(numbers), *values[len(numbers) :]] if kind in ("integer", "number") else values


def sample_of(
    rows: Sequence[Mapping[str, Cell]], name: str, statistic: Statistic, confidence: float, seed: str
) -> Sample:
    """Of the repetitions of one point."""
    ok = [row for row in rows if row["ok"] is True]
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


def _of_measure(table: Table, experiment: Experiment, comparison: Comparison, measure: Measure) -> list[Finding]:
    axis = comparison.axis
    values = values_of(table, experiment, axis)
    kind = next(column.kind for column in table.columns if column.name == axis)
    baseline = _value(as_kind(comparison.baseline, kind))
    others = [name for name in table.names("axis") if name != axis]
    findings = []
    for point, rows in groups_of(table, experiment, others).items():
        by_value = {value: [row for row in rows if row[axis] == value] for value in (baseline, *values)}
        for value in values:
            if value != baseline and by_value[value]:
                subject = _Subject(measure, comparison, point, value, baseline, experiment.seed)
                findings.append(_finding(subject, by_value[value], by_value[baseline]))
    return findings


class _Subject(Struct, frozen=True):
    measure: Measure
    comparison: Comparison
    point: Point
    value: Value
    baseline: Value
    seed: int

    def stream(self, what: Value) -> str:
        """Names the random numbers of one figure."""
        return f"{self.seed}/{self.measure.name}/{shown_point(self.point)}/{shown_value(what)}"


def _finding(subject: _Subject, rows: list[dict[str, Cell]], baseline_rows: list[dict[str, Cell]]) -> Finding:
    measure, comparison = subject.measure, subject.comparison
    statistic, confidence, paired = comparison.statistic, comparison.confidence, comparison.paired
    sides = [
        sample_of(each, measure.name, statistic, confidence, subject.stream(value))
        for each, value in ((rows, subject.value), (baseline_rows, subject.baseline))
    ]
    finding = Finding(
        measure=measure.name,
        unit=measure.unit,
        better=measure.better,
        statistic=statistic,
        confidence=confidence,
        point=subject.point,
        axis=comparison.axis,
        value=subject.value,
        baseline=subject.baseline,
        sample=sides[0],
        baseline_sample=sides[1],
    )
    new, old = _pairs(rows, baseline_rows, measure.name) if paired else _both(rows, baseline_rows, measure.name)
    if paired:
        finding = structs.replace(finding, pairs=len(new))
    if not new or not old:
        return structs.replace(finding, note=_why_nothing(subject, sides, paired=paired))
    ratio = min(*new, *old) > 0
    seed = f"{subject.stream(subject.value)}/{shown_value(subject.baseline)}"
    a, b = statistic_of(statistic, new), statistic_of(statistic, old)
    few = smallest_p(len(new), len(old), paired=paired) >= 1 - confidence
    return structs.replace(
        finding,
        effect="ratio" if ratio else "difference",
        size=a / b if ratio else a - b,
        interval=None if few else effect_interval(statistic, new, old, confidence, seed, ratio=ratio, paired=paired),
        p=p_value(statistic, new, old, seed, paired=paired),
        verdict="too few to tell" if few else "not told apart",
        note=_how_few(len(new), len(old), confidence, paired=paired) if few else "",
    )


def _adjusted(findings: list[Finding]) -> list[Finding]:
    """With p adjusted for all findings of one measure, and the verdict that follows."""
    tested = [each for each in findings if each.verdict == "not told apart"]
    adjusted = iter(holm([each.p for each in tested]))
    return [_judged(each, next(adjusted), len(tested)) if each in tested else each for each in findings]


def _judged(finding: Finding, p_holm: float | None, family: int) -> Finding:
    alpha = 1 - finding.confidence
    assert p_holm is not None and finding.size is not None
    neutral = 1.0 if finding.effect == "ratio" else 0.0
    if p_holm < alpha and finding.size != neutral:
        lower = finding.size < neutral
        verdict: Verdict = "better" if lower == (finding.better == "lower") else "worse"
        return structs.replace(finding, p_holm=p_holm, verdict=verdict)
    paired = finding.pairs is not None
    sizes = (finding.pairs,) * 2 if finding.pairs else (finding.sample.repetitions, finding.baseline_sample.repetitions)
    note = ""
    if smallest_p(*sizes, paired=paired) * family >= alpha:
        enough = repetitions_needed(alpha / family, paired=paired)
        note = f"{min(sizes)} repetitions cannot tell {family} comparisons apart at once; {enough} could"
    return structs.replace(finding, p_holm=p_holm, note=note)


def shown_point(point: Iterable[tuple[str, Value]]) -> str:
    """`load=0.5, cap=90`."""
    return ", ".join(f"{name}={shown_value(value)}" for name, value in point)


def _both(
    rows: list[dict[str, Cell]], baseline_rows: list[dict[str, Cell]], name: str
) -> tuple[list[float], list[float]]:
    return numbers_of(_ok(rows), name), numbers_of(_ok(baseline_rows), name)


def _pairs(
    rows: list[dict[str, Cell]], baseline_rows: list[dict[str, Cell]], name: str
) -> tuple[list[float], list[float]]:
    """Of the repetitions that count on both sides."""
    old = {row["repetition"]: number for row in _ok(baseline_rows) for number in numbers_of([row], name)}
    both = [
        (number, old[row["repetition"]])
        for row in _ok(rows)
        if row["repetition"] in old
        for number in numbers_of([row], name)
    ]
    return [number for number, _ in both], [number for _, number in both]


def _ok(rows: list[dict[str, Cell]]) -> list[dict[str, Cell]]:
    return [row for row in rows if row["ok"] is True]


def _why_nothing(subject: _Subject, sides: Sequence[Sample], *, paired: bool) -> str:
    for value, sample in zip((subject.value, subject.baseline), sides, strict=True):
        if not sample.repetitions:
            why = f"{sample.failed} failed" if sample.failed else "there is none"
            return f"no run of {subject.comparison.axis}={shown_value(value)} counts: {why}"
    return "no repetition counts on both sides" if paired else "no value"


def _how_few(new: int, old: int, confidence: float, *, paired: bool) -> str:
    enough = repetitions_needed(1 - confidence, paired=paired)
    few = min(new, old)
    return f"{few} repetition{'' if few == 1 else 's'}: too few to tell; {enough} of each could"


def _value(cell: Cell) -> Value:
    """A cell of an axis: a run has a value for every axis of its own file, but an older run may lack a new axis."""
    return "" if cell is None or isinstance(cell, list) else cell
