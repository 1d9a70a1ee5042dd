"""Runs that need this machine and nothing else: made by a worker in this very process, on a store that is one file."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from contextlib import closing

from ergates.agent.observer import NodeSnapshot
from ergates.agent.run_job import run_job
from ergates.agent.settings import RunSettings
from ergates.clock import Clock
from ergates.cluster.attempt import Attempt
from ergates.cluster.node import NamedResource
from ergates.conductor.conducting import Display, Why
from ergates.conductor.experiment_folder import ExperimentFolder
from ergates.conductor.leftovers import give_back
from ergates.conductor.run_book import RunBook, take_in_new
from ergates.conductor.submission import submit_runs
from ergates.conductor.watching import Watch
from ergates.drivers.hosts.local import LOOPBACK
from ergates.drivers.hosts.local_workers import MARK, Place
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.drivers.stores.state_dir import make_state_dir
from ergates.experiment.host import (
    ADDRESS_VARIABLE,
    HOST_LABEL,
    HOST_VARIABLE,
    WHOLE_HOST,
    worker_labels,
)
from ergates.experiment.run import Run
from ergates.experiment.spec import Experiment
from ergates.taskqueue.store import Lease, Verdict
from ergates.units import SECOND_NS, Nanoseconds

_NOTES = {
    1: "stopping: what runs may end, nothing new starts; Ctrl-C again gives back what runs",
    2: "giving back what runs",
}


def run_alone(
    experiment: Experiment,
    folder: ExperimentFolder,
    place: Place,
    runs: Sequence[Run],
    wanted: Collection[int],
    book: RunBook,
    display: Display,
    clock: Clock,
    *,
    again: Collection[int] = (),
) -> Why:
    """Until every run has its manifest, or until told to stop.

    Raises:
        StoreError, LaunchError: this machine cannot make them.
    """
    state = make_state_dir(place.folder, state=place.folder / "store")
    settings = _settings(experiment, str(state.root))
    # What the worker's programs inherit, for the worker is this process.
    os.environ |= {MARK: place.mark, ADDRESS_VARIABLE: LOOPBACK, HOST_VARIABLE: settings.node_labels[HOST_LABEL]}
    with closing(state.open_store()) as store:
        job = submit_runs(store, experiment, folder, place, runs, wanted, clock, again=again)
        give_back(store, job, clock)
        watch = Watch(store, job)
        follower = _Follower(book, watch, store, display)
        follower.take_in(all_of_them=True)
        result = run_job(
            store,
            job,
            settings,
            (follower,),
            on_signal=lambda number: display.say(_NOTES[number]),
            until_empty=True,
        )
        follower.take_in(all_of_them=True)
    if not book.open_runs:
        return "finished"
    return {"drained": "drained", "given_back": "stopped"}.get(result.why, "cancelled")  # type: ignore[return-value]


def _settings(experiment: Experiment, state_dir: str) -> RunSettings:
    """One run at a time, unless the group says that there are more hosts of it."""
    role = experiment.roles[0]
    group = next(group for group in experiment.hosts if group.name == role.group)
    return RunSettings(
        jobs=group.count,
        cpus_milli=group.cpus_milli,
        memory_bytes=group.memory_bytes,
        resources=(NamedResource(name=WHOLE_HOST, amount=group.count),),
        node_labels=worker_labels(experiment.name, group.name, group.name),
        state_dir=state_dir,
    )


class _Follower:
    """Observer of the worker: runs that ended are gathered while the next ones are made."""

    def __init__(self, book: RunBook, watch: Watch, store: SqliteStore, display: Display) -> None:
        self._book, self._watch, self._store, self._display = book, watch, store, display
        self._running: set[int] = set()
        self._news = False
        self._written_ns = 0

    def attempt_started(self, lease: Lease, at_ns: Nanoseconds) -> None:
        self._running.add(lease.task)

    def attempt_ended(self, lease: Lease, attempt: Attempt, verdict: Verdict, result: bytes | None) -> None:
        self._running.discard(lease.task)
        self._news = True

    def looked(self, snapshot: NodeSnapshot) -> None:
        if self._news:
            self._news = False
            self.take_in()
        self._book.now_running(self._running)
        if snapshot.at_ns >= self._written_ns + SECOND_NS // 2:
            self._written_ns = snapshot.at_ns
            self._book.write_standing()
        self._display.looked(self._book.standing())

    def take_in(self, *, all_of_them: bool = False) -> None:
        for run, manifest in take_in_new(self._book, self._watch, all_of_them=all_of_them):
            self._display.ended(run, manifest)
