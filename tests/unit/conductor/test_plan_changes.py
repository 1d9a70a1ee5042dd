"""What may be added to an experiment that has runs, and how the other changes are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from ergates.conductor.plan_changes import differences, refuse_other, wanted_numbers
from ergates.errors import UsageError
from ergates.experiment.plan import plan_runs
from ergates.experiment.reading.read_experiment import parse_experiment
from ergates.experiment.spec import Axis, Experiment, Measure

FILE = """
[experiment]
name = "x"
repetitions = 2
[programs.p]
command = "echo {a} {c}"
[fixed]
c = 1
[sweep]
a = [1, 2]
"""


@pytest.fixture
def experiment() -> Experiment:
    return parse_experiment(FILE, "x.toml", Path("/nowhere"))


def refusal(before: Experiment, after: Experiment) -> str:
    with pytest.raises(UsageError) as caught:
        refuse_other(before, after, plan_runs(before), plan_runs(after), "x.experiment")
    return str(caught.value)


def test_more_values_repetitions_measures_and_retries_are_added(experiment: Experiment) -> None:
    more = replace(
        experiment,
        sweep=(Axis(name="a", values=(3, 2, 1)),),
        repetitions=3,
        retries=5,
        order="listed",
        description="more",
        measures=(Measure(name="m", program="p", regex="x"),),
    )
    refuse_other(experiment, more, plan_runs(experiment), plan_runs(more), "x.experiment")
    runs = plan_runs(more, plan_runs(experiment))
    assert [run.number for run in runs] == list(range(1, 10)) and runs[:4] == plan_runs(experiment)


def test_what_differs_is_named_by_its_place(experiment: Experiment) -> None:
    program = replace(experiment.programs[0], command="echo {a}", grace_ns=1)
    other = replace(experiment, programs=(program, replace(program, name="q")), fixed=(("c", 2),))
    assert list(differences(experiment, other)) == [
        "programs.p.command: 'echo {a} {c}' is now 'echo {a}'",
        "programs.p.grace_ns: '5000000000' is now '1'",
        "programs.q is new",
        "fixed.c: '1' is now '2'",
    ]
    said = refusal(experiment, other)
    assert said.startswith("x.toml is not the experiment of which x.experiment holds runs:\n  programs.p.command")
    assert "--again" in said and "--folder" in said


def test_runs_that_are_gone_and_axes_that_are_new_are_refused(experiment: Experiment) -> None:
    fewer = replace(experiment, sweep=(Axis(name="a", values=(2,)),))
    assert "2 of its 4 runs are not in the file any more, such as a=1 r" in refusal(experiment, fewer)
    assert "2 of its 4 runs" in refusal(experiment, replace(experiment, repetitions=1))
    wider = replace(experiment, sweep=(*experiment.sweep, Axis(name="b", values=(1,))))
    assert "sweep: the axes were a, and are a, b" in refusal(experiment, wider)


def test_a_part_is_named_by_the_numbers_of_the_whole(experiment: Experiment) -> None:
    part = replace(experiment, sweep=(Axis(name="a", values=(2,)),), repetitions=1)
    runs = plan_runs(experiment)
    (number,) = wanted_numbers(runs, plan_runs(part))
    assert (runs[number - 1].point, runs[number - 1].repetition) == ((("a", 2),), 1)


def test_values_that_python_takes_for_equal_are_different_runs(experiment: Experiment) -> None:
    ones = replace(experiment, sweep=(Axis(name="a", values=(1,)),), repetitions=1)
    text = replace(ones, sweep=(Axis(name="a", values=(True,)),))
    assert wanted_numbers(plan_runs(ones), plan_runs(text)) == ()
