"""Which experiment is meant: by its file, or by the folder of its runs."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from ergates.conductor.experiment_folder import ExperimentFolder, folder_of
from ergates.errors import UsageError
from ergates.experiment.layout import FOLDER_SUFFIX
from ergates.experiment.read_experiment import read_experiment
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


def find_folder(path: Path, folder: Path | None = None) -> Found:
    """The runs of an experiment, and what is to be read of them.

    Args:
        path: the file, or the folder of its runs. The file of a folder is the one beside it from which the folder has its name.
        folder: where the runs of the file lie, when not beside it.

    Raises:
        UsageError: neither is there, no runs were planned, or they are of another experiment.
        InputError: the file cannot be read.
    """
    if path.is_dir():
        return _of_folder(path, folder)
    if not path.exists():
        hint = f"\n  hint: its runs are in {folder_of(path)}" if folder_of(path).is_dir() else ""
        raise UsageError(f"{path}: no such file or folder\n  expected: FILE.toml or the folder of its runs{hint}")
    experiment = read_experiment(path)
    found = ExperimentFolder(Path.absolute(folder) if folder else folder_of(path))
    _check_same(experiment, found, path)
    return Found(folder=found, experiment=experiment, source=str(path))


def _of_folder(path: Path, folder: Path | None) -> Found:
    if folder is not None and folder.absolute() != path.absolute():
        raise UsageError(f"{path} and --folder {folder}: name one folder, or the file and its folder")
    found = ExperimentFolder(path.absolute())
    planned = found.experiment()
    beside = found.path.parent / f"{found.path.name.removesuffix(FOLDER_SUFFIX)}.toml"
    if found.path.name.endswith(FOLDER_SUFFIX) and beside.is_file():
        experiment = read_experiment(beside)
        if experiment.name == planned.name:
            return Found(folder=found, experiment=experiment, source=str(beside))
    return Found(folder=found, experiment=planned, source=str(path))


def _check_same(experiment: Experiment, folder: ExperimentFolder, path: Path) -> None:
    planned = folder.experiment().name
    if planned != experiment.name:
        raise UsageError(
            f"{folder} holds runs of {planned!r}, {path} is {experiment.name!r}"
            "\n  hint: --folder names the folder of its runs"
        )
