"""Which experiment is meant: by its file, or by the folder of its runs."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct

from ergates.conductor.experiment_folder import ExperimentFolder, folder_of
from ergates.errors import UsageError
from ergates.experiment.layout import FOLDER_SUFFIX
from ergates.experiment.reading.read_experiment import read_experiment
from ergates.experiment.spec import Experiment


class Found(Struct, frozen=True, kw_only=True):
    """Args:
    folder: where its runs lie.
    experiment: what the file says now where the file is known, else as it was when the runs were planned.
    source: from where the experiment was read, for messages.
    """

    folder: ExperimentFolder
    experiment: Experiment
    source: str


def named_folder(place: Path, folder: Path | None = None) -> ExperimentFolder:
    """Of what people give: the file of an experiment, or the folder of its runs. The file is not read.

    Args:
        place: the file, or the folder.
        folder: where the runs of the file lie, when not beside it.

    Raises:
        UsageError: there is no such experiment, or none of its runs were planned.
    """
    if place.is_dir() and folder is not None and folder.absolute() != place.absolute():
        raise UsageError(f"{place} and --folder {folder}: name one folder, or the file and its folder")
    if not place.exists() and folder is None and not folder_of(place).exists():
        raise UsageError(f"{place}: no such file or folder\n  expected: FILE.toml or the folder of its runs")
    path = Path(os.path.abspath(folder or (place if place.is_dir() else folder_of(place))))
    found = ExperimentFolder(path)
    if not found.begun:
        file = "FILE.toml" if place.is_dir() else place
        raise UsageError(f"{place}: no runs were planned in {path}\n  hint: erg experiment run {file}")
    return found


def find_folder(place: Path, folder: Path | None = None) -> Found:
    """The runs of an experiment, and what is to be read of them.

    Args:
        place: the file, or the folder; its file is the one beside it from which it has its name.
        folder: where the runs of the file lie, when not beside it.

    Raises:
        UsageError: as `named_folder`; or there are runs of another experiment.
        InputError: the file cannot be read.
    """
    found = named_folder(place, folder)
    planned = found.experiment()
    file = place if place.is_file() else _beside(found.path)
    if file is not None:
        experiment = read_experiment(file)
        if experiment.name == planned.name:
            return Found(folder=found, experiment=experiment, source=str(file))
        if file == place:
            raise UsageError(
                f"{found} holds runs of {planned.name!r}, {file} is {experiment.name!r}"
                "\n  hint: --folder names the folder of its runs"
            )
    return Found(folder=found, experiment=planned, source=str(found.path))


def _beside(folder: Path) -> Path | None:
    file = folder.parent / f"{folder.name.removesuffix(FOLDER_SUFFIX)}.toml"
    return file if folder.name.endswith(FOLDER_SUFFIX) and file.is_file() else None
