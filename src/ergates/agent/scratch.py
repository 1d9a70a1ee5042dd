"""A scratch directory of its own for every attempt (`ERG_TASK_DIR`), removed when the attempt is over."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

from ergates.drivers.output.pack import FULL
from ergates.errors import LaunchError
from ergates.taskqueue.launching import AttemptKey

FOLDER = "scratch"


class NoRoomError(LaunchError):
    """The disk is full: what could not start has to wait."""


class Scratch:
    """The scratch directories of one worker, in `scratch/<its id>/` of its state directory.

    Most tasks leave them empty: then they are removed at once. What is full is moved aside and removed by a thread, so
    that a million files do not hold up the worker's loop.
    """

    def __init__(self, state_dir: Path, worker_id: str) -> None:
        self._folder = str(state_dir.absolute() / FOLDER / worker_id)
        self._rubbish: SimpleQueue[str | None] = SimpleQueue()
        self._sweeper: threading.Thread | None = None
        self._made = 0

    def make(self, key: AttemptKey) -> str:
        """Make the directory of an attempt. Raises LaunchError."""
        path = self._path(key)
        try:
            try:
                os.mkdir(path, 0o700)
            except FileNotFoundError:
                os.makedirs(self._folder, 0o700, exist_ok=True)
                os.mkdir(path, 0o700)
        except OSError as error:
            kind = NoRoomError if error.errno in FULL else LaunchError
            raise kind(f"no scratch directory {path}: {error.strerror}") from error
        return path

    def remove(self, key: AttemptKey) -> None:
        """The attempt is over, or was never started."""
        path = self._path(key)
        try:
            Path(path).rmdir()
        except FileNotFoundError:
            return
        except OSError:  # not empty
            self._sweep(path)

    def close(self) -> None:
        """Remove everything."""
        if self._sweeper is not None:
            self._rubbish.put(None)
            self._sweeper.join()
        remove_scratch(Path(self._folder).parent.parent, (Path(self._folder).name,))

    def _path(self, key: AttemptKey) -> str:
        job, task, fence = key
        return f"{self._folder}/{job}.{task}.{fence}"

    def _sweep(self, path: str) -> None:
        self._made += 1
        aside = f"{self._folder}/rubbish.{self._made}"
        with suppress(OSError):  # somebody removed it, or the disk is read-only now
            Path(path).rename(aside)
            if self._sweeper is None:
                self._sweeper = threading.Thread(target=self._work, name="ergates-scratch", daemon=True)
                self._sweeper.start()
            self._rubbish.put(aside)

    def _work(self) -> None:
        while (path := self._rubbish.get()) is not None:
            shutil.rmtree(path, ignore_errors=True)


def remove_scratch(state_dir: Path, workers: Iterable[str]) -> None:
    """Remove what these workers, who are gone, left."""
    for worker in workers:
        shutil.rmtree(state_dir / FOLDER / worker, ignore_errors=True)
