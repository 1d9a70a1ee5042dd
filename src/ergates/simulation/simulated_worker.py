"""A worker's shell for the simulator: receive, decide, perform, with the node's real policy and retry rules inside.

It does what the worker's loop of a real node does, with two differences: time passes between its question to the store
and the answer, so the question may be lost and is asked again under the same number; and what it orders is *yielded*, so that
a crash can come between any two of its steps. Not simulated: time limits of tasks, output, several kinds of launchers.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, assert_never

from msgspec.structs import replace

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import RetryLimits
from ergates.cluster.node import WorkerInfo
from ergates.cluster.usage import Usage
from ergates.simulation.nodes import AttemptStopped, End, SimulatedMachine
from ergates.simulation.store_client import Heard, StoreClient
from ergates.simulation.store_server import Answer, Call, Exchange, Leave, Reap, Register, Request
from ergates.taskqueue.gang_end import merged
from ergates.taskqueue.launching import AttemptKey
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
    NodeAction,
    NodeEvent,
    NodeSampled,
    OffersSeen,
    PathsChecked,
    RefuseTask,
    SetOomOrder,
    StartAttempt,
    TasksLeased,
    ThawAttempt,
    WakeAt,
)
from ergates.taskqueue.retry import judge
from ergates.taskqueue.store import Commit, Exchanged, GangEnds, Lease, Returned, Verdict, Want
from ergates.units import Bytes, Nanoseconds

Order = GiveBack | HandBack | RefuseTask | EndAttempt
OUTCOME_OF_ORDER: dict[type[Order], Outcome] = {
    GiveBack: Outcome.EVICTED,
    HandBack: Outcome.RETURNED,
    RefuseTask: Outcome.TOO_BIG,
    EndAttempt: Outcome.CANCELLED,
}
REAP_NS = 10_000_000_000
COMMIT_DELAY_NS = 20_000_000
COMMIT_BATCH = 256
IDLE_LOOK_NS = 200_000_000
BUSY_LOOK_NS = 1_000_000_000
TICK_NS = 100_000_000
ASK_AGAIN_NS = 2_000_000_000
"""The store's answer is overdue after this."""
SAMPLES_ENOUGH = 3
"""With fewer samples the control group's own peak is the better figure (the same rule as in production)."""


class Policy(Protocol):
    """A node's decisions."""

    def handle(self, event: NodeEvent, now_ns: Nanoseconds) -> list[NodeAction]: ...

    def unfit_classes(self, now_ns: Nanoseconds) -> tuple[int, ...]: ...

    def check_invariants(self) -> None: ...


# --- events of the shell --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Began:
    """The process starts: register."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainAsked:
    """The user wants it to stop; with `give_back` at once."""

    give_back: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TickCame:
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LookCame:
    at_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOverdue:
    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """Attempts on this machine are over."""

    attempts: tuple[AttemptStopped, ...]


# --- actions of the shell -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SendRequest:
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class SetTimer:
    at_ns: int
    event: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class KillAll:
    """End everything on this machine, whoever started it: what a former life left behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quit:
    """The process ends well: everything is committed or given back, and the store knows that it has left."""


Step = SendRequest | SetTimer | KillAll | Quit | StartAttempt | FreezeAttempt | ThawAttempt | Order | SetOomOrder


@dataclass(slots=True)
class RunningTask:
    """One attempt that was handed to the machine."""

    lease: Lease
    predicted_bytes: int
    sampled_bytes: int = 0
    samples: int = 0
    order: Order | None = None


class SimulatedWorker:
    """One life of a worker's process.

    Args:
        name: the engine's name of it, the same in every life.
        info: identity of this life and what the node has.
        policy: of the node, fresh.
        machine: where its attempts run; may still hold some of a former life.
        limits: of the jobs' retries.
        rng: spreads the returns.
    """

    def __init__(
        self,
        *,
        name: str,
        info: WorkerInfo,
        policy: Policy,
        machine: SimulatedMachine,
        limits: RetryLimits,
        rng: random.Random,
    ) -> None:
        self.name, self.info, self.policy, self.machine = name, info, policy, machine
        self.running: dict[AttemptKey, RunningTask] = {}
        self.staged: dict[AttemptKey, Lease] = {}
        self._led: dict[AttemptKey, Lease] = {}
        """Gangs whose leader has ended here, until all their members have."""
        self._limits, self._random = limits, rng
        self._commits: list[Commit] = []
        self._oldest_commit_ns = 0
        self._wants: tuple[Want, ...] = ()
        self._client = StoreClient(name, info)
        self._last_exchange_ns = self._next_reap_ns = 0
        self._tick_ns = self._look_ns = -1
        self._registered = False
        self._draining = False

    def handle(self, event: Any, now_ns: Nanoseconds) -> Iterator[Step]:
        """One event of the shell; yields its steps in order."""
        match event:
            case Began():
                yield KillAll()
                yield from self._ask(Register(info=self.info), now_ns)
            case Answer():
                yield from self._answered(event, now_ns)
            case DrainAsked(give_back=give_back):
                self._draining, self._wants = True, ()
                yield from self._tell(DrainStarted(give_back=give_back), now_ns)
            case AnswerOverdue(number=number):
                yield from self._send(self._client.overdue(number), now_ns)
            case TickCame(at_ns=at_ns):
                if at_ns == self._tick_ns:
                    yield from self._sample(now_ns)
            case LookCame(at_ns=at_ns):
                if at_ns == self._look_ns:
                    self._look_ns = -1
            case Stopped(attempts=attempts):
                for stopped in attempts:
                    yield from self._on_stopped(stopped, now_ns)
            case _:
                raise TypeError(f"a worker knows no {event!r}")
        yield from self._look(now_ns)

    # --- attempts ---------------------------------------------------------------------------------

    def _on_stopped(self, stopped: AttemptStopped, now_ns: Nanoseconds) -> Iterator[Step]:
        running = self.running.pop(stopped.key, None)
        if running is None:
            return  # of a former life
        outcome = _outcome_of(stopped, running.order)
        peak = running.sampled_bytes if running.samples >= SAMPLES_ENOUGH else int(stopped.peak_bytes)
        reason = "" if outcome is Outcome.SUCCEEDED else outcome.value
        wall_ns = Nanoseconds(max(0, now_ns - stopped.started_ns) if stopped.started_ns else 0)
        lease = running.lease
        attempt = Attempt(
            number=lease.attempt,
            outcome=outcome,
            worker=self.info.id,
            host=self.info.host,
            started_ns=stopped.started_ns,
            ended_ns=now_ns,
            exit_code=stopped.exit_code if stopped.end is End.BY_ITSELF else None,
            reason=reason,
            usage=Usage(wall_ns=wall_ns, cpu_ns=stopped.cpu_ns, peak_bytes=Bytes(peak), peak_label="sampled"),
            predicted_bytes=running.predicted_bytes,
        )
        floor = running.order.memory_floor_bytes if isinstance(running.order, GiveBack) else peak
        verdict = self._judge(lease, outcome, reason, now_ns, floor, peak)
        self._commit(lease, attempt, verdict, now_ns)
        ended = AttemptEnded(
            key=stopped.key,
            wall_ns=wall_ns,
            peak_bytes=Bytes(peak),
            succeeded=outcome is Outcome.SUCCEEDED,
            gave_back=running.order is not None,
        )
        yield from self._tell(ended, now_ns)

    def _sample(self, now_ns: Nanoseconds) -> Iterator[Step]:
        samples = self.machine.sample(now_ns)
        own = []
        for key, used in samples:
            running = self.running.get(key)
            if running is not None:
                running.samples += 1
                running.sampled_bytes = max(running.sampled_bytes, used)
                own.append((key, used))
        yield from self._set_tick(now_ns + TICK_NS)
        sampled = NodeSampled(used_bytes=Bytes(sum(used for _, used in samples)), attempts=tuple(own))
        yield from self._tell(sampled, now_ns)

    def _tell(self, event: NodeEvent, now_ns: Nanoseconds) -> Iterator[Step]:
        for action in self.policy.handle(event, now_ns):
            match action:
                case StartAttempt(key=key):
                    self.running[key] = RunningTask(self.staged.pop(key), action.predicted_bytes)
                    yield action
                case AskForTasks(wants=wants):
                    self._wants = () if self._draining else wants
                case GiveBack() | HandBack() | RefuseTask() | EndAttempt():
                    yield from self._end(action, now_ns)
                case FreezeAttempt() | ThawAttempt() | SetOomOrder():
                    yield action
                case WakeAt(at_ns=at_ns):
                    if at_ns < self._tick_ns:
                        yield from self._set_tick(max(at_ns, now_ns))
                case CheckPaths(paths=paths):  # a simulated node has every file
                    yield from self._tell(PathsChecked(paths=paths, missing=()), now_ns)
                case _:
                    assert_never(action)

    def _end(self, order: Order, now_ns: Nanoseconds) -> Iterator[Step]:
        running = self.running.get(order.key)
        if running is not None:
            if running.order is None:
                running.order = order
                yield order
            return
        lease = self.staged.pop(order.key, None)
        if lease is None:
            return
        if isinstance(order, HandBack):
            self._commit(lease, None, Returned(past=lease.past), now_ns)
            return
        outcome = OUTCOME_OF_ORDER[type(order)]
        attempt = Attempt(
            number=lease.attempt,
            outcome=outcome,
            worker=self.info.id,
            host=self.info.host,
            ended_ns=now_ns,
            reason=order.reason,
        )
        self._commit(lease, attempt, self._judge(lease, outcome, order.reason, now_ns), now_ns)

    def _judge(
        self, lease: Lease, outcome: Outcome, reason: str, now_ns: Nanoseconds, floor: int = 0, peak: int = 0
    ) -> Verdict:
        host = "" if outcome is Outcome.LOST else self.info.host  # who lost it is not known to whoever finds it
        capacity = self.info.capacity.memory_bytes
        return judge(
            lease,
            outcome,
            reason,
            floor,
            self._limits,
            now_ns,
            host,
            self._random,
            peak_bytes=peak,
            capacity_bytes=capacity,
        )

    def _commit(self, lease: Lease, attempt: Attempt | None, verdict: Verdict, now_ns: int) -> None:
        if not self._commits:
            self._oldest_commit_ns = now_ns
        seat = None if lease.gang is None else lease.gang.rank
        if seat == 0:
            self._led[lease.job, lease.task, lease.fence] = lease
        self._commits.append(
            Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=attempt, verdict=verdict, seat=seat)
        )

    def _lead_out(self, gangs: Sequence[GangEnds], now_ns: int) -> None:
        """All members of these have ended: commit each as one attempt."""
        for ends in gangs:
            lease = self._led.pop((ends.job, ends.task, ends.fence), None)
            if lease is not None:
                attempt, verdict, _ = merged(lease, ends, self.info.id, self.info.host)
                self._commit(replace(lease, gang=None), attempt, verdict, now_ns)

    # --- the store --------------------------------------------------------------------------------

    def _look(self, now_ns: Nanoseconds) -> Iterator[Step]:
        """Ask the store when that is due and no question is open; else be woken when it will be."""
        if self._client.busy or not self._registered:
            return
        due_ns = self._exchange_due_ns(now_ns)
        if self._draining and not (self.running or self.staged or self._commits or self._led):
            yield from self._ask(Leave(), now_ns)
        elif now_ns >= self._next_reap_ns:
            self._next_reap_ns = now_ns + REAP_NS
            yield from self._ask(Reap(), now_ns)
        elif now_ns >= due_ns:
            commits, self._commits = tuple(self._commits), []
            wants, self._wants = self._wants, ()
            self._last_exchange_ns = now_ns
            unfit = self.policy.unfit_classes(now_ns)
            yield from self._ask(Exchange(commits=commits, wants=wants, unfit=unfit), now_ns)
        else:
            at_ns = min(due_ns, self._next_reap_ns)
            if at_ns != self._look_ns:
                self._look_ns = at_ns
                yield SetTimer(at_ns=at_ns, event=LookCame(at_ns=at_ns))

    def _exchange_due_ns(self, now_ns: int) -> int:
        if self._wants or len(self._commits) >= COMMIT_BATCH:
            return now_ns
        if self._commits:
            return self._oldest_commit_ns + COMMIT_DELAY_NS
        return self._last_exchange_ns + (BUSY_LOOK_NS if self.running or self.staged else IDLE_LOOK_NS)

    def _ask(self, call: Call, now_ns: int) -> Iterator[Step]:
        yield from self._send(self._client.ask(call), now_ns)

    def _send(self, request: Request | None, now_ns: int) -> Iterator[Step]:
        if request is not None:
            yield SendRequest(request=request)
            yield SetTimer(at_ns=now_ns + ASK_AGAIN_NS, event=AnswerOverdue(number=request.number))

    def _answered(self, answer: Answer, now_ns: Nanoseconds) -> Iterator[Step]:
        heard = self._client.heard(answer, now_ns)
        if not isinstance(heard, Heard):
            yield from self._send(heard, now_ns)
            return
        match heard.call:
            case Register():
                self._registered = True
                self._next_reap_ns = 0
                if self._tick_ns < now_ns:
                    yield from self._set_tick(now_ns + TICK_NS)
            case Reap():
                for lease in heard.result:
                    if not self._has(lease):
                        self._reap(lease, now_ns)
            case Leave():
                yield Quit()
            case Exchange():
                yield from self._exchanged(heard.result, now_ns)

    def _has(self, lease: Lease) -> bool:
        """Whether it is our own: after a long silence the store finds *us* dead, and we know better."""
        key = (lease.job, lease.task, lease.fence)
        pending = any((commit.job, commit.task, commit.fence) == key for commit in self._commits)
        return key in self.running or key in self.staged or key in self._led or pending

    def _reap(self, lease: Lease, now_ns: Nanoseconds) -> None:
        reason = "its worker went away"
        attempt = Attempt(number=lease.attempt, outcome=Outcome.LOST, ended_ns=now_ns, reason=reason)
        self._commit(lease, attempt, self._judge(lease, Outcome.LOST, reason, now_ns), now_ns)

    def _exchanged(self, answer: Exchanged, now_ns: Nanoseconds) -> Iterator[Step]:
        if answer.stale:
            yield from self._start_over(now_ns)
            return
        if answer.revoked:
            yield from self._tell(LeasesRevoked(keys=answer.revoked), now_ns)
        for key in answer.refused:
            self._led.pop(key, None)  # that gang is gone, and nobody will say that it has ended
        self._lead_out(answer.gang_ends, now_ns)
        if self._draining:
            for lease in answer.leases:  # asked for before the drain began
                self._commit(lease, None, Returned(past=lease.past), now_ns)
            return
        for lease in answer.leases:
            self.staged[lease.job, lease.task, lease.fence] = lease
        yield from self._tell(TasksLeased(leases=answer.leases), now_ns)
        yield from self._tell(OffersSeen(offers=answer.offers, seat=answer.seat), now_ns)

    def _start_over(self, now_ns: Nanoseconds) -> Iterator[Step]:
        """Our leases are gone: end what runs, forget what is staged, register again."""
        for key, running in self.running.items():
            running.order = HandBack(key=key, reason="its worker was away for longer than its lease")
        yield KillAll()
        self._commits.clear()
        self._led.clear()
        for key in list(self.staged):
            if self.staged.pop(key, None) is None:
                continue  # the policy let go of it when it heard of another
            gone = AttemptEnded(key=key, wall_ns=Nanoseconds(0), peak_bytes=Bytes(0), succeeded=False, gave_back=True)
            yield from self._tell(gone, now_ns)
        self._registered = False
        yield from self._ask(Register(info=self.info), now_ns)

    def _set_tick(self, at_ns: int) -> Iterator[Step]:
        self._tick_ns = at_ns
        yield SetTimer(at_ns=at_ns, event=TickCame(at_ns=at_ns))


def _outcome_of(stopped: AttemptStopped, order: Order | None) -> Outcome:
    if stopped.end is End.BY_ITSELF:
        return Outcome.SUCCEEDED if stopped.exit_code == 0 else Outcome.FAILED
    if order is not None:
        return OUTCOME_OF_ORDER[type(order)]
    return Outcome.OOM_KILLED
