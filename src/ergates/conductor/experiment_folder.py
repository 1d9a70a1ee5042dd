"""The folder of an experiment on disk: what was planned, which runs are finished, and who works on it now.

A run is finished when its manifest is there, whole: it is written beside, put on the disk and renamed. Nothing else is asked.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from ergates.drivers.whole_file import sync_folder, sync_tree, write_whole
from ergates.errors import ErgatesError, UsageError
from ergates.experiment.layout import EXPERIMENT, FOLDER_SUFFIX, MANIFEST, PLAN, run_folder_name
from ergates.experiment.records import Manifest
from ergates.experiment.run import Run
from ergates.experiment.spec import Experiment

T = TypeVar("T")
AS_READ, STANDING, LOCK, RUNS = "experiment.json", "standing.json", "conductor.lock", "runs"
_ASKED_S = 0.5
_TEMPORARY = ("store", "hosts")
"""Folders that are there only while something runs, or is to go on."""


class ExperimentFolder:
    """Args: `path` is absolute; it need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __str__(self) -> str:
        return os.path.relpath(self.path) if self.path.is_relative_to(Path.cwd()) else str(self.path)

    @property
    def begun(self) -> bool:
        """Whether runs were planned here."""
        return (self.path / PLAN).exists()

    # --- what was planned ---------------------------------------------------------------------

    def write_plan(self, experiment: Experiment, text: str, runs: Sequence[Run]) -> None:
        """Keep what is to be made; the plan comes last, for it says that the rest is there.

        Args:
            experiment: as read.
            text: of its file.
            runs: all, those of earlier plans included.
        """
        (self.path / RUNS).mkdir(parents=True, exist_ok=True)
        write_whole(self.path / EXPERIMENT, text.encode(errors="surrogateescape"))
        write_whole(self.path / AS_READ, msgspec.json.format(msgspec.json.encode(experiment), indent=1) + b"\n")
        write_whole(self.path / PLAN, b"".join(msgspec.json.encode(run) + b"\n" for run in runs))

    def experiment(self) -> Experiment:
        """As it was read when the runs were planned.

        Raises:
            UsageError: this is no folder of an experiment, or not one of ours.
        """
        return _decoded(self.path / AS_READ, Experiment)

    def runs(self) -> tuple[Run, ...]:
        """All that were planned. Raises UsageError as `experiment`."""
        path = self.path / PLAN
        try:
            return tuple(msgspec.json.decode(line, type=Run) for line in path.read_bytes().splitlines())
        except FileNotFoundError:
            raise _not_begun(self.path) from None
        except msgspec.MsgspecError as error:
            raise UsageError(f"{path}: not what a plan holds: {error}") from error

    def run_folder(self, run: Run) -> Path:
        return self.path / RUNS / run_folder_name(run)

    # --- what is finished ---------------------------------------------------------------------

    def is_finished(self, run: Run) -> bool:
        return (self.run_folder(run) / MANIFEST).exists()

    def manifest(self, run: Run) -> Manifest:
        """Of a finished run. Raises UsageError when there is none, or it is not one of ours."""
        return _decoded(self.run_folder(run) / MANIFEST, Manifest)

    def finish(self, run: Run, manifest: Manifest) -> None:
        """Write the manifest: from now on the run is finished. What it speaks of is on the disk before. Raises OSError."""
        folder = self.run_folder(run)
        sync_tree(folder)
        sync_folder(folder.parent)
        write_whole(folder / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")

    def reopen(self, run: Run) -> None:
        """It is not finished any more; what its manifest said stays beside it."""
        path = self.run_folder(run) / MANIFEST
        number = 1
        while (aside := path.with_name(f"failed-{number}.json")).exists():
            number += 1
        path.rename(aside)

    # --- who works on it ----------------------------------------------------------------------

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Only one process conducts at a time; the kernel lets go of the lock when its holder dies.

        Raises:
            UsageError: another one does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        fd = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _locked(fd):
                raise UsageError(
                    f"{self}: another process makes its runs now (pid {_holder(fd) or 'unknown'})"
                    f"\n  hint: erg experiment status {self}"
                )
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(fd)

    def conductor(self) -> int | None:
        """The process that makes its runs now; None when nobody does."""
        try:
            fd = os.open(self.path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(fd)
        finally:
            os.close(fd)
        return None

    def tidy(self) -> None:
        """Nothing runs any more and nothing is to go on: forget the store and what was set up for hosts."""
        for name in _TEMPORARY:
            shutil.rmtree(self.path / name, ignore_errors=True)
        (self.path / "store.toml").unlink(missing_ok=True)


def set_aside(folder: Path) -> Path:
    """Rename it to a name that nothing has: results are never deleted. Returns the new path."""
    stem = folder.name.removesuffix(FOLDER_SUFFIX)
    number = 1
    while (aside := folder.with_name(f"{stem}.{number}{FOLDER_SUFFIX}")).exists():
        number += 1
    folder.rename(aside)
    return aside


def folder_of(source: Path) -> Path:
    """Where the runs of an experiment file go unless something else is said: beside it."""
    return Path(os.path.abspath(source)).with_suffix(FOLDER_SUFFIX)


def _decoded(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        raise _not_begun(path.parent) from None
    except msgspec.MsgspecError as error:
        raise ErgatesError(f"{path}: not what was written there: {error}") from error


def _not_begun(folder: Path) -> UsageError:
    return UsageError(f"{folder}: no runs were planned here\n  hint: erg experiment run FILE.toml begins an experiment")


def _locked(fd: int) -> bool:
    """Whether the lock is ours. Who only asks for its holder has it, too, for less than a moment."""
    until = time.monotonic() + _ASKED_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(_ASKED_S / 100)
        else:
            return True


def _holder(fd: int) -> int:
    text = os.pread(fd, 32, 0).decode(errors="replace").strip()
    return int(text) if text.isdigit() else 0
