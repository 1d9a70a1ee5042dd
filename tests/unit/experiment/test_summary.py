"""Repetitions of each point by themselves: known numbers, failed runs in none of them."""

from __future__ import annotations

import statistics

import pytest
from runs_made_up import experiment_of, runs_of

from ergates.experiment.spec import Value
from ergates.experiment.statistics.summary import summaries_of
from ergates.experiment.table import table_of


def test_every_point_has_its_figures_and_failed_runs_are_in_none() -> None:
    experiment = experiment_of({"load": [1, 2]}, 5)

    def value(point: dict[str, Value], repetition: int) -> float | None:
        return None if point["load"] == 2 and repetition == 5 else float(str(point["load"])) * repetition**2

    one, two = summaries_of(table_of(experiment, runs_of(experiment, value)), experiment)
    assert (one.point, one.repetitions, one.failed) == ((("load", 1),), 5, 0)
    values = [1.0, 4.0, 9.0, 16.0, 25.0]
    assert (one.mean, one.median, one.low, one.high) == (11.0, 9.0, 1.0, 25.0)
    assert one.deviation == pytest.approx(statistics.stdev(values))
    assert (two.repetitions, two.failed, two.mean, two.high) == (4, 1, 15.0, 32.0)


def test_a_point_of_which_everything_failed_has_no_figures_and_one_repetition_has_no_deviation() -> None:
    experiment = experiment_of({"load": [1, 2]}, 1)
    one, two = summaries_of(
        table_of(experiment, runs_of(experiment, lambda point, _: None if point["load"] == 2 else 3.5)), experiment
    )
    assert (one.mean, one.deviation, one.repetitions) == (3.5, None, 1)
    assert (two.mean, two.deviation, two.repetitions, two.failed) == (None, None, 0, 1)
