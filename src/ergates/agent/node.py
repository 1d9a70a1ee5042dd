"""This node as the policy sees it: what it has to give (once) and how it stands (every tick)."""

from __future__ import annotations

import os
import uuid

from ergates.agent.settings import RunSettings
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.drivers import machine
from ergates.experiment.host import EXPERIMENT_LABEL, HOST_LABEL
from ergates.taskqueue.launching import MemorySample
from ergates.taskqueue.node_events import NodeSampled
from ergates.units import Bytes, MilliCpus


def capacity_of(settings: RunSettings, *, confined: bool) -> NodeCapacity:
    """What this node may hand out under these settings.

    `confined` says that the launcher put a hard limit of `settings.memory_bytes` on all tasks together.
    """
    limit = machine.memory_limit()
    memory = machine.memory_total_bytes() if limit is None else limit.limit_bytes
    if settings.memory_bytes is not None:
        memory = Bytes(min(memory, settings.memory_bytes))
    # Who asks for 100 at once on two cores means it, as with xargs -P.
    cpus_milli = settings.cpus_milli or max(machine.cpus_milli(), 0 if settings.pin else 1000 * (settings.jobs or 0))
    return NodeCapacity(
        cpus_milli=MilliCpus(cpus_milli),
        cpu_ids=machine.cpu_ids(),
        memory_bytes=memory,
        confined=confined,
        resources=settings.resources,
        labels=settings.node_labels,
        price_usd_micros_per_hour=settings.price_usd_micros_per_hour,
    )


def describe_worker(capacity: NodeCapacity) -> WorkerInfo:
    """A new worker's identity: a fresh UUID, and what lets others of this host see that it is dead."""
    return WorkerInfo(
        id=str(uuid.uuid4()),
        host=_host_of(capacity),
        pid=os.getpid(),
        pid_start_ticks=machine.pid_start_ticks(os.getpid()),
        boot_id=machine.boot_id(),
        capacity=capacity,
    )


def _host_of(capacity: NodeCapacity) -> str:
    """The machine's name; in an experiment the host's, for several of its hosts may be one machine."""
    labels = capacity.labels
    named = labels.get(HOST_LABEL) if EXPERIMENT_LABEL in labels else None
    return named or machine.host_name()


class MemoryGauge:
    """Says how much of the node's memory counts as used.

    Confined by `--memory`: what our tasks hold. Inside somebody's cgroup limit: what that cgroup holds. Else what the
    machine has no longer available, so that other people's processes count too.
    """

    def __init__(self, capacity: NodeCapacity) -> None:
        self._capacity = capacity
        self._limit = None if capacity.confined else machine.memory_limit()
        self._total = machine.memory_total_bytes()

    def used_bytes(self, samples: list[MemorySample], own_group_bytes: int | None) -> Bytes:
        """`own_group_bytes`: anonymous plus shared memory of all tasks' group, None where there is no group."""
        ours = sum(sample.used_bytes for sample in samples)
        if self._limit is not None:
            everything = int(machine.cgroup_used_bytes(self._limit.folder))
            return Bytes(everything)
        shortage = self._total - machine.memory_available_bytes()
        if self._capacity.memory_bytes < self._total:
            held = max(ours, own_group_bytes or 0)
            # A share of a machine that others fill counts as full when the machine is.
            return Bytes(max(held, self._capacity.memory_bytes - machine.memory_available_bytes(), 0))
        return Bytes(shortage)

    def sampled(self, samples: list[MemorySample], own_group_bytes: int | None) -> NodeSampled:
        return NodeSampled(
            used_bytes=self.used_bytes(samples, own_group_bytes),
            attempts=tuple((sample.key, sample.used_bytes) for sample in samples),
            pressure_fraction=machine.memory_pressure_fraction(),
        )
