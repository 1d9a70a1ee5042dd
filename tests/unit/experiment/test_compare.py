"""Against a baseline: ratios, verdicts, few repetitions said plainly, failed runs in no figure."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from runs_made_up import experiment_of, runs_of

from ergates.errors import UsageError
from ergates.experiment.spec import Comparison, Measure, Value
from ergates.experiment.statistics.compare import compare
from ergates.experiment.statistics.comparison_chosen import chosen_comparison
from ergates.experiment.statistics.findings import Finding, number_words
from ergates.experiment.table import table_of

AGAINST = Comparison(axis="policy", baseline="fcfs")
POLICIES: dict[str, list[Value]] = {"policy": ["fcfs", "darc"]}
LOADS: dict[str, list[Value]] = {"policy": ["fcfs", "darc"], "load": [0.9, 0.5]}


def found(
    repetitions: int,
    darc: float = 0.5,
    axes: dict[str, list[Value]] = POLICIES,
    failing: tuple[tuple[str, int], ...] = (),
    comparison: Comparison = AGAINST,
    **measure: object,
) -> tuple[Finding, ...]:
    """darc has so many times the figure of fcfs; every repetition differs a little."""
    source = random.Random("found")
    experiment = experiment_of(axes, repetitions, [Measure(name="p99", **measure)])  # type: ignore[arg-type]

    def value(point: dict[str, Value], repetition: int) -> float | None:
        if (str(point["policy"]), repetition) in failing:
            return None
        return 100 * (darc if point["policy"] == "darc" else 1) * source.uniform(0.98, 1.02)

    return compare(table_of(experiment, runs_of(experiment, value)), experiment, comparison)


def test_a_clear_difference_in_words() -> None:
    (finding,) = found(5)
    assert finding.verdict == "better"
    assert finding.p == finding.p_holm == pytest.approx(2 / 252)
    assert finding.words == "p99: darc is 1.98x lower (1.96-2.02) than fcfs, p = 0.0079, 5 repetitions: better"


def test_which_way_is_good_is_said_by_the_measure() -> None:
    assert [each.verdict for each in found(5, better="higher")] == ["worse"]
    assert [each.verdict for each in found(5, darc=2.0, better="higher")] == ["better"]
    assert "x higher (" in found(5, darc=2.0)[0].words


def test_three_repetitions_are_too_few_to_tell() -> None:
    (finding,) = found(3)
    assert (finding.verdict, finding.interval) == ("too few to tell", None)
    assert "but 3 repetitions: too few to tell; 4 of each could tell" in finding.words
    assert "1 repetition: too few" in found(1)[0].words


def test_many_comparisons_at_once_need_more_repetitions() -> None:
    axes: dict[str, list[Value]] = {"policy": ["fcfs", "darc"], "load": [0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99]}
    overall, *at_points = found(5, axes=axes)
    assert {finding.verdict for finding in at_points} == {"too few to tell"}
    assert at_points[0].note == "5 repetitions: too few to tell; 6 of each could tell 7 comparisons at once"
    assert (overall.points, overall.verdict) == (7, "better")
    assert found(3, axes=axes)[1].note == "3 repetitions: too few to tell; 6 of each could tell 7 comparisons at once"
    assert "over all 7 points" in overall.words
    assert "p < 0.001, 35 repetitions" in overall.words


def test_points_come_in_their_order_after_what_holds_for_all() -> None:
    findings = found(6, axes=LOADS)
    assert [(finding.points, finding.point) for finding in findings] == [
        (2, ()),
        (None, (("load", 0.5),)),
        (None, (("load", 0.9),)),
    ]


def test_a_side_without_a_run_that_counts_is_named() -> None:
    failing = tuple(("fcfs", repetition) for repetition in range(1, 6))
    (finding,) = found(5, failing=failing)
    assert finding.verdict == "nothing to compare"
    assert finding.words == "p99: darc: no run of policy=fcfs counts: 5 failed"


def test_no_difference_is_not_called_equal() -> None:
    (finding,) = found(6, darc=1.0)
    assert finding.verdict == "not told apart"
    assert finding.interval is not None
    assert finding.interval.low < 1 < finding.interval.high


def test_a_figure_of_zero_has_a_difference_and_no_ratio() -> None:
    experiment = experiment_of(POLICIES, 5, [Measure(name="p99", unit="drops")])
    runs = runs_of(experiment, lambda point, repetition: 0.0 if point["policy"] == "fcfs" else 3.0 + repetition)
    (finding,) = compare(table_of(experiment, runs), experiment, AGAINST)
    assert (finding.effect, finding.size) == ("difference", 6.0)
    assert finding.words.startswith("p99: darc is 6 drops higher (4 to 8) than fcfs, p = 0.0079")


def test_pairs_see_through_what_their_repetitions_have_in_common() -> None:
    experiment = experiment_of(POLICIES, 8)
    runs = runs_of(experiment, lambda point, repetition: 10.0**repetition * (0.9 if point["policy"] == "darc" else 1))
    table = table_of(experiment, runs)
    (apart,) = compare(table, experiment, AGAINST)
    (paired,) = compare(table, experiment, structs.replace(AGAINST, paired=True))
    assert (apart.verdict, paired.verdict) == ("not told apart", "better")
    assert paired.pairs == 8
    assert paired.interval is not None
    assert paired.interval.high == pytest.approx(0.9)


def test_a_pair_with_a_failed_side_is_left_out() -> None:
    paired = structs.replace(AGAINST, paired=True)
    (finding,) = found(8, failing=(("fcfs", 2), ("darc", 5)), comparison=paired)
    assert finding.pairs == 6


@given(st.integers(4, 7), st.integers(0, 3), st.sampled_from(["mean", "median", "min", "max"]), st.booleans())
@settings(max_examples=12, deadline=None)
def test_failed_runs_never_change_a_statistic(repetitions: int, failed: int, statistic: str, paired: bool) -> None:
    """The same runs with failed ones among them, whatever was read of those, give the same findings."""
    comparison = Comparison(axis="policy", baseline="fcfs", statistic=statistic, paired=paired)  # type: ignore[arg-type]
    experiment = experiment_of(LOADS, repetitions)
    source = random.Random(repetitions)
    good = runs_of(experiment, lambda point, repetition: source.uniform(1, 9))
    more = experiment_of(LOADS, repetitions + failed)
    bad = [
        structs.replace(each, values={"p99": 1e9})
        for each in runs_of(more, lambda point, repetition: None)
        if each.manifest.run.repetition > repetitions
    ]

    def bare(finding: Finding) -> Finding:
        samples = (structs.replace(each, failed=0) for each in (finding.sample, finding.baseline_sample))
        return structs.replace(finding, **dict(zip(("sample", "baseline_sample"), samples, strict=True)))

    clean = compare(table_of(experiment, good), experiment, comparison)
    mixed = compare(table_of(experiment, [*bad, *good]), experiment, comparison)
    assert [bare(finding) for finding in mixed] == [bare(finding) for finding in clean]
    assert {finding.sample.failed for finding in mixed if finding.points is None} == {failed}


FIGURES = st.one_of(st.floats(-1e100, 1e100), st.sampled_from([0.0, 1.0, 1e-300, 5e-324]), st.none())


@given(
    st.lists(FIGURES, min_size=8, max_size=24),
    st.sampled_from(["mean", "median", "min", "max"]),
    st.booleans(),
    st.sampled_from(["lower", "higher"]),
)
@settings(max_examples=40, deadline=None)
def test_whatever_was_measured_there_is_a_sentence(
    figures: list[float | None], statistic: str, paired: bool, better: str
) -> None:
    measure = Measure(name="p99", better=better)  # type: ignore[arg-type]
    experiment = experiment_of(LOADS, len(figures) // 4, [measure])
    comparison = Comparison(axis="policy", baseline="fcfs", statistic=statistic, paired=paired)  # type: ignore[arg-type]
    left = iter(figures)
    runs = runs_of(experiment, lambda point, repetition: next(left))
    for finding in compare(table_of(experiment, runs), experiment, comparison):
        assert finding.words.startswith("p99: darc ")
        assert "nan" not in finding.words
        assert "inf" not in finding.words
        if finding.interval is not None:
            assert finding.interval.low <= finding.interval.high
        if finding.verdict in ("better", "worse"):
            assert finding.p_holm is not None
            assert finding.p_holm < 0.05


def test_another_measure_or_point_changes_nothing_here() -> None:
    alone = found(5)
    more: dict[str, list[Value]] = {"policy": ["fcfs", "darc"]}
    assert found(5, axes=more) == alone


def test_texts_and_lists_are_not_compared() -> None:
    experiment = experiment_of(POLICIES, 5)
    runs = [structs.replace(run, values={"p99": "reno"}) for run in runs_of(experiment, lambda point, repetition: 1)]
    assert compare(table_of(experiment, runs), experiment, AGAINST) == ()


def chosen(axes: dict[str, list[Value]], said: Comparison | None = None, **how: object) -> Comparison:
    experiment = structs.replace(experiment_of(axes, 1), comparison=said)
    table = table_of(experiment, runs_of(experiment, lambda point, repetition: 1.0))
    return chosen_comparison(experiment, table, **how)  # type: ignore[arg-type]


def test_without_a_comparison_in_the_file_the_clear_axis_is_taken() -> None:
    assert chosen(POLICIES) == Comparison(axis="policy", baseline="fcfs")
    assert chosen(LOADS).axis == "policy"  # the only one of texts
    with pytest.raises(UsageError, match=r"which axis.*\n.*one of load, cap"):
        chosen({"load": [1, 2], "cap": [90, 120]})
    with pytest.raises(UsageError, match="no axis has two values"):
        chosen({"load": [1]})


def test_the_command_line_goes_before_the_file() -> None:
    said = Comparison(axis="policy", baseline="darc", statistic="mean", confidence=0.9)
    assert chosen(LOADS, said) == said
    assert chosen(LOADS, said, baseline="fcfs").baseline == "fcfs"
    assert chosen(LOADS, said, axis="load") == structs.replace(said, axis="load", baseline=0.5)
    assert chosen(LOADS, said, axis="load", baseline="0.9").baseline == 0.9


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"axis": "polcy"}, "no axis 'polcy'\n  hint: did you mean policy"),
        ({"baseline": "lifo"}, "policy has no value lifo\n  expected: one of fcfs, darc"),
        ({"measures": ("p98",)}, "no measure 'p98'\n  hint: did you mean p99"),
    ],
)
def test_what_is_not_there_is_named_with_the_nearest(how: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(LOADS, AGAINST, **how)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (5, "5"),
        (1234567.0, "1,234,567"),
        (0.012345, "0.01235"),
        (183.44, "183.4"),
        (1.5e-7, "1.5e-07"),
        (99999.6, "100,000"),
    ],
)
def test_numbers_as_people_read_them(number: float, text: str) -> None:
    assert number_words(number) == text
