"""A node: what one machine has to give, as its worker declares it."""

from __future__ import annotations

from msgspec import Struct

from ergates.cluster.task import JobId, TaskId
from ergates.units import Bytes, MilliCpus, Nanoseconds, UsdMicros


class NamedResource(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something countable a task can hold: `licences=4`, or indexed, `gpus=0,1` (then `indices` is not empty)."""

    name: str
    amount: int
    indices: tuple[int, ...] = ()


class NodeCapacity(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the worker may hand out.

    Args:
        cpus_milli: cores from affinity and cgroup quota (or the user's `--cpus`), in thousandths.
        cpu_ids: cores of the affinity mask, for pinning.
        memory_bytes: what all tasks together may use: the machine's memory, a cgroup's limit, or `--memory`.
        confined: whether `memory_bytes` is a hard limit of our own cgroup (else the machine is shared).
        price_usd_micros_per_hour: of the whole node, when the user told it.
    """

    cpus_milli: MilliCpus
    cpu_ids: tuple[int, ...] = ()
    memory_bytes: Bytes
    confined: bool = False
    resources: tuple[NamedResource, ...] = ()
    labels: dict[str, str] = {}
    price_usd_micros_per_hour: UsdMicros | None = None


class WorkerInfo(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who a worker is. `id` is a UUID, never a host name.

    `pid`, `pid_start_ticks` and `boot_id` let another process of the same host tell at once that it is dead.

    Args:
        version: of Ergates; a store tells workers of another wire version to go.
        ends_ns: when its allocation ends (server time unknown here: its own clock), None when it does not.
        placed_by: how it got there, for people and for `erg worker down`: `ssh:NAME`, `slurm:JOBID`, empty: by hand.
    """

    id: str
    host: str
    pid: int = 0
    pid_start_ticks: int = 0
    boot_id: str = ""
    capacity: NodeCapacity
    version: str = ""
    started_ns: Nanoseconds = Nanoseconds(0)
    ends_ns: Nanoseconds | None = None
    placed_by: str = ""


class WorkerOrders(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What people told a worker while it runs (`erg worker set`, `erg worker drain`). None leaves a limit as it was.

    Args:
        version: counts up with every change; a worker obeys a version once.
        drain: start nothing new, end when what runs has ended.
        give_back: with `drain`: return what runs at once.
        cpus_milli, memory_bytes, jobs: new limits; lower ones take effect as attempts end.
        labels: new values, an empty one removes the label.
    """

    version: int = 0
    drain: bool = False
    give_back: bool = False
    cpus_milli: MilliCpus | None = None
    memory_bytes: Bytes | None = None
    jobs: int | None = None
    labels: dict[str, str] = {}


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """A worker as people see it.

    Args:
        standing: `live`; `silent` (no beat for longer than a lease); `condemned` or `reaped` (declared dead); `left`.
        beat_age_ns: since its last exchange, by the store's clock.
        leases: tasks it holds.
        load: what it said of itself in its last exchange.
    """

    info: WorkerInfo
    standing: str
    beat_age_ns: Nanoseconds
    leases: int
    orders: WorkerOrders
    load: WorkerLoad


class LongAttempt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An attempt that has run for long on this node and may run a second time on another one.

    Args:
        shape: of its command (taskqueue/shape.py), the fine one.
        age_ns: since it started, when this was said.
        copy: whether it is such a second run itself.
    """

    job: JobId
    task: TaskId
    fence: int
    shape: str
    age_ns: Nanoseconds
    copy: bool = False


class WorkerLoad(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a node stands, sent along with an exchange at most once a second."""

    running: int = 0
    frozen: int = 0
    cpus_milli_held: MilliCpus = MilliCpus(0)
    used_bytes: Bytes = Bytes(0)
    ended: int = 0
    """Attempts since it started."""
    failed: int = 0
    """Of those, that failed, were lost or could not be started."""
    note: str = ""
    """Why it starts nothing: a full disk, draining, sick."""
    resources_held: tuple[tuple[str, int], ...] = ()
    """Sorted (name, amount) of the named resources in use."""
    longest: tuple[LongAttempt, ...] = ()
    """The few that may be copied and have run longest, the oldest first."""
