"""What verbs of `erg experiment` share: the file, its folder, other values and parts said on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ergates.cli.options import applied

if TYPE_CHECKING:
    from ergates.experiment.spec import Experiment

experiment_file = click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
finished_experiment = click.argument("file", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
"""Of verbs that only read: the file, or the folder of its runs."""
folder_option = click.option(
    "--folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where its runs lie.  [default: FILE.experiment, beside the file]",
)
change_options = applied(
    (
        click.option(
            "--set",
            "sets",
            multiple=True,
            metavar="NAME=VALUES",
            help="Other values of an axis, or another one of a constant: load=0.5,0.9 or 'load={from=1,to=8,factor=2}'.",
        ),
        click.option(
            "--only",
            multiple=True,
            metavar="AXIS=VALUES",
            help="Only the points with these values of an axis: policy=darc.",
        ),
        click.option(
            "--repetitions",
            type=click.IntRange(1),
            metavar="N",
            help="Of every point.  [default: what the file says]",
        ),
    )
)
"""The arguments of `chosen_experiment`."""


def chosen_experiment(
    file: Path, sets: tuple[str, ...] = (), only: tuple[str, ...] = (), repetitions: int | None = None
) -> Experiment:
    """The experiment of a file, with what the options say.

    Raises:
        InputError: the file or an option cannot be read, or leaves nothing to run.
    """
    from ergates.experiment.reading.overrides import changed
    from ergates.experiment.reading.read_experiment import read_experiment

    return changed(read_experiment(file), sets=sets, only=only, repetitions=repetitions)
