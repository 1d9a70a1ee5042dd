"""`erg experiment plan`: everything that can be known of an experiment before anything is started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ergates.cli.experiment_options import change_options, chosen_experiment, experiment_file, folder_option
from ergates.cli.options import examples

if TYPE_CHECKING:
    from ergates.cli.experiment_plan_lines import Shown
    from ergates.experiment.records import Manifest
    from ergates.experiment.spec import Experiment


@click.command(
    epilog=examples(
        "erg experiment plan cache.toml                                    hosts, runs, points, first command lines",
        "erg experiment plan cache.toml --run 17                           the exact command lines of run 17",
        "erg experiment plan cache.toml --only policy=lru --repetitions 1  a part of it",
        "erg experiment plan cache.toml --set size=60,6000 --all           other values; every point",
        "erg experiment plan cache.toml --json",
    )
)
@experiment_file
@change_options
@click.option("--run", "number", type=click.IntRange(1), metavar="N", help="Show the command lines of this run.")
@click.option("--all", "every", is_flag=True, help="Show every point, not the first 20.")
@folder_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people.")
def command(
    file: Path,
    sets: tuple[str, ...],
    only: tuple[str, ...],
    repetitions: int | None,
    number: int | None,
    every: bool,
    folder: Path | None,
    as_json: bool,
) -> int:
    """Check the experiment in FILE and show what `erg experiment run` would do: which hosts, how many runs, which points, and
    the command lines of one run.

    Nothing is started and nothing is written. All that is wrong with the file is said at once, each thing with its line.
    """
    shown = _looked_at(chosen_experiment(file, sets, only, repetitions), file, folder, number)
    if as_json:
        from ergates.cli.json_output import print_json

        print_json(shown)
    else:
        from ergates.cli.experiment_plan_lines import plan_lines
        from ergates.cli.terminal import width_of

        width = width_of(sys.stdout, 0) or None
        click.echo("\n".join(plan_lines(shown, every=every, width=width)))
    return 0


def _looked_at(experiment: Experiment, file: Path, chosen_folder: Path | None, number: int | None) -> Shown:
    from ergates.cli.experiment_plan_lines import Shown
    from ergates.conductor.experiment_folder import ExperimentFolder, folder_of
    from ergates.conductor.plan_changes import refuse_other
    from ergates.errors import UsageError
    from ergates.experiment.duration_estimate import estimated_duration
    from ergates.experiment.layout import run_folder_name
    from ergates.experiment.plan import plan_runs, same_run
    from ergates.experiment.preview import command_lines
    from ergates.experiment.reading.read_experiment import read_experiment

    folder = ExperimentFolder((chosen_folder or folder_of(file)).absolute())
    runs = plan_runs(experiment)
    past: dict[int, float | None] = {}
    problem = ""
    known = folder.runs() if folder.begun else ()
    if known:
        try:
            planned = plan_runs(folder.experiment())
            refuse_other(folder.experiment(), experiment, planned, plan_runs(read_experiment(file)), str(folder))
            asked = {same_run(run.point, run.repetition) for run in runs}
            runs = tuple(run for run in plan_runs(experiment, known) if same_run(run.point, run.repetition) in asked)
            past = {run.number: _seconds(folder.manifest(run)) for run in runs if folder.is_finished(run)}
        except UsageError as error:
            problem = str(error)
    chosen = next((each for each in runs if number is None or each.number == number), None)
    if chosen is None:
        numbers = [each.number for each in runs]
        raise UsageError(f"no run {number}\n  expected: one of the plan, {min(numbers)} to {max(numbers)}")
    return Shown(
        experiment=experiment,
        folder=str(folder),
        runs=runs,
        folders=tuple(run_folder_name(each) for each in runs),
        finished={each: seconds is not None for each, seconds in past.items()},
        folder_problem=problem,
        estimate=estimated_duration(
            experiment,
            [each for each in runs if each.number not in past],
            [(each, seconds) for each in runs if (seconds := past.get(each.number)) is not None],
        ),
        chosen=chosen.number,
        commands=command_lines(experiment, chosen, folder.run_folder(chosen)),
    )


def _seconds(manifest: Manifest) -> float | None:
    return manifest.seconds if manifest.ok else None
