"""Conducts the runs of an experiment on its hosts: watches the store, gathers what ended, sees to hosts and store that die.

The first Ctrl-C (or TERM) lets what runs end and starts nothing new; the second gives back what runs. Nothing is lost either way.
"""

from __future__ import annotations

import select
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, Protocol

from ergates.agent.signals import Caught
from ergates.clock import Clock
from ergates.cluster.task import JobId
from ergates.conductor.run_book import RunBook, take_in_new
from ergates.conductor.run_store import RunStore
from ergates.conductor.standing import Standing
from ergates.conductor.watching import Watch
from ergates.controller.reap import Reaper, reaping_member
from ergates.drivers.alarm import Alarm
from ergates.errors import ErgatesError, StoreUnavailableError
from ergates.experiment.host import EXPERIMENT_LABEL, HOST_LABEL, ExperimentHost, Hosts
from ergates.experiment.records import Manifest
from ergates.experiment.run import Run
from ergates.experiment.spec import Experiment
from ergates.units import SECOND_NS

if TYPE_CHECKING:
    from ergates.drivers.stores.redis.store import RedisStore

LOOK_S = 0.1
HOSTS_NS = SECOND_NS
"""How often workers of this machine are looked at; to look at others costs a connection each."""
FAR_HOSTS_NS = 15 * SECOND_NS
ALL_NS = 10 * SECOND_NS
HELD_MOST = 4096
"""Leases of a store that others use, too, of which those of our runs are shown as running."""
Why = Literal["finished", "drained", "stopped", "cancelled"]


class Display(Protocol):
    """Whom the conductor tells how it goes."""

    def ended(self, run: Run, manifest: Manifest) -> None:
        """A run has its manifest."""
        ...

    def looked(self, standing: Standing) -> None: ...

    def say(self, text: str) -> None:
        """Something happened that people should know."""
        ...


class Conductor:
    """One experiment on hosts that are up.

    Args:
        experiment: which.
        store: opened.
        run_store: the same, to start it again when it dies.
        job: of the runs.
        book: takes in what ended.
        groups: what raised the hosts, by group.
        hosts: all of them.
        near: groups whose workers are children of this process.
        display: is told.
        clock: of this process.
    """

    def __init__(
        self,
        experiment: Experiment,
        store: RedisStore,
        run_store: RunStore,
        job: JobId,
        book: RunBook,
        groups: Mapping[str, Hosts],
        hosts: tuple[ExperimentHost, ...],
        near: frozenset[str],
        display: Display,
        clock: Clock,
    ) -> None:
        self._experiment, self._store, self._run_store, self._job = experiment, store, run_store, job
        self._book, self._groups, self._hosts, self._near = book, groups, hosts, near
        self._display, self._clock = display, clock
        self._watch = Watch(store, job)
        self._reaper = Reaper(store, clock, reaping_member(str(uuid.uuid4()), clock), lambda _: None)
        self._due = {"far": clock.now_ns() + FAR_HOSTS_NS}  # their workers were just started, and may not be known yet
        self._stopping = False

    def run(self, signals: Caught, alarm: Alarm) -> Why:
        """Until every run has its manifest, or until told to stop.

        Raises:
            ErgatesError: hosts cannot serve any more.
        """
        while True:
            why = self._step(signals)
            if why is not None:
                return why
            if select.select([alarm.fileno()], [], [], LOOK_S)[0]:
                alarm.clear()

    def _step(self, signals: Caught) -> Why | None:
        try:
            return self._look(signals)
        except StoreUnavailableError as error:
            if signals.count > 1:
                return "stopped"
            if not self._run_store.revive() and self._is_due("away", 5 * SECOND_NS):
                self._display.say(f"waiting for the store: {error}")
            return None

    def _look(self, signals: Caught) -> Why | None:
        if signals.count > 1:
            return "stopped"
        if signals.count and not self._stopping:
            self._store.set_phase(self._job, "paused", self._clock.now_ns())
            self._stopping = True
            self._display.say("stopping: what runs may end, nothing new starts; Ctrl-C again gives back what runs")
        self._take_in(all_of_them=self._is_due("all", ALL_NS))
        if not self._book.open_runs:
            return "finished"
        if self._is_due("held", SECOND_NS // 2):
            self._book.now_running(lease.task for lease in self._store.held(HELD_MOST) if lease.job == self._job)
            self._book.write_standing()
            if self._stopping and not self._store.status(self._job).counts.get("leased", 0):
                self._take_in(all_of_them=True)
                return "drained"
        self._display.looked(self._book.standing())
        self._see_to_hosts()
        return "cancelled" if self._is_due("phase", SECOND_NS) and self._cancelled() else None

    def _cancelled(self) -> bool:
        """Somebody else cancelled what is left."""
        status = self._store.status(self._job)
        waits = any(status.counts.get(state, 0) for state in ("ready", "blocked", "delayed", "leased"))
        if waits:
            return False
        self._take_in(all_of_them=True)
        return bool(self._book.open_runs)

    def _take_in(self, *, all_of_them: bool) -> None:
        for run, manifest in take_in_new(self._book, self._watch, all_of_them=all_of_them):
            self._display.ended(run, manifest)
            self._due.pop("held", None)

    # --- hosts --------------------------------------------------------------------------------

    def _see_to_hosts(self) -> None:
        if self._stopping:
            return
        if self._is_due("near", HOSTS_NS):
            for name in self._near:
                self._groups[name].start_workers(self._run_store.file, self._experiment.name)
            self._reaper.reap()
        far = self._groups.keys() - self._near
        if far and self._is_due("far", FAR_HOSTS_NS):
            live = {
                worker.info.capacity.labels.get(HOST_LABEL)
                for worker in self._store.workers()
                if worker.standing == "live"
                and worker.info.capacity.labels.get(EXPERIMENT_LABEL) == self._experiment.name
            }
            lacking = {host.group for host in self._hosts if host.group in far and host.name not in live}
            for name in sorted(lacking):
                self._display.say(f"hosts.{name}: starting workers where none is alive")
                self._start(self._groups[name])

    def _start(self, group: Hosts) -> None:
        try:
            group.start_workers(self._run_store.file, self._experiment.name)
        except ErgatesError as error:
            self._display.say(str(error))

    def _is_due(self, what: str, every_ns: int) -> bool:
        now = self._clock.now_ns()
        if now < self._due.get(what, 0):
            return False
        self._due[what] = now + every_ns
        return True


def all_down(groups: Mapping[str, Hosts], say: Callable[[str], None]) -> None:
    """Take every group down; what fails is said, and does not keep the others up."""
    for name, group in reversed(list(groups.items())):
        try:
            group.down()
        except (ErgatesError, OSError) as error:
            say(f"hosts.{name}: not taken down: {error}")
