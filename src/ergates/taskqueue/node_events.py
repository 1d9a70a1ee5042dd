"""What a node's policy is told, and what it may order. The worker's shell and the simulator both speak this.

`policy.handle(event, now_ns) -> actions`, called for every event in order. The policy never waits, reads or makes
random numbers. Attempts are named by (job, task, fence).
"""

from __future__ import annotations

from dataclasses import dataclass

from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import Alternative
from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.store import Lease, Offer, Seat, Want
from ergates.units import Bytes, Nanoseconds

# --- events: named in the past -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OffersSeen:
    """What waits in the store now, and the seat of a gang that we have there (replaces what was known)."""

    offers: tuple[Offer, ...]
    seat: Seat | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksLeased:
    """These are ours now; not started yet ("staged")."""

    leases: tuple[Lease, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """A running attempt is over. `peak_bytes` is the best figure of its anonymous plus shared peak; 0 when unknown.

    `succeeded` is False for every other end; `gave_back` when it was cut short (by us, by the kernel, by its limit).
    """

    key: AttemptKey
    wall_ns: Nanoseconds
    peak_bytes: Bytes
    succeeded: bool
    gave_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSampled:
    """Memory of the node and of every running attempt, every tick.

    Args:
        used_bytes: what counts against `capacity.memory_bytes` now: anonymous plus shared memory of our own
            cgroup when it is confined, else capacity minus the machine's available memory.
        attempts: (key, anonymous plus shared bytes) of each running attempt, frozen ones included.
        pressure_fraction: PSI memory `some`, share of the last 10 s that some task waited for memory; None where
            the kernel has no PSI.
    """

    used_bytes: Bytes
    attempts: tuple[tuple[AttemptKey, Bytes], ...]
    pressure_fraction: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasesRevoked:
    """The user cancelled these."""

    keys: tuple[AttemptKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainStarted:
    """Start nothing new. `give_back`: also return what runs, at once."""

    give_back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PathsChecked:
    """The answer to `CheckPaths`: of `paths`, these are not on this node."""

    paths: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeChanged:
    """People (or Slurm) changed what this worker may use. Less takes effect as attempts end.

    Args:
        capacity: all of it, with new cores, memory or labels; its named resources and core numbers stay as they were.
        jobs: attempts at once at most; None leaves the limit as it was.
        ends_ns: when this worker ends, by its own clock; None when that is not known.
    """

    capacity: NodeCapacity
    jobs: int | None = None
    ends_ns: Nanoseconds | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestStarted:
    """The node seems sick: hand back what has not started, start nothing new; what runs may end."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RestEnded:
    """It may work again."""


NodeEvent = (
    OffersSeen
    | TasksLeased
    | AttemptEnded
    | NodeSampled
    | LeasesRevoked
    | DrainStarted
    | PathsChecked
    | NodeChanged
    | RestStarted
    | RestEnded
)

# --- actions: in the imperative ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AskForTasks:
    """Lease these at the next exchange."""

    wants: tuple[Want, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartAttempt:
    """Start a staged task. `after`: queue it behind this running or just started attempt on the same slot.

    Args:
        cpu_ids: cores to pin to (empty unless pinning was asked for).
        indices: which of an indexed resource it holds: (("gpus", (0,)),).
        alternative: what it holds instead of what its task asked for first; None: that.
        predicted_bytes: what its peak was predicted to be, for the ledger and `explain`.
        basis: in words, what the prediction rests on.
    """

    key: AttemptKey
    after: AttemptKey | None = None
    cpu_ids: tuple[int, ...] = ()
    indices: tuple[tuple[str, tuple[int, ...]], ...] = ()
    alternative: Alternative | None = None
    predicted_bytes: Bytes = Bytes(0)
    basis: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FreezeAttempt:
    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class ThawAttempt:
    key: AttemptKey


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveBack:
    """End a running attempt for memory; it returns to the queue with at least this floor.

    `peak_bytes`: what it had reached.
    """

    key: AttemptKey
    reason: str
    memory_floor_bytes: Bytes
    peak_bytes: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HandBack:
    """Return a staged or running task unharmed: no count, no larger class (a drain, a task that waits too long here)."""

    key: AttemptKey
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseTask:
    """A task that cannot fit here even alone: `failed: needs more than N GiB`."""

    key: AttemptKey
    reason: str
    peak_bytes: Bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class EndAttempt:
    """Kill a running attempt that the user cancelled."""

    key: AttemptKey
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOomOrder:
    """Kernel kill order of what runs now: the last key (newest) dies first, the first (oldest) last."""

    oldest_first: tuple[AttemptKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeAt:
    """Sample the node again no later than this (ticks shorten as memory fills or ramps steepen)."""

    at_ns: Nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckPaths:
    """See whether these paths exist on this node, and tell `PathsChecked`."""

    paths: tuple[str, ...]


NodeAction = (
    AskForTasks
    | CheckPaths
    | StartAttempt
    | FreezeAttempt
    | ThawAttempt
    | GiveBack
    | HandBack
    | RefuseTask
    | EndAttempt
    | SetOomOrder
    | WakeAt
)
