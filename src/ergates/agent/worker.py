"""The worker's loop: receive, decide, perform. Every decision is the policy's; this shell only carries it out.

One turn: collect what ended, tell the policy, do what it says, sample memory when it is time, and exchange with the
store: finished attempts in, new leases out, in one transaction. What the store could not take is offered again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol, assert_never

from msgspec.structs import replace

from ergates.agent.launches import LaunchBuilder
from ergates.agent.node import MemoryGauge
from ergates.agent.observer import NodeSnapshot, Observer
from ergates.agent.outcomes import Order, attempt_of, cost_of, outcome_of, peak_of, reason_of
from ergates.agent.running import RunningAttempts
from ergates.clock import Clock
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.node import WorkerInfo
from ergates.cluster.task import JobId, Kind
from ergates.drivers import machine
from ergates.errors import StoreFullError
from ergates.taskqueue.halt import Stop
from ergates.taskqueue.launching import AttemptKey, Ended, Launch, Launcher, Started
from ergates.taskqueue.node_events import (
    AskForTasks,
    AttemptEnded,
    CheckPaths,
    DrainStarted,
    EndAttempt,
    FreezeAttempt,
    GiveBack,
    HandBack,
    LeasesRevoked,
    NodeEvent,
    OffersSeen,
    PathsChecked,
    RefuseTask,
    SetOomOrder,
    StartAttempt,
    TasksLeased,
    ThawAttempt,
    WakeAt,
)
from ergates.taskqueue.policies import Policy
from ergates.taskqueue.retry import judge
from ergates.taskqueue.store import Commit, Exchanged, Exchanger, History, Lease, Reader, Returned, Verdict, Want
from ergates.units import MIB, SECOND_NS, Bytes, Nanoseconds, format_bytes

REAP_NS = 10 * SECOND_NS
"""How often to look for leases of workers that are gone."""
LOSSES_OF_WORKERS = 10
"""A worker that died took everything it held along, most of it innocent: so many such losses quarantine a task, while
a slot that dies of one task is held against that task by the job's own, smaller limit."""
COMMIT_DELAY_NS = 20_000_000
"""A finished attempt waits at most this long for others to share its transaction."""
COMMIT_BATCH = 256
IDLE_LOOK_NS = 200_000_000
"""With nothing to commit, how often to ask the store whether something new waits."""
SNAPSHOT_NS = 200_000_000
DISK_ROOM_BYTES = 64 * MIB
DISK_ROOM_DIVISOR = 10
"""After a full disk nothing starts until so much is free again, or, on a small disk, this part of it."""


_ENDED_BY_ITSELF = frozenset({Outcome.SUCCEEDED, Outcome.FAILED, Outcome.SIGNALLED})
"""What it reached then was its peak; after any other end it might have gone on to need more."""


class Store(Exchanger, Reader, History, Protocol):
    """The sides of the store that a worker uses."""


class Worker:
    """Runs tasks of some jobs (all, when `jobs` is empty) until told to stop.

    Args:
        info: identity and capacity, already final.
        launchers: what makes the launcher of each kind, called when the first task of that kind comes.
        grace_ns: between TERM and KILL.
        state_dir: for the free-disk check.
        stop_rule: asked after every attempt, once its end is committed, before anything else starts.
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
    ) -> None:
        self.info = info
        self._store, self._policy, self._clock = store, policy, clock
        self._running = RunningAttempts(launchers, self._launch_of, grace_ns)
        self._observers = tuple(observers)
        self._jobs = tuple(jobs)
        self._grace_ns = grace_ns
        self._state_dir = state_dir
        self._stop_rule = stop_rule
        self._gauge = MemoryGauge(info.capacity)
        self._random = random.Random(f"{info.id}/backoff")
        self._staged: dict[AttemptKey, Lease] = {}
        self._commits: list[Commit] = []
        self._told: list[tuple[Lease, Attempt, Commit, bytes | None]] = []
        self._oldest_commit_ns = 0
        self._store_full_until_ns = 0
        self._wants: tuple[Want, ...] = ()
        self._held: list[tuple[StartAttempt, Lease]] = []
        self._waiting_for = ""
        self._specs: dict[JobId, JobSpec] = {}
        self._builders: dict[JobId, LaunchBuilder] = {}
        self._next_tick_ns = self._last_exchange_ns = self._next_snapshot_ns = self._next_reap_ns = 0
        self._used_bytes = Bytes(0)
        self.open_tasks: int | None = None
        """Tasks of our jobs that are not terminal, as of the last exchange."""
        self.draining = False

    # --- life ---------------------------------------------------------------------------------

    def register(self) -> None:
        """Announce ourselves, and bring back what dead workers held."""
        self._store.register(self.info, self._clock.now_ns())
        self.reap()
        self._exchange(self._clock.now_ns())

    def reap(self) -> None:
        """Judge the leases of workers that are gone and commit them as lost. Whoever comes first wins."""
        now = self._clock.now_ns()
        self._next_reap_ns = now + REAP_NS
        try:
            leases = self._store.expired(now, self.info.boot_id)
        except StoreFullError as error:
            self._wait_for_disk(str(error))
            return
        for lease in leases:
            key = (lease.job, lease.task, lease.fence)
            if key in self._staged or self._running.get(key) is not None:
                continue  # ours: we slept longer than a lease; the next exchange says whether they still are
            reason = "its worker went away"
            verdict = self._judge(lease, Outcome.LOST, reason, losses_min=LOSSES_OF_WORKERS)
            attempt = Attempt(number=lease.attempt, outcome=Outcome.LOST, ended_ns=now, reason=reason)
            self._commits.append(
                Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=attempt, verdict=verdict)
            )

    @property
    def busy(self) -> bool:
        """Whether attempts run, wait to start, or wait to be committed."""
        return bool(self._running or self._staged or self._commits or self._held)

    @property
    def stuck(self) -> bool:
        """Whether all that is left to do is to write what ended, and the disk has no room for it."""
        return bool(self._store_full_until_ns and not self._running and not self._staged)

    def drain(self, *, give_back: bool = False) -> None:
        """Start nothing new; with `give_back` also return what runs, at once."""
        self.draining = True
        self._wants = ()
        for start, lease in self._held:
            self._commit(lease, None, Returned(past=lease.past), None)
            self._tell(_unstarted(start.key))
        self._held.clear()
        self._tell(DrainStarted(give_back=give_back))

    def close(self) -> None:
        """End everything, hand back what is left, say good-bye."""
        self._running.close()
        self._remember_peaks()
        with suppress(StoreFullError):  # then the next run finds that we are gone
            self._store.leave(self.info.id, self._clock.now_ns())

    def _remember_peaks(self) -> None:
        with suppress(StoreFullError):  # they only help to predict
            self._store.remember_peaks(self._policy.learned())

    # --- one turn -----------------------------------------------------------------------------

    def step(self, timeout_s: float = 0.1) -> None:
        """One turn of the loop; waits at most `timeout_s` for something to happen."""
        now = self._clock.now_ns()
        events = self._running.poll(self._wait_s(now, timeout_s))
        now = self._clock.now_ns()
        for event in events:
            if isinstance(event, Started):
                self._on_started(event)
            else:
                self._on_ended(event, now)
        if now >= self._next_tick_ns:
            self._sample(now)
        if self._exchange_is_due(now):
            self._exchange(now)
        if now >= self._next_reap_ns:  # after the exchange, which says that we live
            self.reap()
            self._remember_peaks()
        if now >= self._next_snapshot_ns:
            self._show(now)

    def _wait_s(self, now: int, timeout_s: float) -> float:
        until = min(self._next_tick_ns, self._next_snapshot_ns)
        if self._wants:
            until = min(until, self._store_full_until_ns)
        elif self._commits:
            until = min(until, max(self._store_full_until_ns, self._oldest_commit_ns + COMMIT_DELAY_NS))
        return max(0.0, min(timeout_s, (until - now) / 1e9))

    # --- what happened ------------------------------------------------------------------------

    def _on_started(self, event: Started) -> None:
        running = self._running.get(event.key)
        if running is not None:
            running.started = True
            for observer in self._observers:
                observer.attempt_started(running.lease, event.at_ns)

    def _on_ended(self, ended: Ended, now: Nanoseconds) -> None:
        running = self._running.take(ended)
        if running is None:
            return
        lease = running.lease
        peak = peak_of(ended, running.sampled_bytes, running.samples)
        outcome = outcome_of(ended, running.order)
        reason = reason_of(ended, outcome, running.order, peak[0], lease.spec.time_limit_ns)
        if outcome is Outcome.DISK_FULL:
            self._wait_for_disk(reason)
        wall_ns = max(0, ended.ended_ns - ended.started_ns) if ended.started_ns else 0
        capacity = self.info.capacity
        attempt = attempt_of(
            ended,
            number=lease.attempt,
            outcome=outcome,
            reason=reason,
            worker=self.info.id,
            host=self.info.host,
            peak=peak,
            cost=cost_of(
                wall_ns, lease.spec.requirement.cpus_milli, capacity.cpus_milli, capacity.price_usd_micros_per_hour
            ),
            predicted_bytes=running.start.predicted_bytes,
        )
        floor = running.order.memory_floor_bytes if isinstance(running.order, GiveBack) else peak[0]
        verdict = self._judge(lease, outcome, reason, floor, peak[0])
        self._commit(lease, attempt, verdict, ended.result)
        self._ask_whether_to_stop(now)
        self._tell(
            AttemptEnded(
                key=ended.key,
                wall_ns=Nanoseconds(wall_ns),
                peak_bytes=peak[0],
                succeeded=outcome is Outcome.SUCCEEDED,
                gave_back=outcome not in _ENDED_BY_ITSELF,
            )
        )

    def _ask_whether_to_stop(self, now: Nanoseconds) -> None:
        if self._stop_rule is None or self.draining:
            return
        self._wants = ()  # this exchange only commits
        self._exchange(now)
        stop = self._stop_rule()
        if stop is not None:
            self.drain(give_back=stop == "now")

    def _sample(self, now: Nanoseconds) -> None:
        self._next_tick_ns = now + 100_000_000
        samples, together = self._running.sample()
        event = self._gauge.sampled(samples, together)
        self._used_bytes = event.used_bytes
        self._tell(event)
        if self._held and not self._disk_is_full():
            held, self._held = self._held, []
            self._launch(held)

    # --- what the policy says -----------------------------------------------------------------

    def _tell(self, event: NodeEvent) -> None:
        starts: list[tuple[StartAttempt, Lease]] = []
        checked: PathsChecked | None = None
        now = self._clock.now_ns()
        for action in self._policy.handle(event, now):
            match action:
                case StartAttempt(key=key):
                    starts.append((action, self._staged.pop(key)))
                case AskForTasks(wants=wants):
                    self._wants = () if self.draining else wants
                case FreezeAttempt(key=key):
                    self._running.freeze(key, frozen=True)
                case ThawAttempt(key=key):
                    self._running.freeze(key, frozen=False)
                case GiveBack() | RefuseTask() | EndAttempt() | HandBack():
                    self._end(action)
                case SetOomOrder(oldest_first=keys):
                    self._running.set_oom_order(keys)
                case WakeAt(at_ns=at_ns):
                    self._next_tick_ns = min(self._next_tick_ns, at_ns)
                case CheckPaths(paths=paths):
                    checked = PathsChecked(paths=paths, missing=machine.missing_paths(paths))
                case _:
                    assert_never(action)
        if starts:
            if self._waiting_for:
                self._held += starts
            else:
                self._launch(starts)
        if checked is not None:
            self._tell(checked)

    def _launch(self, starts: list[tuple[StartAttempt, Lease]]) -> None:
        for lease, error in self._running.launch(starts):
            self._end_unstarted(lease, Outcome.NOT_STARTED, str(error))
            self._tell(_unstarted((lease.job, lease.task, lease.fence)))

    def _end(self, order: Order) -> None:
        if self._running.end(order):
            return
        lease = self._staged.pop(order.key, None)
        if lease is None:
            return
        if isinstance(order, HandBack):
            self._commit(lease, None, Returned(past=lease.past), None)
            return
        self._end_unstarted(
            lease, Outcome.CANCELLED if isinstance(order, EndAttempt) else Outcome.TOO_BIG, order.reason
        )

    def _end_unstarted(self, lease: Lease, outcome: Outcome, reason: str) -> None:
        now = self._clock.now_ns()
        attempt = Attempt(
            number=lease.attempt, outcome=outcome, worker=self.info.id, host=self.info.host, ended_ns=now, reason=reason
        )
        self._commit(lease, attempt, self._judge(lease, outcome, reason), None)

    def _judge(
        self, lease: Lease, outcome: Outcome, reason: str, floor: int = 0, peak: int = 0, losses_min: int = 0
    ) -> Verdict:
        limits = self._spec(lease.job).retry_limits
        if limits.losses < losses_min:
            limits = replace(limits, losses=losses_min)
        return judge(
            lease,
            outcome,
            reason,
            floor,
            limits,
            self._clock.now_ns(),
            self.info.host,
            self._random,
            peak_bytes=peak,
            capacity_bytes=self.info.capacity.memory_bytes,
        )

    # --- the store ----------------------------------------------------------------------------

    def _commit(self, lease: Lease, attempt: Attempt | None, verdict: Verdict, result: bytes | None) -> None:
        commit = Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=attempt, verdict=verdict)
        if not self._commits:
            self._oldest_commit_ns = self._clock.now_ns()
        self._commits.append(commit)
        if attempt is not None and self._observers:
            self._told.append((lease, attempt, commit, result))

    def _exchange_is_due(self, now: int) -> bool:
        if now < self._store_full_until_ns:
            return False
        if self._commits:
            return (
                len(self._commits) >= COMMIT_BATCH
                or now >= self._oldest_commit_ns + COMMIT_DELAY_NS
                or bool(self._wants)
            )
        if self._wants:
            return True
        idle = not self._running and not self._staged
        return now >= self._last_exchange_ns + (IDLE_LOOK_NS if idle else SECOND_NS)

    def _exchange(self, now: Nanoseconds) -> None:
        commits, wants = self._commits, self._wants
        self._last_exchange_ns = now
        try:
            answer = self._store.exchange(self.info.id, commits, wants, now, self._jobs)
        except StoreFullError as error:
            self._store_full_until_ns = now + SECOND_NS
            self._wait_for_disk(str(error))
            return
        self._store_full_until_ns = 0
        self._commits, self._wants = [], ()
        self.open_tasks = answer.open_tasks
        self._announce(answer)
        if answer.stale:
            self._start_over()
            return
        for lease in answer.leases:
            self._staged[lease.job, lease.task, lease.fence] = lease
        if answer.revoked:
            self._tell(LeasesRevoked(keys=answer.revoked))
        if answer.leases:
            self._tell(TasksLeased(leases=answer.leases))
        if not self.draining:
            self._tell(OffersSeen(offers=answer.offers))

    def _announce(self, answer: Exchanged) -> None:
        told, self._told = self._told, []
        refused = set(answer.refused)
        for lease, attempt, commit, result in told:
            if (lease.job, lease.task, lease.fence) not in refused:
                for observer in self._observers:
                    observer.attempt_ended(lease, attempt, commit.verdict, result)

    def _start_over(self) -> None:
        """Our leases expired (the machine slept, say): end what runs, then register again under a new epoch."""
        for key in self._running.held():
            self._running.end(HandBack(key=key, reason="its worker was away for longer than its lease"))
        for key in list(self._staged):
            del self._staged[key]
            self._tell(_unstarted(key))
        self._store.register(self.info, self._clock.now_ns())

    def _spec(self, job: JobId) -> JobSpec:
        if job not in self._specs:
            self._specs[job] = self._store.spec(job)
        return self._specs[job]

    def _launch_of(self, lease: Lease, start: StartAttempt) -> Launch:
        builder = self._builders.get(lease.job)
        if builder is None:
            builder = self._builders[lease.job] = LaunchBuilder(lease.job, self._spec(lease.job), self._grace_ns)
        return builder.build(lease, start)

    # --- a full disk, and what people see -----------------------------------------------------

    def _wait_for_disk(self, reason: str) -> None:
        self._waiting_for = reason

    def _disk_is_full(self) -> bool:
        free, size = machine.disk_room(self._state_dir)
        enough = Bytes(min(DISK_ROOM_BYTES, size // DISK_ROOM_DIVISOR))
        if free >= enough:
            self._waiting_for = ""
            return False
        place = self._state_dir
        self._waiting_for = f"disk full: {format_bytes(free)} free in {place}, waiting for {format_bytes(enough)}"
        return True

    def _show(self, now: Nanoseconds) -> None:
        self._next_snapshot_ns = now + SNAPSHOT_NS
        if self._waiting_for:
            self._disk_is_full()
        if not self._observers:
            return
        snapshot = NodeSnapshot(
            at_ns=now,
            running=self._running.busy_slots,
            frozen=self._running.frozen,
            staged=len(self._staged) + len(self._running) - self._running.busy_slots,
            used_bytes=self._used_bytes,
            capacity_bytes=self.info.capacity.memory_bytes,
            cpus_milli_held=self._running.cpus_milli,
            cpus_milli=self.info.capacity.cpus_milli,
            job=self._store.status(self._jobs[0]) if len(self._jobs) == 1 else None,
            waiting_for=self._waiting_for,
            live_outputs=self._running.live_outputs(),
        )
        for observer in self._observers:
            observer.looked(snapshot)


def _unstarted(key: AttemptKey) -> AttemptEnded:
    return AttemptEnded(key=key, wall_ns=Nanoseconds(0), peak_bytes=Bytes(0), succeeded=False, gave_back=True)
