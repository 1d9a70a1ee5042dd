"""Tests and intervals against what scipy computes another way, and against what is known of them."""

from __future__ import annotations

import math
import random

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ergates.experiment.statistics.bootstrap import Interval, Statistic, effect_interval, interval_of
from ergates.experiment.statistics.significance import RESAMPLES, holm, p_value, repetitions_needed, smallest_p
from ergates.experiment.statistics.stratified import (
    overall_interval,
    overall_p,
    overall_size,
    overall_smallest_p,
)

SAMPLES = st.lists(st.floats(1, 1000), min_size=2, max_size=7, unique=True)


@given(SAMPLES, SAMPLES)
@settings(max_examples=30, deadline=None)
def test_ranks_without_ties_give_the_exact_test_of_mann_and_whitney(a: list[float], b: list[float]) -> None:
    if len({*a, *b}) == len(a) + len(b):
        expected = stats.mannwhitneyu(a, b, method="exact").pvalue
        assert p_value("median", a, b, "seed", paired=False) == pytest.approx(min(1.0, float(expected)))


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), min_size=2, max_size=9))
@settings(max_examples=30, deadline=None)
def test_pairs_without_ties_give_the_exact_test_of_wilcoxon(pairs: list[tuple[int, int]]) -> None:
    differences = [a - b for a, b in pairs]
    if 0 not in differences and len({abs(each) for each in differences}) == len(differences):
        expected = float(stats.wilcoxon(differences, method="exact").pvalue)
        new, old = [float(a) for a, _ in pairs], [float(b) for _, b in pairs]
        assert p_value("median", new, old, "seed", paired=True) == pytest.approx(expected)


def test_means_are_compared_by_fishers_exchange() -> None:
    """Darwin's maize, R. A. Fisher, "The Design of Experiments", 1935, section 21: 863 of 32,768 signs on each side."""
    differences = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    p = p_value("mean", [float(each) for each in differences], [0.0] * 15, "seed", paired=True)
    assert p == pytest.approx(2 * 863 / 32768, abs=0.006)  # 12,999 of the 32,768 are drawn


@pytest.mark.parametrize(("new", "old", "paired"), [(3, 3, False), (5, 5, False), (4, 6, False), (5, 5, True)])
def test_nothing_is_below_the_smallest_p(new: int, old: int, paired: bool) -> None:
    a, b = [float(i) for i in range(new)], [float(100 + 7 * i) for i in range(old)]
    statistics: tuple[Statistic, ...] = ("mean", "median", "max")
    for statistic in statistics:
        assert p_value(statistic, a, b, "s", paired=paired) == pytest.approx(smallest_p(new, old, paired=paired))


def test_how_many_repetitions_can_tell() -> None:
    assert smallest_p(3, 3, paired=False) == pytest.approx(0.1)
    assert repetitions_needed(0.05, paired=False) == 4
    assert repetitions_needed(0.05, paired=True) == 6
    assert repetitions_needed(0.05 / 10, paired=False) == 6


def test_p_is_never_0_and_drawing_repeats_itself() -> None:
    a, b = [float(i) for i in range(50)], [float(1000 + i) for i in range(50)]
    p = p_value("median", a, b, "s", paired=False)
    assert p is not None
    assert 1 / (RESAMPLES + 1) <= p <= 2 / (RESAMPLES + 1)
    assert p == p_value("median", a, b, "s", paired=False)


def test_equal_samples_differ_in_nothing() -> None:
    for paired in (False, True):
        assert p_value("mean", [5.0] * 6, [5.0] * 6, "s", paired=paired) == 1
        assert p_value("median", [5.0] * 6, [5.0] * 6, "s", paired=paired) == 1


def test_holm_against_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, None, 0.005]) == [
        pytest.approx(x) if x else None for x in (0.03, 0.06, 0.06, None, 0.02)
    ]


@given(st.lists(st.floats(0.0001, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_is_between_p_and_bonferroni(ps: list[float]) -> None:
    adjusted = [each for each in holm(ps) if each is not None]
    assert [adjusted[i] for i in sorted(range(len(ps)), key=ps.__getitem__)] == sorted(adjusted)
    for p, q in zip(ps, adjusted, strict=True):
        assert p <= q <= min(1.0, p * len(ps)) + 1e-12


def covering(statistic: Statistic, size: int, worlds: int, truth: float, spread: float = 0.5) -> float:
    """Share of simulated experiments whose interval holds the true ratio of their two skewed populations."""
    source = random.Random(f"{statistic}/{size}")
    held = 0
    for world in range(worlds):
        new = [2 * source.lognormvariate(0, spread) for _ in range(size)]
        old = [source.lognormvariate(0, spread) for _ in range(size)]
        found = effect_interval(statistic, new, old, 0.95, f"{world}", ratio=True, paired=False)
        assert found is not None
        held += found.low <= truth <= found.high
    return held / worlds


def test_bootstrap_intervals_hold_the_truth_about_as_often_as_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ergates.experiment.statistics.bootstrap.RESAMPLES", 599)
    assert 0.88 <= covering("mean", 15, 150, 2.0) <= 0.99
    assert 0.90 <= covering("median", 9, 150, 2.0) <= 1.0


def test_intervals_of_means_agree_with_the_normal_theory_where_that_holds() -> None:
    values = numpy.random.default_rng(7).normal(100, 5, 200)
    found = interval_of("mean", values.tolist(), 0.95, "s")
    half = 1.96 * values.std(ddof=1) / math.sqrt(200)
    assert found is not None
    assert found.method == "BCa"
    assert found.low == pytest.approx(values.mean() - half, abs=0.15)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15)


def test_there_is_no_interval_where_the_bootstrap_does_not_hold() -> None:
    assert interval_of("min", [1.0, 2, 3, 4, 5], 0.95, "s") is None
    assert interval_of("median", [1.0], 0.95, "s") is None
    assert interval_of("mean", [2.0, 2.0, 2.0], 0.95, "s") == Interval(low=2, high=2, method="percentile")


@given(st.lists(st.floats(0.5, 100), min_size=4, max_size=8), st.lists(st.floats(0.5, 100), min_size=4, max_size=8))
@settings(max_examples=10, deadline=None)
def test_the_interval_of_a_ratio_is_that_of_its_inverse_turned_round(a: list[float], b: list[float]) -> None:
    there = effect_interval("median", a, a[::-1], 0.9, "s", ratio=True, paired=True)
    back = effect_interval("median", a[::-1], a, 0.9, "s", ratio=True, paired=True)
    assert there is not None
    assert back is not None
    assert there.low == pytest.approx(1 / back.high, rel=0.02)
    assert effect_interval("median", a, b, 0.9, "s", ratio=True, paired=False) == effect_interval(
        "median", a, b, 0.9, "s", ratio=True, paired=False
    )


def test_few_repetitions_at_many_points_say_a_lot_together() -> None:
    source = random.Random("points")
    loads = [1.0, 10.0, 100.0, 1000.0]
    strata = [
        (
            [load * 0.8 * source.lognormvariate(0, 0.05) for _ in range(3)],
            [load * source.lognormvariate(0, 0.05) for _ in range(3)],
        )
        for load in loads
    ]
    assert overall_size("median", strata, ratio=True) == pytest.approx(0.8, abs=0.08)
    interval = overall_interval("median", strata, 0.95, "s", ratio=True, paired=False)
    assert interval is not None
    assert interval.low < 0.8 < interval.high < 1
    assert overall_p("median", strata, "s", paired=False) < 0.001
    assert overall_p("mean", strata, "s", paired=False) < 0.001
    assert smallest_p(3, 3, paired=False) > 0.05


def test_a_difference_between_points_is_not_taken_for_one_between_values() -> None:
    strata = [([1.0, 1.2, 1.4], [1.1, 1.3, 1.5]), ([1000.0, 1002, 1004], [1001.0, 999, 1003])]
    assert overall_p("median", strata, "s", paired=False) > 0.3
    assert overall_p("mean", strata, "s", paired=False) > 0.3


def test_at_one_point_the_combined_test_is_the_plain_one() -> None:
    a, b = [3.1, 4.7, 5.2, 6.8], [4.1, 7.3, 8.8, 9.6, 10.2]
    for paired, old in ((False, b), (True, b[:4])):
        plain = p_value("median", a, old, "s", paired=paired)
        assert overall_p("median", [(a, old)], "s", paired=paired) == pytest.approx(plain, abs=0.02)
        assert overall_smallest_p([(a, old)], paired=paired) == pytest.approx(smallest_p(4, len(old), paired=paired))


def test_the_combined_test_is_wrong_as_often_as_it_says() -> None:
    source = random.Random("null")
    ps = []
    for world in range(120):
        strata = [([source.gauss(m, 1) for _ in range(4)], [source.gauss(m, 1) for _ in range(4)]) for m in (0, 50)]
        ps.append(overall_p("median", strata, f"{world}", paired=False))
    assert sum(p < 0.05 for p in ps) <= 13  # 6 expected; 14 or more have a chance of 0.3 %
    assert sum(p < 0.5 for p in ps) >= 35


def test_one_pair_that_differs_beside_others_that_do_not_tells_nothing() -> None:
    assert p_value("median", [0.0, 1.0], [0.0, 0.0], "s", paired=True) == 1.0
