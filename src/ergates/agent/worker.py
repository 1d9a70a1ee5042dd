"""The worker's loop: receive, decide, perform. Every decision is the policy's; this shell only carries it out.

One turn: wait at the one place where everything announces itself, take in what ended (`performer.py`), sample memory
when it is time, and talk to the store (`exchanging.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from ergates.agent.copying import Copying, CopyStore
from ergates.agent.exchanging import FAR, NEAR, Exchanging, Rhythm, Store
from ergates.agent.judging import Judging
from ergates.agent.observer import AttemptObserver, NodeSnapshot, Observer
from ergates.agent.peers import Peers
from ergates.agent.performer import Performer
from ergates.agent.staging import Staging
from ergates.agent.store_link import FarStore, NearStore, StoreLink
from ergates.agent.wait_point import WaitPoint
from ergates.agent.worker_log import WorkerLog
from ergates.clock import Clock
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.node import LongAttempt, NodeCapacity, WorkerInfo, WorkerLoad, WorkerOrders
from ergates.cluster.task import JobId, Kind, Requirement
from ergates.drivers.alarm import Alarm
from ergates.drivers.objects.cache import FileCache
from ergates.errors import StoreFullError
from ergates.taskqueue.copying import has_room, longest, may_run_twice
from ergates.taskqueue.halt import Stop
from ergates.taskqueue.launching import AttemptKey, Launcher
from ergates.taskqueue.node_events import NodeChanged, OffersSeen, RestEnded, RestStarted, TasksLeased
from ergates.taskqueue.node_health import NodeHealth
from ergates.taskqueue.policies import Policy
from ergates.taskqueue.shape import shape_of
from ergates.taskqueue.store import Bell, Exchanged, Lease, Offer
from ergates.taskqueue.stragglers import Duplicate
from ergates.units import MilliCpus, Nanoseconds

SNAPSHOT_NS = 200_000_000
LEAVE_S = 10.0
"""How long a store that does not answer may hold up our end."""
_AWAY = "its worker was away for longer than its lease"


@dataclass(frozen=True, slots=True, kw_only=True)
class Far:
    """What a worker of a store on another machine has besides.

    Args:
        bell: the store's; None where it has none, and the worker looks every now and then.
        alarm: rings for this process: answers of the store, signals.
        peers: the other workers.
        health: whether this node is fit to work.
        obey: called with new orders.
        log: of what happens.
        trusted: whether only those who proved who they are write into the store: else it unpickles nothing from it.
        rhythm: how often it talks to the store without a reason.
        others: where attempts of other workers are found that may deserve a copy; None: it makes none.
    """

    bell: Bell | None
    alarm: Alarm
    peers: Peers
    health: NodeHealth
    obey: Callable[[WorkerOrders], None]
    log: WorkerLog
    trusted: bool = False
    rhythm: Rhythm = FAR
    others: CopyStore | None = None


class Worker:
    """Runs tasks of some jobs (all, when `jobs` is empty) until told to stop.

    Args:
        info: identity and capacity, already final.
        launchers: what makes the launcher of each kind, called when the first task of that kind comes.
        grace_ns: between TERM and KILL.
        state_dir: packs and scratch directories are there, and there must be room on its disk.
        stop_rule: asked after every attempt, once its end is committed, before anything else starts. Not with `far`.
        far: for a store on another machine.
        confine: sets the kernel's limit on all attempts together, where there is one.
        staging: carries files; closed with the worker.
    """

    def __init__(
        self,
        *,
        info: WorkerInfo,
        store: Store,
        launchers: Mapping[Kind, Callable[[], Launcher]],
        policy: Policy,
        clock: Clock,
        observers: Sequence[Observer] = (),
        jobs: Sequence[JobId] = (),
        grace_ns: Nanoseconds,
        state_dir: Path,
        stop_rule: Callable[[], Stop | None] | None = None,
        far: Far | None = None,
        confine: Callable[[int], bool] | None = None,
        staging: Staging | None = None,
    ) -> None:
        self.info = info
        self._store, self._clock, self._far = store, clock, far
        self._observers, self._jobs, self._stop_rule = tuple(observers), tuple(jobs), stop_rule
        self._wait_point = WaitPoint()
        heard: tuple[AttemptObserver, ...] = self._observers if far is None else (*self._observers, far.log)
        link: StoreLink = NearStore() if far is None else FarStore(far.alarm)
        peers = None if far is None else far.peers
        copying = None
        if far is not None and far.others is not None:
            copying = Copying(far.others, info.host, info.id, clock, self._has_room, self._say_copying)
        self._exchanging = Exchanging(
            self, info, store, link, clock,
            rhythm=NEAR if far is None else far.rhythm, jobs=jobs, observers=heard,
            load=None if far is None else self._load, load_changed=self._load_changed,
            unfit=lambda: policy.unfit_classes(clock.now_ns()), learned=policy.learned, peers=peers,
            copying=copying, spare=self._has_spare,
        )  # fmt: skip
        self._performer = Performer(
            worker_id=info.id, capacity=info.capacity, policy=policy, launchers=launchers,
            exchanging=self._exchanging, judging=Judging(lambda: self.info, self._exchanging.specs, clock, peers),
            clock=clock, observers=heard, grace_ns=grace_ns, state_dir=state_dir,
            wait_point=self._wait_point, keeps=far is not None, ended=self._attempt_ended, confine=confine,
            staging=staging or Staging(FileCache(state_dir), random.Random(f"{info.id}/transfers")),
            unpickles=far is None or far.trusted,
        )  # fmt: skip
        self._offers: tuple[Offer, ...] = ()
        self._next_snapshot_ns = 0
        self._ended = self._failed = self._told_running = 0
        self._away = ""
        self._full = False
        self.busy_ns = clock.now_ns()
        """When it last had something to do."""
        if far is not None:
            self._wait_point.add(far.alarm.fileno())
            if far.bell is not None:
                self._wait_point.add(far.bell.fileno())

    # --- life ---------------------------------------------------------------------------------

    def register(self) -> None:
        """Announce ourselves, at once. A store here also has what dead workers held brought back. Raises StoreError."""
        self._exchanging.register()
        if self._far is None:
            now = self._clock.now_ns()
            self._exchanging.reap(now)
            self._exchanging.exchange(now)

    @property
    def open_tasks(self) -> int | None:
        """Tasks of our jobs that are not terminal, as of the last exchange."""
        return self._exchanging.open_tasks

    @property
    def draining(self) -> bool:
        """Whether it starts nothing new."""
        return self._performer.draining

    @property
    def busy(self) -> bool:
        """Whether attempts run, wait to start, or wait to be committed."""
        return bool(not self._performer.idle or self._exchanging.undelivered)

    @property
    def stuck(self) -> bool:
        """Whether all that is left to do is to tell the store what ended, and it is full or away."""
        return self._exchanging.refused and self._performer.idle

    def drain(self, *, give_back: bool = False) -> None:
        """Start nothing new; with `give_back` also return what runs, at once."""
        self._performer.drain(give_back=give_back)
        self._exchanging.look = True  # a seat in a gang is given up at once

    def change(self, capacity: NodeCapacity, *, jobs: int | None = None) -> None:
        """The node has this much from now on; what is held beyond that is awaited.

        `jobs` None leaves the number of attempts at once as it was.
        """
        self.info = replace(self.info, capacity=capacity)
        self._performer.change(capacity)
        self._performer.tell(NodeChanged(capacity=capacity, jobs=jobs, ends_ns=self.info.ends_ns))
        self._exchanging.look = True  # what it can serve, and which seat of a gang it can keep, may be different now

    def close(self) -> None:
        """End everything, hand back what is left, say good-bye."""
        self._performer.close()
        self._exchanging.leave(LEAVE_S)
        self._wait_point.close()

    # --- one turn -----------------------------------------------------------------------------

    def step(self, timeout_s: float = 0.1) -> None:
        """One turn of the loop; waits at most `timeout_s` for something to happen."""
        performer = self._performer
        now = self._clock.now_ns()
        self._wait(performer.running.patience_s(self._wait_s(now, timeout_s)))
        performer.poll()
        now = self._clock.now_ns()
        if performer.expelled and not performer.running:
            performer.expelled = False
            self._exchanging.readmit()
        if now >= performer.next_tick_ns and self._has_to_sample:
            performer.sample(now)
        if self.busy:
            self.busy_ns = now
        if self._far is not None:
            self._mind_health(self._far, now)
        self._exchanging.turn(now, idle=performer.idle)
        if now >= self._next_snapshot_ns and self._shown:
            self._show(now)

    def _wait(self, timeout_s: float) -> None:
        awake = self._wait_point.wait(timeout_s)
        if self._far is None:
            return
        if self._far.alarm.fileno() in awake:
            self._far.alarm.clear()
        bell = self._far.bell
        if bell is not None and bell.fileno() in awake:
            bell.clear()
            self._exchanging.look = True

    def _wait_s(self, now: int, timeout_s: float) -> float:
        until = self._exchanging.due_ns(idle=self._performer.idle)
        if self._has_to_sample:
            until = min(until, self._performer.next_tick_ns)
        if self._shown:
            until = min(until, self._next_snapshot_ns)
        if self._far is not None:
            until = min(until, self._far.health.next_look_ns() or until)
        return max(0.0, min(timeout_s, (until - now) / 1e9))

    @property
    def _has_to_sample(self) -> bool:
        """Memory matters while something runs, or could run as soon as there is some."""
        return self._far is None or not self._performer.idle or bool(self._offers)

    @property
    def _shown(self) -> bool:
        return bool(self._observers or self._performer.disk.waiting_for)

    def _attempt_ended(self, lease: Lease, attempt: Attempt) -> None:
        self._ended += 1
        self._failed += attempt.outcome is not Outcome.SUCCEEDED
        if self._far is not None:
            self._note_health(self._far, lease, attempt)
        if self._stop_rule is None or self.draining:
            return
        self._exchanging.wants = ()  # this exchange only commits
        self._exchanging.exchange(self._clock.now_ns())
        stop = self._stop_rule()
        if stop is not None:
            self.drain(give_back=stop == "now")

    # --- what the store says ------------------------------------------------------------------

    def holds(self, key: AttemptKey) -> bool:
        """See exchanging.Listener."""
        return self._performer.holds(key)

    def answered(self, answer: Exchanged, leases: tuple[Lease, ...]) -> None:
        """See exchanging.Listener."""
        performer = self._performer
        performer.lease(leases)
        if answer.revoked:
            performer.revoke(answer.revoked)
        if leases:
            performer.tell(TasksLeased(leases=leases))
        if answer.orders is not None and self._far is not None:
            self._exchanging.orders_seen = answer.orders.version
            self._far.obey(answer.orders)
        if not self.draining:
            self._offers = self._trusted_with(answer.offers)
            performer.tell(OffersSeen(offers=self._offers, seat=answer.seat))
        performer.gangs_gone(answer.refused)
        performer.gangs_ended(answer.gang_ends)

    def expelled(self) -> None:
        """See exchanging.Listener: our leases expired (the machine slept, say), and others may run our tasks now."""
        if self._far is not None:
            self._far.log.say("lease lost", ending=len(self._performer.running), staged=self._performer.staged)
        self._offers = ()
        self._performer.tell(OffersSeen(offers=()))
        self._performer.expel(_AWAY)

    def store_is_full(self, error: StoreFullError) -> None:
        """See exchanging.Listener."""
        if self._far is None:  # it lies on our disk
            self._performer.disk.ran_out(str(error))
        elif not self._full:
            self._far.log.say("store full", why=str(error), running=len(self._performer.running))
        self._full = True

    def store_has_room(self) -> None:
        """See exchanging.Listener."""
        if self._far is not None and self._full:
            self._far.log.say("store has room", running=len(self._performer.running))
        self._full = False

    def store_is_away(self, words: str) -> None:
        """See exchanging.Listener."""
        if self._far is not None and bool(words) != bool(self._away):
            self._far.log.say("store away" if words else "store back", why=words, running=len(self._performer.running))
        self._away = words

    # --- a sick node --------------------------------------------------------------------------

    def _note_health(self, far: Far, lease: Lease, attempt: Attempt) -> None:
        before = far.health.condition
        after = far.health.ended(
            attempt.outcome,
            shape_of(lease.spec).fine,
            attempt.usage.wall_ns,
            self._clock.now_ns(),
            others_ended=far.peers.ended,
            others_failed=far.peers.failed,
        )
        if after == before:
            return
        far.log.say(after, why=far.health.reason)
        if after == "resting":
            self._exchanging.wants = ()
            self._performer.tell(RestStarted(reason=far.health.reason))
        self._exchanging.look = True

    def _mind_health(self, far: Far, now: Nanoseconds) -> None:
        if far.health.condition == "resting" and far.health.look(now) == "trying":
            far.log.say("trying")
            self._performer.tell(RestEnded())
            self._exchanging.look = True

    def _trusted_with(self, offers: tuple[Offer, ...]) -> tuple[Offer, ...]:
        """All a healthy node is offered; one task for one that was sick and tries whether it is well again; nothing without room.

        Without a cluster nobody else could take what finds no room here: it is held.
        """
        condition = "well" if self._far is None else self._far.health.condition
        if self._far is not None and self._performer.disk.waiting_for:
            return ()
        if condition == "well":
            return offers
        if condition == "resting" or not self._performer.idle:
            return ()
        return tuple(replace(offer, waiting=min(1, offer.waiting)) for offer in offers[:1])

    # --- copies of what runs elsewhere --------------------------------------------------------

    def _has_spare(self) -> bool:
        """Whether it has room, and nothing is there that could use it."""
        performer = self._performer
        if self._far is None or self._offers or self.draining or performer.expelled or performer.staged:
            return False
        well = self._far.health.condition == "well" and not performer.disk.waiting_for
        return well and performer.running.cpus_milli < self.info.capacity.cpus_milli

    def _has_room(self, requirement: Requirement) -> bool:
        running = self._performer.running
        return self._has_spare() and has_room(requirement, self.info.capacity, running.cpus_milli, running.resources)

    def _say_copying(self, chosen: Duplicate) -> None:
        assert self._far is not None
        job, task, _ = chosen.key
        self._far.log.say("copying", job=job, task=task, why=chosen.reason)

    def _longest(self) -> tuple[LongAttempt, ...]:
        now, specs = self._clock.now_ns(), self._exchanging.specs
        return longest(
            LongAttempt(
                job=running.lease.job,
                task=running.lease.task,
                fence=running.lease.fence,
                shape=shape_of(running.lease.spec).fine,
                age_ns=Nanoseconds(now - running.started_ns),
                copy=bool(running.lease.copy_of_host),
            )
            for running in self._performer.running
            if running.started and may_run_twice(running.lease, copies=specs[running.lease.job].copies)
        )

    # --- what people see ----------------------------------------------------------------------

    def _load_changed(self) -> bool:
        return self._told_running != self._performer.running.busy_slots

    def _load(self) -> WorkerLoad:
        running = self._performer.running
        self._told_running = running.busy_slots
        return WorkerLoad(
            running=running.busy_slots,
            frozen=running.frozen,
            cpus_milli_held=MilliCpus(running.cpus_milli),
            resources_held=running.resources,
            used_bytes=self._performer.used_bytes,
            ended=self._ended,
            failed=self._failed,
            note=self._performer.disk.waiting_for
            or self._performer.carrying.trouble
            or ("draining" if self.draining else "" if self._far is None else self._far.health.reason),
            longest=self._longest(),
        )

    def _show(self, now: Nanoseconds) -> None:
        self._next_snapshot_ns = now + SNAPSHOT_NS
        performer, running = self._performer, self._performer.running
        if performer.disk.waiting_for and performer.disk.is_back():
            self._exchanging.look = True
        if not self._observers:
            return
        snapshot = NodeSnapshot(
            at_ns=now,
            running=running.busy_slots,
            frozen=running.frozen,
            staged=performer.staged + len(running) - running.busy_slots,
            used_bytes=performer.used_bytes,
            capacity_bytes=self.info.capacity.memory_bytes,
            cpus_milli_held=running.cpus_milli,
            cpus_milli=self.info.capacity.cpus_milli,
            job=self._store.status(self._jobs[0]) if self._far is None and len(self._jobs) == 1 else None,
            waiting_for=performer.disk.waiting_for,
            live_outputs=running.live_outputs(),
        )
        for observer in self._observers:
            observer.looked(snapshot)
