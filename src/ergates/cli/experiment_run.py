"""`erg experiment run`: make all runs of a file, or those that are missing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ergates.cli.experiment_options import change_options, chosen_experiment, experiment_file, folder_option
from ergates.cli.options import examples

if TYPE_CHECKING:
    from ergates.conductor.experiment_folder import ExperimentFolder
    from ergates.experiment.run import Run
    from ergates.experiment.spec import Experiment


@click.command(
    epilog=examples(
        "erg experiment run cache.toml                      into cache.experiment/",
        "erg experiment run cache.toml --repetitions 10     five were made before: five more",
        "erg experiment run cache.toml --only policy=lru    a part now, the others later",
        "erg experiment run cache.toml --again              from the beginning; the old folder is set aside",
    )
)
@experiment_file
@change_options
@folder_option
@click.option("--again", is_flag=True, help="Begin anew: what was made before is kept under another name.")
@click.option("--retry-failed", is_flag=True, help="Try again what failed for good.")
@click.option("--keep-hosts", is_flag=True, help="Take nothing down at the end: look at hosts, workers and store.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before other machines are used.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what goes wrong.")
def command(
    file: Path,
    sets: tuple[str, ...],
    only: tuple[str, ...],
    repetitions: int | None,
    folder: Path | None,
    again: bool,
    retry_failed: bool,
    keep_hosts: bool,
    yes: bool,
    as_json: bool,
    quiet: bool,
) -> int:
    """Make the runs of the experiment in FILE: each in a folder of its own with a manifest, and one table of them all.

    Runs that are finished are not made again; a run that fails is tried again as the file says, then named failed. Ctrl-C lets
    what runs end; a second one gives it back at once. `erg experiment resume` goes on, whatever happened.
    """
    from ergates.cli.experiment_making import make, shown_path
    from ergates.conductor.experiment_folder import ExperimentFolder, folder_of, set_aside
    from ergates.conductor.make_runs import Asked, end_of_earlier
    from ergates.conductor.plan_changes import refuse_other, wanted_numbers
    from ergates.experiment.plan import plan_runs
    from ergates.experiment.reading.read_experiment import read_experiment

    experiment = chosen_experiment(file, sets, only, repetitions)
    written = read_experiment(file)
    place = ExperimentFolder((folder or folder_of(file)).absolute())
    text = file.read_text()
    if again and place.path.exists():
        end_of_earlier(place, written, lambda text: click.echo(f"erg: {text}", err=True))
        aside = set_aside(place.path)
        if not quiet:
            click.echo(f"erg: what was made before is now in {shown_path(aside)}", err=True)
    # Values and parts said on the command line are for this time; constants shape the runs.
    kept = _with_constants_of(written, experiment)
    if place.begun:
        before = place.experiment()
        refuse_other(before, kept, plan_runs(before), plan_runs(kept), str(place))
    asked = plan_runs(experiment)
    _confirm(experiment, len(asked), yes=yes)
    made = _finished(place, asked)
    if made == len(asked) and not retry_failed and not quiet:
        click.echo(
            f"erg: all {made} runs are finished already; --again makes them anew, --repetitions adds some", err=True
        )

    def plan(past: Sequence[Run]) -> Sequence[Run]:
        return plan_runs(experiment, past)

    return make(
        place,
        Asked(
            experiment=kept,
            text=text,
            plan=plan,
            wanted=lambda runs: wanted_numbers(runs, asked),
            retry_failed=retry_failed,
            keep_hosts=keep_hosts,
        ),
        as_json=as_json,
        quiet=quiet,
    )


def _with_constants_of(written: Experiment, changed: Experiment) -> Experiment:
    from msgspec.structs import replace

    return replace(written, fixed=changed.fixed)


def _finished(folder: ExperimentFolder, asked: Sequence[Run]) -> int:
    """How many of them are, well or not."""
    from ergates.conductor.plan_changes import wanted_numbers

    if not folder.begun:
        return 0
    known = folder.runs()
    wanted = set(wanted_numbers(known, asked))
    return sum(folder.is_finished(run) for run in known if run.number in wanted)


def _confirm(experiment: Experiment, runs: int, *, yes: bool) -> None:
    """Other people may use other machines; nobody asks where nobody sits."""
    from ergates.conductor.host_groups import all_here

    changes = [name for group in experiment.hosts for name, _ in group.prepare]
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()) or (all_here(experiment) and not changes):
        return
    hosts = ", ".join(f"{group.name} ({group.kind}, {group.count})" for group in experiment.hosts)
    settings = f", settings changed there and undone after: {', '.join(sorted(set(changes)))}" if changes else ""
    click.confirm(f"{runs} runs on {hosts}{settings}. Begin?", default=True, abort=True, err=True)
