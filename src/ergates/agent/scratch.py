"""Directories for attempts whose files are carried: made before they start, needed after they ended, removed then.

Other attempts use the scratch directory of their slot (drivers/launchers/scratch.py).
"""

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

    Making and removing one costs half a millisecond on a common disk: an empty one is given to a later attempt. One with
    something in it is moved aside and removed by a thread, so that a million files do not hold up the worker's loop.
    """

    def __init__(self, state_dir: Path, worker_id: str) -> None:
        self._folder = str(state_dir.absolute() / FOLDER / worker_id)
        self._given: dict[AttemptKey, str] = {}
        self._empty: list[str] = []
        self._made = 0
        self._rubbish: SimpleQueue[str | None] = SimpleQueue()
        self._sweeper: threading.Thread | None = None

    def make(self, key: AttemptKey) -> str:
        """An empty directory for an attempt, or the one it has already. Raises LaunchError."""
        known = self._given.get(key)
        if known is not None:
            return known
        path = self._empty.pop() if self._empty else self._new()
        self._given[key] = path
        return path

    def remove(self, key: AttemptKey) -> None:
        """The attempt is over, or was never started: what is in its directory goes."""
        path = self._given.pop(key, None)
        if path is None:
            return
        try:
            left = os.listdir(path)
        except FileNotFoundError:  # the task removed it
            return
        except OSError:  # it made something else of it
            self._sweep(path)
            return
        if left:
            self._sweep(path)
        else:
            self._empty.append(path)

    def close(self) -> None:
        """Remove everything."""
        if self._sweeper is not None:
            self._rubbish.put(None)
            self._sweeper.join()
        remove_scratch(Path(self._folder).parent.parent, (Path(self._folder).name,))

    def _new(self) -> str:
        self._made += 1
        path = f"{self._folder}/{self._made}"
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

    def _sweep(self, path: str) -> None:
        aside = f"{path}.rubbish"
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
