"""A worker of a cluster: takes tasks of any job (or of some) from a store on another machine, until it is told to stop.

The first INT or TERM drains, the second gives back at once, as in `erg run`; in an allocation of a batch system, which kills
soon after, the first one does. It also ends when its allocation does, when nothing is left, or when nothing has come for a
while, as its options say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

from ergates import __version__
from ergates.agent.build_worker import Placing, build_worker
from ergates.agent.exchanging import FAR, Rhythm, Store
from ergates.agent.judging import shares_its_end
from ergates.agent.limits import LOOK_NS, Limits, NodeFile
from ergates.agent.peers import Peers
from ergates.agent.settings import RunSettings
from ergates.agent.signals import Caught, caught_signals
from ergates.agent.worker import Far, Worker
from ergates.agent.worker_log import WorkerLog
from ergates.clock import Clock, SystemClock
from ergates.cluster.node import WorkerInfo, WorkerOrders
from ergates.cluster.task import JobId
from ergates.drivers.alarm import Alarm
from ergates.errors import InputError
from ergates.taskqueue.node_health import HealthSettings, NodeHealth
from ergates.taskqueue.store import Bell, Roster
from ergates.units import SECOND_NS, Nanoseconds, format_bytes

Why = Literal["drained", "given_back", "ordered", "time", "empty", "idle"]
END_MARGIN_NS = 10 * SECOND_NS
"""What still runs so long before the end (and the grace) of an allocation goes back unharmed instead of being lost."""
STEP_S = 10.0
LAST_LOOK_NS = 2 * SECOND_NS


class ClusterStore(Store, Roster, Protocol):
    """The sides of a cluster's store that a worker uses."""

    def bell(self, worker: str) -> Bell:
        """What rings when there may be something for this worker."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """What one `erg worker start` was told, besides what every worker is.

    Args:
        run: limits and choices, `state_dir` among them: several workers may share it.
        jobs: to serve; empty for all.
        idle_timeout_ns: end after so long without work; None never.
        until_empty: end when no task of any of these jobs is left.
        ends_ns: when the allocation ends, by this machine's clock; None when it does not.
        drain_before_ns: so long before that nothing new starts.
        node_file: limits that are read again when they change.
        placed_by: see WorkerInfo.
        trusted: whether the store lets in nobody who has not proved who they are: calls may be pickles then.
        rhythm, health: for tests that cannot wait as long as people can.
    """

    run: RunSettings
    jobs: tuple[JobId, ...] = ()
    idle_timeout_ns: Nanoseconds | None = None
    until_empty: bool = False
    ends_ns: Nanoseconds | None = None
    drain_before_ns: Nanoseconds = Nanoseconds(60 * SECOND_NS)
    node_file: str | None = None
    placed_by: str = ""
    trusted: bool = False
    rhythm: Rhythm = FAR
    health: HealthSettings = HealthSettings()


def run_cluster_worker(
    store: ClusterStore, settings: ClusterSettings, log: WorkerLog, *, catch_signals: bool = True
) -> Why:
    """Work until told to stop; returns why it ended.

    Raises:
        StoreError: at the start the store cannot be reached or does not let us in; later only what does not mend itself.
        LaunchError: this machine cannot start tasks.
        InputError: the node file cannot be read at the start.
    """
    alarm = Alarm()
    try:
        with caught_signals(catch_signals, alarm) as signals:
            return _ClusterWorker(store, settings, log, alarm).run(signals)
    finally:
        alarm.close()


class _ClusterWorker:
    """One worker and what steers it from outside."""

    def __init__(self, store: ClusterStore, settings: ClusterSettings, log: WorkerLog, alarm: Alarm) -> None:
        self._store, self._settings, self._log, self._alarm = store, settings, log, alarm
        self._clock: Clock = SystemClock()
        self._bell: Bell | None = None
        self._node_file = None if settings.node_file is None else NodeFile(settings.node_file)
        if self._node_file is not None:
            self._node_file.changed()
        self._next_look_ns = self._clock.now_ns() + LOOK_NS
        self._why: Why | None = None
        self._given_back = False
        placing = Placing(version=__version__, ends_ns=settings.ends_ns, placed_by=settings.placed_by)
        self.worker: Worker = build_worker(store, settings.run, jobs=settings.jobs, placing=placing, far=self._far_of)
        self._limits = Limits(self.worker.info.capacity, settings.run.jobs, pin=settings.run.pin)

    def _far_of(self, info: WorkerInfo) -> Far:
        self._bell = self._store.bell(info.id)
        return Far(
            bell=self._bell,
            alarm=self._alarm,
            peers=Peers(info.id, info.host, self._store.workers),
            health=NodeHealth(self._settings.health),
            obey=self._obey,
            log=self._log,
            trusted=self._settings.trusted,
            rhythm=self._rhythm(),
            others=self._store,
        )

    def _rhythm(self) -> Rhythm:
        """Nothing rings when others end the last task: who waits for that has to look."""
        rhythm = self._settings.rhythm
        if not self._settings.until_empty:
            return rhythm
        return replace(rhythm, idle_ns=min(rhythm.idle_ns, LAST_LOOK_NS))

    def run(self, signals: Caught) -> Why:
        """Register, work, leave."""
        worker, info = self.worker, self.worker.info
        try:
            worker.register()
            self._log.say(
                "registered",
                worker=info.id,
                host=info.host,
                pid=info.pid,
                cpus=f"{info.capacity.cpus_milli / 1000:g}",
                memory=format_bytes(info.capacity.memory_bytes),
                version=info.version,
            )
            if self._node_file is not None:
                self._limits.file = self._node_file.orders
                self._apply()
            return self._loop(signals)
        finally:
            worker.close()
            if self._bell is not None:
                self._bell.close()
            self._log.say("left", worker=info.id, why=self._why)

    def _loop(self, signals: Caught) -> Why:
        worker = self.worker
        while True:
            worker.step(self._step_s())
            now = self._clock.now_ns()
            if signals.count:
                give_back = signals.count > 1 or shares_its_end(self._settings.placed_by)
                self._stop("given_back" if give_back else "drained", give_back=give_back)
            self._mind_time(now)
            self._mind_node_file(now)
            if worker.busy and not (self._given_back and worker.stuck):
                continue
            if worker.draining:
                assert self._why is not None
                return self._why
            if self._settings.until_empty and worker.open_tasks == 0:
                self._why = "empty"
                return "empty"
            idle_ns = self._settings.idle_timeout_ns
            if idle_ns is not None and now - worker.busy_ns >= idle_ns:
                self._why = "idle"
                return "idle"

    def _step_s(self) -> float:
        """Until the next moment at which this loop has something to do, whatever happens."""
        settings = self._settings
        until = []
        if settings.idle_timeout_ns is not None:
            until.append(self.worker.busy_ns + settings.idle_timeout_ns)
        if settings.ends_ns is not None:
            until += [settings.ends_ns - settings.drain_before_ns, self._last_call_ns(settings.ends_ns)]
        if self._node_file is not None:
            until.append(self._next_look_ns)
        now = self._clock.now_ns()
        return min([STEP_S, *((at - now) / 1e9 for at in until if at > now)])

    # --- what it is told ----------------------------------------------------------------------

    def _stop(self, why: Why, *, give_back: bool) -> None:
        if self.worker.draining and (self._given_back or not give_back):
            return
        self._why, self._given_back = why, give_back
        self._log.say("draining", why=why, give_back=give_back)
        self.worker.drain(give_back=give_back)

    def _mind_time(self, now: int) -> None:
        ends_ns = self._settings.ends_ns
        if ends_ns is None:
            return
        if now >= self._last_call_ns(ends_ns):
            self._stop("time", give_back=True)
        elif now >= ends_ns - self._settings.drain_before_ns:
            self._stop("time", give_back=False)

    def _last_call_ns(self, ends_ns: int) -> int:
        return ends_ns - min(END_MARGIN_NS, self._settings.drain_before_ns) - self._settings.run.grace_ns

    def _mind_node_file(self, now: int) -> None:
        if self._node_file is None or now < self._next_look_ns:
            return
        self._next_look_ns = now + LOOK_NS
        try:
            if self._node_file.changed():
                self._limits.file = self._node_file.orders
                self._apply()
        except InputError as error:
            self._log.say("node file ignored", why=str(error))

    def _obey(self, orders: WorkerOrders) -> None:
        self._limits.store = orders
        self._apply()

    def _apply(self) -> None:
        capacity, jobs = self._limits.capacity()
        self._log.say(
            "limits",
            cpus=f"{capacity.cpus_milli / 1000:g}",
            memory=format_bytes(capacity.memory_bytes),
            labels=",".join(f"{name}={value}" for name, value in sorted(capacity.labels.items())),
            orders=self._limits.store.version,
        )
        self.worker.change(capacity, jobs=jobs)
        if self._limits.drain:
            self._stop("ordered", give_back=self._limits.give_back)
