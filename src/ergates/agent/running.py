"""What runs on this node now: which attempt in which slot of which launcher. Carries out orders, decides nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ergates.agent.observer import LiveOutput
from ergates.agent.outcomes import Order
from ergates.agent.wait_point import WaitPoint
from ergates.cluster.task import Kind
from ergates.errors import LaunchError
from ergates.taskqueue.launching import AttemptKey, Ended, Launch, Launcher, LaunchEvent, MemorySample
from ergates.taskqueue.node_events import GiveBack, HandBack, RefuseTask, StartAttempt
from ergates.taskqueue.slots import Choice
from ergates.taskqueue.store import Lease
from ergates.units import Nanoseconds

_OOM_SCORE_LEAST, _OOM_SCORE_SPAN = 100, 800


@dataclass(slots=True)
class Running:
    """One attempt that was handed to a launcher."""

    lease: Lease
    start: StartAttempt
    kind: Kind
    slot: int
    started_ns: int = 0
    """By the launcher's clock; 0 as long as it has not."""
    sampled_bytes: int = 0
    samples: int = 0
    frozen: bool = False
    order: Order | None = None

    @property
    def started(self) -> bool:
        """Whether its first process runs."""
        return self.started_ns > 0

    @property
    def holds(self) -> Choice:
        """Cores and resources: what its task asked for first, or the alternative it was given."""
        return self.start.alternative or self.lease.spec.requirement


class RunningAttempts:
    """The attempts of this node and the slots they run in.

    Args:
        launchers: what makes the launcher of each kind, called when the first task of that kind comes.
        build: makes a launch of a lease.
        grace_ns: between TERM and KILL.
        wait_point: where the worker waits; launchers announce there that something happened.
    """

    def __init__(
        self,
        launchers: Mapping[Kind, Callable[[], Launcher]],
        build: Callable[[Lease, StartAttempt], Launch],
        grace_ns: Nanoseconds,
        wait_point: WaitPoint,
    ) -> None:
        self._make, self._build, self._grace_ns, self._wait_point = launchers, build, grace_ns, wait_point
        self._launchers: dict[Kind, Launcher] = {}
        self._distinct: list[Launcher] = []
        self._attempts: dict[AttemptKey, Running] = {}
        self._queued: dict[tuple[Kind, int], int] = {}  # attempts given to each busy slot
        self._idle: dict[Kind, list[int]] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    def get(self, key: AttemptKey) -> Running | None:
        """The attempt of that key, running or queued on a slot."""
        return self._attempts.get(key)

    @property
    def busy_slots(self) -> int:
        return len(self._queued)

    @property
    def frozen(self) -> int:
        return sum(1 for running in self._attempts.values() if running.frozen)

    @property
    def cpus_milli(self) -> int:
        """Held by what runs; what is queued behind it on a slot shares its cores."""
        return sum(choice.cpus_milli for choice in self._held_by_slot())

    @property
    def resources(self) -> tuple[tuple[str, int], ...]:
        """Named resources held by what runs, sorted."""
        held: Counter[str] = Counter()
        for choice in self._held_by_slot():
            held.update(dict(choice.resources))
        return tuple(sorted(held.items()))

    def _held_by_slot(self) -> Iterable[Choice]:
        return {(each.kind, each.slot): each.holds for each in self._attempts.values()}.values()

    def __iter__(self) -> Iterator[Running]:
        return iter(self._attempts.values())

    # --- what happened ------------------------------------------------------------------------

    def patience_s(self, most_s: float) -> float:
        """For how long `poll` need not be called as long as the wait point is silent, `most_s` at most."""
        if not self._distinct:
            self._launcher("command")
        for launcher in self._distinct:
            most_s = launcher.patience_s(most_s)
        return most_s

    def poll(self) -> list[LaunchEvent]:
        """What happened since the last call; waits for nothing."""
        events: list[LaunchEvent] = []
        for launcher in self._distinct:
            events += launcher.poll(0.0)
        return events

    def take(self, ended: Ended) -> Running | None:
        """Forget an attempt that is over, and free its slot; None when it is none of ours."""
        running = self._attempts.pop(ended.key, None)
        if running is not None:
            place = (running.kind, running.slot)
            self._queued[place] -= 1
            if not self._queued[place]:
                del self._queued[place]
                self._idle.setdefault(running.kind, []).append(running.slot)
        return running

    def sample(self) -> tuple[list[MemorySample], int | None]:
        """Memory of each attempt, noted as its peak so far, and of everything together where that is known."""
        samples: list[MemorySample] = []
        together: int | None = None
        for launcher in self._distinct:
            samples += launcher.sample()
            used = launcher.group_used_bytes()
            together = used if together is None else together + (used or 0)
        for sample in samples:
            running = self._attempts.get(sample.key)
            if running is not None:
                running.samples += 1
                running.sampled_bytes = max(running.sampled_bytes, sample.used_bytes)
        return samples, together

    # --- orders -------------------------------------------------------------------------------

    def launch(self, starts: Sequence[tuple[StartAttempt, Lease]]) -> list[tuple[Lease, LaunchError]]:
        """Start attempts; returns those that cannot run here at all, and why."""
        refused: list[tuple[Lease, LaunchError]] = []
        batches: dict[tuple[Kind, int], list[Launch]] = {}
        for start, lease in starts:
            kind = lease.spec.kind
            try:
                self._launcher(kind)
                launch = self._build(lease, start)
            except LaunchError as error:
                refused.append((lease, error))
                continue
            before = None if start.after is None else self._attempts.get(start.after)
            slot = before.slot if before is not None and before.kind == kind else self._free_slot(kind)
            self._queued[kind, slot] = self._queued.get((kind, slot), 0) + 1
            self._attempts[start.key] = Running(lease, start, kind, slot)
            batches.setdefault((kind, slot), []).append(launch)
        for (kind, slot), launches in batches.items():
            self._launchers[kind].launch(slot, launches)
        return refused

    def kill_all(self, reason: str) -> None:
        """Kill everything at once, without manners; the ends are reported by `poll`."""
        for key, running in self._attempts.items():
            running.order = HandBack(key=key, reason=reason)
            self._launchers[running.kind].kill(running.slot, key, Nanoseconds(0))

    def end(self, order: Order) -> bool:
        """Kill an attempt of ours, once; its end is reported by `poll`. False: it does not run here."""
        running = self._attempts.get(order.key)
        if running is None:
            return False
        if running.order is None:
            running.order = order
            at_once = isinstance(order, GiveBack | RefuseTask)  # memory cannot wait for manners
            grace_ns = Nanoseconds(0) if at_once else self._grace_ns
            self._launchers[running.kind].kill(running.slot, order.key, grace_ns)
        return True

    def live_outputs(self) -> tuple[LiveOutput, ...]:
        """Where the running attempts' output grows; those of short ones that share a slot are not worth showing."""
        found = []
        for key, running in self._attempts.items():
            paths_of = getattr(self._launchers[running.kind], "spool_paths", None)
            if paths_of is not None and running.started and self._queued[running.kind, running.slot] == 1:
                stdout, stderr = paths_of(running.slot)
                found.append(LiveOutput(key=key, spec=running.lease.spec, stdout=stdout, stderr=stderr))
        return tuple(found)

    def freeze(self, key: AttemptKey, *, frozen: bool) -> None:
        """Freeze or thaw; what ended meanwhile is left alone."""
        running = self._attempts.get(key)
        if running is not None and running.frozen is not frozen:
            running.frozen = frozen
            launcher = self._launchers[running.kind]
            (launcher.freeze if frozen else launcher.thaw)(running.slot)

    def set_oom_order(self, oldest_first: Sequence[AttemptKey]) -> None:
        """The kernel is to kill the last of these first."""
        step = _OOM_SCORE_SPAN / max(1, len(oldest_first))
        for rank, key in enumerate(oldest_first):
            running = self._attempts.get(key)
            if running is not None:
                score = _OOM_SCORE_LEAST + round(rank * step)
                self._launchers[running.kind].set_oom_score(running.slot, score)

    def close(self) -> None:
        """End everything."""
        for launcher in self._distinct:
            launcher.close()

    # --- slots --------------------------------------------------------------------------------

    def _free_slot(self, kind: Kind) -> int:
        idle = self._idle.get(kind)
        if idle:
            return idle.pop()
        return self._launchers[kind].open_slot("python" if kind == "python" else "process")

    def _launcher(self, kind: Kind) -> Launcher:
        if kind not in self._launchers:
            launcher = self._make[kind]()
            self._launchers[kind] = launcher
            if launcher not in self._distinct:
                self._distinct.append(launcher)
                self._wait_point.add(launcher.fileno())
        return self._launchers[kind]
