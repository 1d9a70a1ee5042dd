"""A node: what one machine has to give, as its worker declares it."""

from __future__ import annotations

from msgspec import Struct

from ergates.units import Bytes, MilliCpus, UsdMicros


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
    """

    id: str
    host: str
    pid: int = 0
    pid_start_ticks: int = 0
    boot_id: str = ""
    capacity: NodeCapacity
