"""A simulated machine: attempts that use memory and cores as they work, and a kernel that kills when memory is gone.

Between two events every attempt moves along its memory curve at one speed, so the machine need not be stepped: it knows
when the next point of a curve, the next end, or the overflow will come, and asks to be woken then. What is exact here:
sums of straight lines, cores shared in proportion, freezing, kills that take time to hand memory back, the kernel's order
of victims. What is not here: page cache, swap, disks, noisy neighbours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from ergates.cluster.node import NodeCapacity
from ergates.simulation.memory_curve import MemoryCurve
from ergates.taskqueue.launching import AttemptKey
from ergates.units import GIB, Bytes, Nanoseconds

FREE_NS_PER_BYTE = 1e9 / (8 * GIB)
"""The kernel hands back a killed process's memory at some 8 GiB/s."""
OOM_SCORE_NEW = 1000
"""Of an attempt whose order nobody has set yet: it is the newest, so it dies first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBehaviour:
    """What a task does when it runs, which nobody knows beforehand.

    Args:
        curve: its memory over its work.
        cpus: cores it keeps busy while it runs (a task that declares 0.05 and sleeps uses 0.05).
        exit_code: how it ends by itself.
        deaf: ignores TERM; only KILL ends it.
        kills_node_at: work in ns after which it takes its machine down; None for honest tasks.
    """

    curve: MemoryCurve
    cpus: float = 1.0
    exit_code: int = 0
    deaf: bool = False
    kills_node_at: Nanoseconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTimes:
    """How long things take on this machine."""

    start_ns: Nanoseconds = Nanoseconds(2_000_000)
    """From the order to the first instruction of the task."""
    term_ns: Nanoseconds = Nanoseconds(20_000_000)
    """What a well-behaved task needs to end after TERM."""
    kill_ns: Nanoseconds = Nanoseconds(30_000_000)
    """From KILL to the end, besides handing back memory."""


class End(Enum):
    """How an attempt ended on the machine."""

    BY_ITSELF = "by itself"
    KILLED = "killed because we said so"
    OUT_OF_MEMORY = "killed by the kernel for memory"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStopped:
    """What the machine tells of an attempt that is over. Nothing of it is left."""

    key: AttemptKey
    end: End
    exit_code: int
    started_ns: Nanoseconds
    cpu_ns: Nanoseconds
    peak_bytes: Bytes
    """True peak, as a control group's counter knows it."""
    byte_ns: float = 0.0
    """Memory held over time: what is wasted when the attempt is."""
    work_ns: Nanoseconds = Nanoseconds(0)
    """How far it got on its curve."""


class SimulatedAttempt:
    """One attempt on the machine."""

    __slots__ = (
        "begins_ns", "behaviour", "byte_ns", "cpu_ns", "curve", "dies_ns", "end", "frozen", "gone_ns", "key", "oom_score",
        "oom_victim", "peak", "segment", "slot", "used", "work",
    )  # fmt: skip

    def __init__(self, key: AttemptKey, behaviour: TaskBehaviour, slot: int, begins_ns: int) -> None:
        self.key, self.behaviour, self.slot = key, behaviour, slot
        self.curve = behaviour.curve
        self.begins_ns = begins_ns
        self.work = self.used = self.peak = self.byte_ns = self.cpu_ns = 0.0
        self.segment = 0
        self.frozen = False
        self.oom_score = OOM_SCORE_NEW
        self.oom_victim = False
        """The kernel has chosen it and waits for its memory."""
        self.end = End.BY_ITSELF
        self.dies_ns: int | None = None
        """When KILL strikes; until then it goes on."""
        self.gone_ns: int | None = None
        """When its memory is handed back; it stands still before that."""

    @property
    def dying(self) -> bool:
        return self.gone_ns is not None

    def stopped(self, end: End) -> AttemptStopped:
        return AttemptStopped(
            key=self.key,
            end=end,
            exit_code=self.behaviour.exit_code,
            started_ns=Nanoseconds(self.begins_ns),
            cpu_ns=Nanoseconds(int(self.cpu_ns)),
            peak_bytes=Bytes(int(self.peak)),
            byte_ns=self.byte_ns,
            work_ns=Nanoseconds(int(self.work)),
        )


class SimulatedMachine:
    """Memory, cores and attempts of one node. `capacity.memory_bytes` is a hard limit.

    Call `advance(now)` before looking at anything, and wake it at `next_ns()`.
    """

    def __init__(self, capacity: NodeCapacity, times: MachineTimes | None = None) -> None:
        self.capacity, self.times = capacity, times or MachineTimes()
        self.attempts: dict[AttemptKey, SimulatedAttempt] = {}
        """Heads of slots, in the order they were started."""
        self.kernel_kills = 0
        self.used = self.highest = 0.0
        self.node_killed = False
        """A poisonous task has taken the machine down."""
        self._queues: dict[int, deque[tuple[AttemptKey, TaskBehaviour]]] = {}
        self._dropped: list[AttemptKey] = []
        self._next_slot = 0
        self._now_ns = 0
        self._speed = 1.0
        self._stalled = False
        self._growth = 0.0

    # --- orders -----------------------------------------------------------------------------------

    def start(self, key: AttemptKey, behaviour: TaskBehaviour, after: AttemptKey | None, now_ns: int) -> None:
        """Start it in a slot of its own, or queue it behind `after` when that is still there."""
        self.advance(now_ns)
        slot = self._slot_of(after) if after is not None else None
        if slot is not None:
            self._queues[slot].append((key, behaviour))
            return
        self._next_slot += 1
        self._queues[self._next_slot] = deque()
        self._begin(key, behaviour, self._next_slot, now_ns)
        self._refresh()

    def freeze(self, key: AttemptKey, now_ns: int, *, frozen: bool) -> None:
        attempt = self.attempts.get(key)
        if attempt is not None:
            self.advance(now_ns)
            attempt.frozen = frozen
            self._refresh()

    def kill(self, key: AttemptKey, grace_ns: int, now_ns: int) -> None:
        """End it: TERM, then KILL after the grace; 0 is KILL at once. A queued one is dropped. Too late is no error."""
        self.advance(now_ns)
        attempt = self.attempts.get(key)
        if attempt is None:
            for queue in self._queues.values():
                for waiting in queue:
                    if waiting[0] == key:
                        queue.remove(waiting)
                        self._dropped.append(key)
                        return
            return
        if attempt.dying:
            return
        attempt.end = End.KILLED
        hears = not attempt.behaviour.deaf and not attempt.frozen  # TERM is delivered when it is thawed
        wait_ns = 0 if grace_ns == 0 else min(grace_ns, self.times.term_ns) if hears else grace_ns
        attempt.dies_ns = now_ns + wait_ns
        self.advance(now_ns)

    def set_oom_order(self, oldest_first: Sequence[AttemptKey]) -> None:
        """The same steps as the worker's shell: 100 for the oldest to 900 for the newest."""
        step = 800 / max(1, len(oldest_first))
        for rank, key in enumerate(oldest_first):
            attempt = self.attempts.get(key)
            if attempt is not None:
                attempt.oom_score = 100 + round(rank * step)

    # --- time -------------------------------------------------------------------------------------

    def advance(self, now_ns: int) -> None:
        """Move everything to `now_ns`. Points of curves and kills on the way must have been woken for (`next_ns`)."""
        elapsed = now_ns - self._now_ns
        if elapsed > 0:
            self._move(elapsed)
            self._now_ns = now_ns
        for attempt in self.attempts.values():
            if attempt.dies_ns is not None and attempt.dies_ns <= now_ns and not attempt.dying:
                attempt.gone_ns = now_ns + self.times.kill_ns + int(attempt.used * FREE_NS_PER_BYTE)
        self._refresh()
        if self.used > self.capacity.memory_bytes and not self._stalled and self.attempts:
            self._kernel_kill(now_ns)
            self._refresh()

    def take_stopped(self, now_ns: int) -> list[AttemptStopped]:
        """Attempts that are over since the last call, in the order they were started; their slots go on."""
        self.advance(now_ns)
        nothing = Nanoseconds(0)
        stopped = [
            AttemptStopped(
                key=key, end=End.KILLED, exit_code=0, started_ns=nothing, cpu_ns=nothing, peak_bytes=Bytes(0)
            )
            for key in self._dropped
        ]
        self._dropped.clear()
        over = [attempt for attempt in self.attempts.values() if self._over(attempt, now_ns)]
        for attempt in over:
            del self.attempts[attempt.key]
            stopped.append(attempt.stopped(attempt.end if attempt.dying else End.BY_ITSELF))
            queue = self._queues[attempt.slot]
            if queue:
                self._begin(*queue.popleft(), attempt.slot, now_ns)
            else:
                del self._queues[attempt.slot]
        if over:
            self._refresh()
        return stopped

    def take_all(self, now_ns: int) -> list[AttemptStopped]:
        """The power goes: everything is over at once."""
        self.advance(now_ns)
        stopped = [attempt.stopped(End.KILLED) for attempt in self.attempts.values()]
        self.attempts.clear()
        self._queues.clear()
        return stopped

    def next_ns(self) -> int | None:
        """When something will happen here by itself: a point of a curve, an end, a kill, the overflow."""
        soonest: float | None = None
        now, speed = self._now_ns, self._speed
        for attempt in self.attempts.values():
            if attempt.gone_ns is not None:
                at: float = attempt.gone_ns
            elif attempt.begins_ns > now and not attempt.frozen:
                at = attempt.begins_ns
            elif self._moves(attempt):
                goal = float(attempt.curve.works[attempt.segment + 1])
                poison = attempt.behaviour.kills_node_at
                if poison is not None and attempt.work < poison < goal:
                    goal = poison
                at = now + (goal - attempt.work) / speed
            elif attempt.dies_ns is not None:
                at = attempt.dies_ns
            else:
                continue
            if attempt.dies_ns is not None and not attempt.dying:
                at = min(at, attempt.dies_ns)
            if soonest is None or at < soonest:
                soonest = at
        room = self.capacity.memory_bytes - self.used
        if self.attempts and not self._stalled and (self._growth > 0 or room < 0):
            at = now + (room / self._growth if room > 0 else 0.0)
            soonest = at if soonest is None else min(soonest, at)
        return None if soonest is None else max(now, int(soonest) + 1)

    def sample(self, now_ns: int) -> tuple[tuple[AttemptKey, Bytes], ...]:
        """(key, bytes) of everything that runs."""
        self.advance(now_ns)
        return tuple((attempt.key, Bytes(int(attempt.used))) for attempt in self.attempts.values())

    def all_keys(self) -> list[AttemptKey]:
        """Everything started and not over, queued attempts included."""
        return [*self.attempts, *(key for queue in self._queues.values() for key, _ in queue)]

    # --- inside -----------------------------------------------------------------------------------

    def _moves(self, attempt: SimulatedAttempt) -> bool:
        if attempt.frozen or attempt.gone_ns is not None or attempt.begins_ns > self._now_ns:
            return False
        # While the kernel waits for its victim's memory, whoever asks for more waits with it.
        return not (self._stalled and attempt.curve.slopes[attempt.segment] > 0)

    def _move(self, elapsed: int) -> None:
        speed = self._speed
        for attempt in self.attempts.values():
            before = attempt.used
            if self._moves(attempt):
                self._work(attempt, elapsed * speed)
            attempt.byte_ns += elapsed * (before + attempt.used) / 2

    def _work(self, attempt: SimulatedAttempt, done: float) -> None:
        curve = attempt.curve
        work = min(attempt.work + done, float(curve.works[-1]))
        poison = attempt.behaviour.kills_node_at
        if poison is not None and work >= poison:
            self.node_killed = True
        attempt.work = work
        attempt.cpu_ns += done * attempt.behaviour.cpus
        segment = attempt.segment
        while segment + 1 < len(curve.slopes) and work >= curve.works[segment + 1] - 0.5:
            segment += 1
            attempt.peak = max(attempt.peak, curve.levels[segment])
        attempt.segment = segment
        attempt.used = max(0.0, curve.levels[segment] + curve.slopes[segment] * (work - curve.works[segment]))
        attempt.peak = max(attempt.peak, attempt.used)

    def _refresh(self) -> None:
        """Speeds and growth after something began, ended, froze or changed its slope."""
        wanted = sum(attempt.behaviour.cpus for attempt in self.attempts.values() if self._moves(attempt))
        cores = self.capacity.cpus_milli / 1000
        self._speed = 1.0 if wanted <= cores else cores / wanted
        self.used = sum(attempt.used for attempt in self.attempts.values())
        self.highest = max(self.highest, self.used)
        self._stalled = any(attempt.oom_victim for attempt in self.attempts.values())
        self._growth = sum(
            attempt.curve.slopes[attempt.segment] * self._speed
            for attempt in self.attempts.values()
            if self._moves(attempt)
        )

    def _over(self, attempt: SimulatedAttempt, now_ns: int) -> bool:
        if attempt.gone_ns is not None:
            return now_ns >= attempt.gone_ns
        return attempt.work >= attempt.curve.works[-1] - 0.5

    def _kernel_kill(self, now_ns: int) -> None:
        """The highest badness dies: its share of the limit in thousandths plus its score (mm/oom_kill.c).

        One that we are killing already may be the highest: then the kernel waits for its memory and kills nobody else.
        """
        limit = self.capacity.memory_bytes
        victim = max(
            self.attempts.values(),
            key=lambda attempt: (attempt.used / limit * 1000 + attempt.oom_score, attempt.begins_ns),
        )
        victim.oom_victim = True
        if not victim.dying:
            victim.end = End.OUT_OF_MEMORY
            victim.gone_ns = now_ns + self.times.kill_ns + int(victim.used * FREE_NS_PER_BYTE)
            self.kernel_kills += 1

    def _begin(self, key: AttemptKey, behaviour: TaskBehaviour, slot: int, now_ns: int) -> None:
        attempt = SimulatedAttempt(key, behaviour, slot, now_ns + self.times.start_ns)
        attempt.used = float(behaviour.curve.levels[0])
        attempt.peak = attempt.used
        self.attempts[key] = attempt

    def _slot_of(self, key: AttemptKey) -> int | None:
        attempt = self.attempts.get(key)
        if attempt is not None:
            return attempt.slot
        for slot, queue in self._queues.items():
            if any(waiting == key for waiting, _ in queue):
                return slot
        return None
