"""All runs of an experiment as the tasks of one job: task number is run number, in the store of the day.

A job is known by the folder and by which runs are asked for. So the same command attaches to the job that is there. A store that
was lost, or other runs asked for, make a new one; what is finished by its manifest, or not asked for, is cancelled in it before
any worker sees it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from ergates.clock import Clock
from ergates.cluster.job import JobSpec, RetryLimits
from ergates.cluster.task import JobId
from ergates.conductor.experiment_folder import ExperimentFolder
from ergates.conductor.run_manifest import problems_of_members
from ergates.conductor.run_task import task_of
from ergates.drivers.hosts.local_workers import Place
from ergates.experiment.layout import MEMBER
from ergates.experiment.records import MemberRecord
from ergates.experiment.run import Run
from ergates.experiment.spec import Experiment
from ergates.taskqueue.store import Reader, Submitter

NOT_NOW = "not asked for, or finished before"
EARLIER = "earlier"
"""Attempts that a store knew which is gone: `attempt-1` becomes `earlier-1`, for the numbers begin anew."""


class Store(Submitter, Reader, Protocol):
    """The sides of a store that this needs."""


def submit_runs(
    store: Store,
    experiment: Experiment,
    folder: ExperimentFolder,
    place: Place,
    runs: Sequence[Run],
    wanted: Collection[int],
    clock: Clock,
    *,
    again: Collection[int] = (),
    forget: Callable[[Collection[Run]], None] = lambda _: None,
) -> JobId:
    """The job in which these runs are made; to be called while no worker of the experiment lives.

    Args:
        store: where it goes.
        experiment: whose runs.
        folder: of the experiment.
        place: the same, as hosts know it.
        runs: all that were planned, by their numbers.
        wanted: numbers of those that are asked for now.
        clock: of this process.
        again: numbers of those that are to be tried again if they failed for good, as far as they have no manifest.
        forget: has hosts delete what they have of runs of which no store knows.

    Raises:
        StoreError: the store does not take it.
    """
    prefix = f"experiment:{place.mark}:"
    key = prefix + _digest(wanted)
    known = [status for status in store.jobs() if status.key.startswith(prefix) and status.phase != "cancelled"]
    for status in known:
        if status.key != key and status.phase != "finished":
            store.set_phase(status.id, "cancelled", clock.now_ns())
    unfinished = [run for run in runs if run.number in wanted and not folder.is_finished(run)]
    if not any(status.key == key for status in known):
        set_attempts_aside(folder, unfinished)
        forget(unfinished)
    spec = JobSpec(
        key=key,
        name=experiment.name,
        cwd=experiment.here,
        source=experiment.source,
        retry_limits=RetryLimits(failures=experiment.retries, timeouts=experiment.retries),
        labels={"experiment": experiment.name},
    )
    tasks = [task_of(experiment, run, folder.run_folder(run)) for run in runs]
    job = store.submit(spec, tasks, clock.now_ns()).id
    left_out = {run.number for run in runs} - {run.number for run in unfinished}
    store.cancel(job, ranges(left_out), NOT_NOW, clock.now_ns())
    if again:
        store.retry(job, ranges(set(again) & {run.number for run in unfinished}), clock.now_ns())
    if store.status(job).phase == "paused":
        store.set_phase(job, "active", clock.now_ns())
    return job


def set_attempts_aside(folder: ExperimentFolder, runs: Iterable[Run]) -> None:
    """What is there of attempts that no store knows any more stays, under names that no new attempt has."""
    for run in runs:
        run_folder = folder.run_folder(run)
        for attempt in sorted(run_folder.glob("attempt-*")):
            number = 1
            while (aside := run_folder / f"{EARLIER}-{number}").exists():
                number += 1
            attempt.rename(aside)


def earlier_attempts(folder: ExperimentFolder, run: Run) -> tuple[str, ...]:
    """What became of those that were set aside, in words, for the manifest: their own files say it."""
    found = sorted(folder.run_folder(run).glob(f"{EARLIER}-*"))
    return tuple(f"{path.name}: {_said_in(path)}" for path in found)


def _said_in(attempt: Path) -> str:
    for path in sorted(attempt.glob(f"*/{MEMBER}")):
        with suppress(OSError, msgspec.MsgspecError):
            member = msgspec.json.decode(path.read_bytes(), type=MemberRecord)
            said = next(problems_of_members({member.seat.rank: member}), "")
            if said:
                return said
    return "cut off"


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Inclusive ranges, ascending."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found


def _digest(wanted: Collection[int]) -> str:
    return hashlib.sha256(repr(ranges(wanted)).encode()).hexdigest()[:16]
