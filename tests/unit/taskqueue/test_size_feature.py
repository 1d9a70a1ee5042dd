"""A feature is used when it explains the peaks, and only then."""

from __future__ import annotations

import random

import pytest

from ergates.taskqueue.size_feature import fit_sizes

Runs = list[tuple[tuple[float, ...], float]]


def test_a_line_with_a_base_is_found_behind_a_seed() -> None:
    rng = random.Random("line")
    runs: Runs = []
    for seed in range(40):
        size = rng.choice((1.0, 2.0, 4.0, 8.0, 16.0))
        runs.append(((0.0, float(seed + 1), size), 50e6 + 40e6 * size * rng.uniform(0.95, 1.05)))
    fit = fit_sizes(runs)
    assert fit is not None and fit.feature == 2
    assert fit.typical_peak((0.0, 99.0, 10.0)) == pytest.approx(450e6, rel=0.1)


def test_a_power_of_the_input_size_is_found() -> None:
    rng = random.Random("power")
    sizes = [rng.lognormvariate(18, 1) for _ in range(40)]
    fit = fit_sizes([((size,), 1e-9 * size**2 * rng.uniform(0.9, 1.1)) for size in sizes])
    assert fit is not None and fit.power
    assert fit.slope == pytest.approx(2.0, abs=0.1)


def test_random_seeds_are_hardly_ever_taken_for_a_feature() -> None:
    taken = 0
    for trial in range(200):
        rng = random.Random(f"seeds/{trial}")
        runs: Runs = [((0.0, rng.uniform(1, 1e6)), rng.lognormvariate(19, 0.8)) for _ in range(30)]
        taken += fit_sizes(runs) is not None
    assert taken <= 4


def test_identical_peaks_need_no_feature() -> None:
    assert fit_sizes([((float(size),), 1e6) for size in range(1, 30)]) is None


def test_few_runs_say_nothing() -> None:
    assert fit_sizes([((float(size),), size * 1e6) for size in range(1, 6)]) is None


def test_it_is_not_carried_on_for_ever() -> None:
    fit = fit_sizes([((float(size),), size * 1e6) for size in range(1, 30)])
    assert fit is not None
    assert fit.typical_peak((1e9,)) == fit.typical_peak((58.0,))
    assert fit.typical_peak((0.0,)) is None
