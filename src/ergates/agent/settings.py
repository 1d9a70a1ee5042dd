"""What a worker was told by the person who started it: read once from the command line, never changed while it runs.

Everything about a *task* (cpus, memory floor, time limit, retries, labels, image, ...) is in its TaskSpec already; what
is here is about this node and this run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ergates.cluster.node import NamedResource
from ergates.taskqueue.halt import HaltRule
from ergates.units import GIB, Bytes, MilliCpus, Nanoseconds, UsdMicros

MemoryPolicyName = Literal["ours", "distcomp", "fixed"]
CgroupPreference = Literal["auto", "v2", "v1", "none"]
ContainerEngine = Literal["auto", "docker", "podman"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """Limits and choices of one `erg run`.

    Args:
        jobs: so many attempts at once (`-j`), also beyond the cores; None: as many as cores and memory admit.
        cpus_milli: what all tasks together may hold; None: what affinity and cgroup quota leave.
        memory_bytes: `--memory`: all tasks together are confined to this; None: the machine's memory, shared with others.
        memory_policy: `ours` learns and packs; `distcomp` is its fixed rule; `fixed` never gives back (slots only).
        pin: give every attempt its own cores.
        resources: what the node has of named resources, counted or indexed.
        price_usd_micros_per_hour: of the whole node; None: costs are not computed.
        grace_ns: between TERM and KILL of an attempt that has to end.
        halt: stop the whole job early; None never.
        cgroups: which kind to use; `auto` takes the best that works.
        container_engine: for tasks with an image.
        state_dir: where the output packs go (same directory as the store).
        cache_bytes: how much of the tasks' inputs is kept for others, below `state_dir`.
    """

    jobs: int | None = None
    cpus_milli: MilliCpus | None = None
    memory_bytes: Bytes | None = None
    memory_policy: MemoryPolicyName = "ours"
    pin: bool = False
    resources: tuple[NamedResource, ...] = ()
    price_usd_micros_per_hour: UsdMicros | None = None
    grace_ns: Nanoseconds = Nanoseconds(5_000_000_000)
    halt: HaltRule | None = None
    cgroups: CgroupPreference = "auto"
    container_engine: ContainerEngine = "auto"
    state_dir: str = ".ergates"
    cache_bytes: Bytes = Bytes(10 * GIB)
    node_labels: dict[str, str] = field(default_factory=dict)
