"""Carries out what the node's policy decides: starts, freezes, ends; and tells it what came of it. Decides nothing itself."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import assert_never

from ergates.agent.carrying import Carrying
from ergates.agent.disk_room import DiskRoom
from ergates.agent.exchanging import Exchanging
from ergates.agent.judging import Judging
from ergates.agent.kept import kept_of
from ergates.agent.launches import LaunchBuilders
from ergates.agent.node import MemoryGauge
from ergates.agent.observer import AttemptObserver
from ergates.agent.outcomes import Order
from ergates.agent.path_check import PathCheck
from ergates.agent.running import RunningAttempts
from ergates.agent.scratch import NoRoomError, Scratch
from ergates.agent.staging import Staging, TransferEnded
from ergates.agent.wait_point import WaitPoint
from ergates.clock import Clock
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import Kind
from ergates.errors import LaunchError
from ergates.taskqueue.gang_end import merged, share_of_output
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
    PathsChecked,
    RefuseTask,
    SetOomOrder,
    StartAttempt,
    ThawAttempt,
    WakeAt,
)
from ergates.taskqueue.policies import Policy
from ergates.taskqueue.python_call import is_call
from ergates.taskqueue.store import Commit, GangEnds, Lease, Returned, Verdict
from ergates.units import Bytes, Nanoseconds

TICK_NS = 100_000_000
_NO_PICKLES = (
    "a pickled call from a store that asks for no password: whoever reaches it could run any code here"
    " (`erg store up` makes one with a password)"
)
_ENDED_BY_ITSELF = frozenset({Outcome.SUCCEEDED, Outcome.FAILED, Outcome.SIGNALLED})
"""What it reached then was its peak; after any other end it might have gone on to need more."""


class Performer:
    """What is leased, starting, running and ending on one node.

    Args:
        worker_id: in the environment of its tasks.
        policy: of the node.
        launchers: what makes the launcher of each kind, called when the first task of that kind comes.
        exchanging: takes commits and wants, knows what jobs say.
        judging: of what ends.
        observers: hear of starts.
        grace_ns: between TERM and KILL.
        state_dir: packs and scratch directories are there, and there must be room on its disk.
        keeps: commits carry the end of the output, for a store that is not on this machine.
        ended: called with every attempt that was committed, before the policy hears of it.
        confine: sets the kernel's limit on all attempts together, where there is one.
        staging: carries files to and fro.
        unpickles: whether calls may be pickles; else they end unstarted, for whoever can write a pickle can run code.
    """

    def __init__(
        self,
        *,
        worker_id: str,
        capacity: NodeCapacity,
        policy: Policy,
        launchers: Mapping[Kind, Callable[[], Launcher]],
        exchanging: Exchanging,
        judging: Judging,
        clock: Clock,
        observers: Sequence[AttemptObserver],
        grace_ns: Nanoseconds,
        state_dir: Path,
        wait_point: WaitPoint,
        keeps: bool,
        ended: Callable[[Lease, Attempt], None],
        confine: Callable[[int], bool] | None,
        staging: Staging,
        unpickles: bool,
    ) -> None:
        self._policy, self._exchanging, self._judging, self._clock = policy, exchanging, judging, clock
        self._observers, self._state_dir, self._keeps, self._on_end = observers, state_dir, keeps, ended
        self._confine, self._unpickles = confine, unpickles
        self._confine_to: int | None = None
        self.running = RunningAttempts(launchers, self._launch_of, grace_ns, wait_point)
        self.disk = DiskRoom(state_dir)
        self._builders = LaunchBuilders(worker_id, grace_ns, capacity.labels)
        self._scratch = Scratch(state_dir, worker_id)
        self.carrying = Carrying(staging, self._scratch, exchanging.specs)
        wait_point.add(self.carrying.fileno())
        self._gauge = MemoryGauge(capacity)
        self._path_check = PathCheck()
        self._staged: dict[AttemptKey, Lease] = {}
        self._led: dict[AttemptKey, Lease] = {}
        """Gangs whose leader has ended here, until all their members have."""
        self._held: list[tuple[StartAttempt, Lease]] = []
        """To be started when the disk has room."""
        self._sampled_ns = 0
        self.next_tick_ns = 0
        self.used_bytes = Bytes(0)
        self.draining = self.expelled = False

    # --- what is here -------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing could start."""
        return not (self.running or self._staged or self._held or self._led or self.carrying)

    @property
    def staged(self) -> int:
        """Ours, and not started."""
        return len(self._staged) + len(self._held) + self.carrying.awaiting

    def holds(self, key: AttemptKey) -> bool:
        """Whether this lease is one of ours, as far as we know."""
        return key in self._staged or key in self._led or self.running.get(key) is not None or key in self.carrying

    # --- what happened ------------------------------------------------------------------------

    def poll(self) -> None:
        """Take in what the launchers, and those who carry files, have to tell."""
        for event in self.running.poll():
            if isinstance(event, Started):
                self._on_started(event)
            else:
                self._on_ended(event)
        for transfer in self.carrying.poll():
            self._on_carried(transfer)

    def lease(self, leases: Sequence[Lease]) -> None:
        """These are ours now. What starts of them must not go by an old look at the memory; the caller tells the policy."""
        for lease in leases:
            self._staged[lease.job, lease.task, lease.fence] = lease
            self.carrying.leased(lease)
        now = self._clock.now_ns()
        if leases and now - self._sampled_ns > TICK_NS:
            self.sample(now)

    def _on_started(self, event: Started) -> None:
        running = self.running.get(event.key)
        if running is not None:
            running.started_ns = event.at_ns
            for observer in self._observers:
                observer.attempt_started(running.lease, event.at_ns)

    def _on_ended(self, ended: Ended) -> None:
        running = self.running.take(ended)
        if running is None:
            return
        if self.expelled:  # nothing of the old epoch is committed
            self._scratch.remove(ended.key)
            self.tell(_unstarted(ended.key))
            return
        lease = running.lease
        attempt, verdict = self._judging.ended(running, ended)
        if attempt.outcome is Outcome.SUCCEEDED and lease.spec.outputs:
            if not self.carrying.bring(lease, attempt, ended.result):
                self.tell(_ended(ended.key, attempt))
            return
        self._scratch.remove(ended.key)
        if attempt.outcome is Outcome.DISK_FULL:
            self.disk.ran_out(attempt.reason)
        self._commit(lease, attempt, verdict, ended.result)
        self.tell(_ended(ended.key, attempt))

    def _on_carried(self, transfer: TransferEnded) -> None:
        key, outcome = transfer.key, transfer.outcome
        bringing = self.carrying.brought(key)
        if bringing is not None:
            self._scratch.remove(key)
            attempt, verdict = self._judging.carried(bringing.lease, bringing.attempt, outcome, transfer.reason)
            self._commit(bringing.lease, attempt, verdict, bringing.result)
            if not bringing.told:
                self.tell(_ended(key, bringing.attempt))
        elif outcome is None:
            start = self.carrying.arrived(key)
            if start is not None:
                self.tell(*self._launch([start]))
        else:
            self._uncarried(key, outcome, transfer.reason)

    def _uncarried(self, key: AttemptKey, outcome: Outcome, reason: str) -> None:
        """What it needs could not be brought here."""
        lease = self.carrying.drop(key) or self._staged.pop(key, None)
        if lease is None:
            lease = next(lease for start, lease in self._held if start.key == key)
            self._held = [each for each in self._held if each[0].key != key]
        if outcome is Outcome.DISK_FULL:
            self.disk.ran_out(reason)
        self._commit(lease, *self._judging.carried(lease, None, outcome, reason))
        self.tell(_unstarted(key))

    def sample(self, now: Nanoseconds) -> None:
        """Look at the memory of the node and of every attempt, and tell the policy."""
        self.next_tick_ns, self._sampled_ns = now + TICK_NS, now
        samples, together = self.running.sample()
        event = self._gauge.sampled(samples, together)
        self.used_bytes = event.used_bytes
        if self._confine is not None and self._confine_to is not None and self.used_bytes < self._confine_to:
            self._confine(self._confine_to)
            self._confine_to = None
        self.tell(event)
        if self._held and self.disk.is_back():
            held, self._held = self._held, []
            self.tell(*self._launch(held))

    def change(self, capacity: NodeCapacity) -> None:
        """Measure memory against this from now on, and tell tasks of its labels.

        The kernel's limit follows when less than that is in use: it would kill, where the policy gives back.
        """
        self._gauge = MemoryGauge(capacity)
        self._builders.relabel(capacity.labels)
        self._confine_to = capacity.memory_bytes

    # --- the end ------------------------------------------------------------------------------

    def drain(self, *, give_back: bool) -> None:
        """Start nothing new; with `give_back` also return what runs, at once."""
        self.draining = True
        self._exchanging.wants = ()
        self._hand_back_held()
        self._hand_back_carried(everything=give_back)
        self.tell(DrainStarted(give_back=give_back))

    def expel(self, reason: str) -> None:
        """Others may run our tasks now: end everything at once, and commit nothing of it.

        Over when `running` is empty; then the caller sets `expelled` back.
        """
        self.expelled = True
        unstarted = [*self._staged, *(start.key for start, _ in self._held), *self.carrying.keys()]
        for key in unstarted:
            self.carrying.drop(key)
        self._staged.clear()
        self._held.clear()
        self._led.clear()
        self.running.kill_all(reason)
        self.tell(*(_unstarted(key) for key in unstarted))

    def close(self) -> None:
        """End everything, wait for it, remove what it left."""
        self.running.close()
        self.carrying.close()
        self._scratch.close()

    # --- what the policy says -----------------------------------------------------------------

    def tell(self, *events: NodeEvent) -> None:
        """Tell the policy, and do what it says."""
        waiting = deque(events)
        while waiting:
            starts: list[tuple[StartAttempt, Lease]] = []
            now = self._clock.now_ns()
            for action in self._policy.handle(waiting.popleft(), now):
                match action:
                    case StartAttempt(key=key):
                        if key in self._staged:
                            starts.append((action, self._staged.pop(key)))
                        else:  # lost with our leases
                            waiting.append(_unstarted(key))
                    case AskForTasks(wants=wants):
                        self._exchanging.wants = () if self.draining or self.expelled else wants
                    case FreezeAttempt(key=key):
                        self.running.freeze(key, frozen=True)
                    case ThawAttempt(key=key):
                        self.running.freeze(key, frozen=False)
                    case GiveBack() | RefuseTask() | EndAttempt() | HandBack():
                        self._end(action)
                    case SetOomOrder(oldest_first=keys):
                        self.running.set_oom_order(keys)
                    case WakeAt(at_ns=at_ns):
                        self.next_tick_ns = min(self.next_tick_ns, at_ns)
                    case CheckPaths(paths=paths):
                        waiting.append(PathsChecked(paths=paths, missing=self._path_check.missing(paths)))
                    case _:
                        assert_never(action)
            if self.disk.waiting_for and self._keeps:  # another node may have room
                waiting.extend(self._hand_back_untried(starts))
            elif self.disk.waiting_for:
                self._held += starts
            elif starts:
                waiting.extend(self._launch(starts))

    def _launch(self, starts: list[tuple[StartAttempt, Lease]]) -> list[AttemptEnded]:
        """Returns what to tell the policy of those that could not even be handed to a launcher."""
        ended = []
        for lease, error in self.running.launch(self.carrying.ready(starts)):
            self.carrying.drop((lease.job, lease.task, lease.fence))
            outcome = Outcome.DISK_FULL if isinstance(error, NoRoomError) else Outcome.NOT_STARTED
            self._end_unstarted(lease, outcome, str(error))
            ended.append(_unstarted((lease.job, lease.task, lease.fence)))
        return ended

    def _end(self, order: Order) -> None:
        if self.running.end(order):
            return
        if isinstance(order, GiveBack | RefuseTask) and self.carrying.is_bringing(order.key):
            return  # it has no memory any more
        carried = self.carrying.drop(order.key)
        lease = carried or self._staged.pop(order.key, None)
        if lease is None:
            return
        if isinstance(order, HandBack):
            self._commit(lease, None, Returned(past=lease.past))
        else:
            outcome = Outcome.CANCELLED if isinstance(order, EndAttempt) else Outcome.TOO_BIG
            self._end_unstarted(lease, outcome, order.reason)
        if carried is not None:  # the policy took it for running
            self.tell(_unstarted(order.key))

    def _end_unstarted(self, lease: Lease, outcome: Outcome, reason: str) -> None:
        self._commit(lease, *self._judging.unstarted(lease, outcome, reason))

    def _hand_back_held(self) -> None:
        held, self._held = self._held, []
        self.tell(*self._hand_back_untried(held))

    def _hand_back_untried(self, starts: Sequence[tuple[StartAttempt, Lease]]) -> list[AttemptEnded]:
        """Returns what to tell the policy."""
        for _, lease in starts:
            self._commit(lease, None, Returned(past=lease.past))
        return [_unstarted(start.key) for start, _ in starts]

    def _commit(self, lease: Lease, attempt: Attempt | None, verdict: Verdict, result: bytes | None = None) -> None:
        kept = None
        if attempt is not None and self._keeps:
            kept = kept_of(self._state_dir, lease.job, attempt.output, result)
        seat = None
        if lease.gang is not None:
            seat, kept = lease.gang.rank, share_of_output(kept, lease.gang.size)
            if seat == 0:
                self._led[lease.job, lease.task, lease.fence] = lease
        commit = Commit(
            job=lease.job, task=lease.task, fence=lease.fence, attempt=attempt, verdict=verdict, kept=kept, seat=seat
        )  # fmt: skip
        self._exchanging.commit(commit, lease, result)
        if attempt is not None:
            self._on_end(lease, attempt)

    def _hand_back_carried(self, *, everything: bool) -> None:
        """What waits for its inputs, and with `everything` also what only its outputs keep here."""
        for key in self.carrying.keys() if everything else self.carrying.waiting():
            self._end(HandBack(key=key, reason="the worker stops"))

    def revoke(self, keys: Sequence[AttemptKey]) -> None:
        """The user cancelled these."""
        for key in keys:
            if self.carrying.is_bringing(key):  # the policy may not know of it any more
                self._end(EndAttempt(key=key, reason="cancelled by the user"))
        self.tell(LeasesRevoked(keys=tuple(keys)))

    def gangs_gone(self, refused: Sequence[AttemptKey]) -> None:
        """The store took no end of these from us: gangs among them are gone, and nobody will say that they have ended."""
        for key in refused:
            self._led.pop(key, None)

    def gangs_ended(self, gangs: Sequence[GangEnds]) -> None:
        """All members of these have ended: commit each as one attempt."""
        for ends in gangs:
            lease = self._led.pop((ends.job, ends.task, ends.fence), None)
            if lease is None:  # committed, and not delivered yet
                continue
            attempt, verdict, kept = merged(lease, ends, *self._judging.us)
            commit = Commit(
                job=lease.job, task=lease.task, fence=lease.fence, attempt=attempt, verdict=verdict, kept=kept
            )  # fmt: skip
            self._exchanging.commit(commit)

    def _launch_of(self, lease: Lease, start: StartAttempt) -> Launch:
        payload = lease.spec.payload
        if not self._unpickles and lease.spec.kind == "python" and payload is not None and not is_call(payload):
            raise LaunchError(_NO_PICKLES)
        builder = self._builders.of(lease.job, self._exchanging.specs[lease.job])
        return builder.build(lease, start, *self.carrying.directories(lease))


def _ended(key: AttemptKey, attempt: Attempt) -> AttemptEnded:
    return AttemptEnded(
        key=key,
        wall_ns=attempt.usage.wall_ns,
        peak_bytes=attempt.usage.peak_bytes,
        succeeded=attempt.outcome is Outcome.SUCCEEDED,
        gave_back=attempt.outcome not in _ENDED_BY_ITSELF,
    )


def _unstarted(key: AttemptKey) -> AttemptEnded:
    return AttemptEnded(key=key, wall_ns=Nanoseconds(0), peak_bytes=Bytes(0), succeeded=False, gave_back=True)
