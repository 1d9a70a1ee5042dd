"""Finished runs made up for tests of what is computed from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product

from ergates.experiment.measure import Cell
from ergates.experiment.records import Manifest
from ergates.experiment.run import Run
from ergates.experiment.spec import Axis, Experiment, Measure, Value
from ergates.experiment.table import Measured


def experiment_of(
    axes: Mapping[str, Sequence[Value]], repetitions: int, measures: Sequence[Measure] = (Measure(name="p99"),)
) -> Experiment:
    sweep = tuple(Axis(name=name, values=tuple(values)) for name, values in axes.items())
    return Experiment(name="made-up", sweep=sweep, repetitions=repetitions, measures=tuple(measures))


def runs_of(
    experiment: Experiment, value: Callable[[dict[str, Value], int], float | None], name: str = "p99"
) -> list[Measured]:
    """Every run; one whose value is None failed."""
    names = [axis.name for axis in experiment.sweep]
    points = product(*(axis.values for axis in experiment.sweep))
    every = [(point, r) for point in points for r in range(1, experiment.repetitions + 1)]
    return [
        measured(
            number,
            dict(zip(names, point, strict=True)),
            repetition,
            value(dict(zip(names, point, strict=True)), repetition),
            name,
        )
        for number, (point, repetition) in enumerate(every, 1)
    ]


def measured(number: int, point: dict[str, Value], repetition: int, cell: Cell, name: str = "p99") -> Measured:
    run = Run(number=number, point=tuple(point.items()), repetition=repetition, seed=number)
    failed = "" if cell is not None else "client on n1: exit code 1"
    return Measured(
        manifest=Manifest(experiment="made-up", run=run, ok=not failed, problem=failed),
        values={} if cell is None else {name: cell},
    )
