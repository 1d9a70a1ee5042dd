"""The peak distribution: probabilities that add up, honest about runs that have not ended."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.taskqueue.peak_distribution import PeakDistribution

peaks = st.lists(st.floats(1.0, 1e12), max_size=40)


def test_without_unfinished_runs_it_is_the_empirical_one() -> None:
    distribution = PeakDistribution([10.0, 20.0, 30.0], [], 0.0)
    assert distribution.exceedance(9.0) == pytest.approx(1.0)
    assert distribution.exceedance(10.0) == pytest.approx(3 / 4)  # the imagined run is the fourth
    assert distribution.quantile(0.5) == 20.0
    assert distribution.beyond(25.0)[0] > 30.0


def test_unfinished_runs_push_it_up() -> None:
    ended = PeakDistribution([10.0, 20.0], [], 0.0)
    with_running = PeakDistribution([10.0, 20.0], [15.0, 15.0, 15.0], 0.0)
    assert with_running.exceedance(15.0) > ended.exceedance(15.0)
    assert with_running.beyond(0.0)[0] > ended.beyond(0.0)[0]


def test_nothing_known_is_the_guess() -> None:
    assert PeakDistribution([], [], 512.0).beyond(0.0) == (512.0, 0.0)


def test_beyond_everything_seen_it_still_answers() -> None:
    mean, variance = PeakDistribution([10.0], [], 0.0).beyond(1e6)
    assert mean > 1e6 and variance > 0


@given(peaks, peaks, st.floats(0, 1e12), st.floats(0, 1e12))
def test_laws(ended: list[float], reached: list[float], imagined: float, at: float) -> None:
    distribution = PeakDistribution(ended, reached, imagined)
    assert distribution.exceedance(-1.0) == pytest.approx(1.0)
    assert 0.0 <= distribution.exceedance(at) <= 1.0 + 1e-9
    mean, variance = distribution.beyond(at)
    assert mean >= at * (1 - 1e-9)
    assert variance >= 0.0
    assert distribution.quantile(0.9, at) >= distribution.quantile(0.1, at) >= at


@given(st.lists(st.floats(1.0, 1e9), min_size=1, max_size=40))
def test_quantiles_leave_at_most_their_share_above(ended: list[float]) -> None:
    distribution = PeakDistribution(ended, [], 0.0)
    for fraction in (0.1, 0.5, 0.9):
        assert distribution.exceedance(distribution.quantile(fraction)) <= 1 - fraction + 1e-9
