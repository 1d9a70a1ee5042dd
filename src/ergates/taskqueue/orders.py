"""What a worker may use once people gave it orders (`erg worker set`)."""

from __future__ import annotations

from msgspec.structs import replace

from ergates.cluster.node import NodeCapacity, WorkerOrders


def ordered(capacity: NodeCapacity, orders: WorkerOrders) -> NodeCapacity:
    """The capacity under these orders.

    Args:
        capacity: what the worker declared when it registered.
        orders: all of them, merged; a label with an empty value is taken away.
    """
    labels = capacity.labels
    if orders.labels:
        labels = {name: value for name, value in {**labels, **orders.labels}.items() if value}
    return replace(
        capacity,
        cpus_milli=capacity.cpus_milli if orders.cpus_milli is None else orders.cpus_milli,
        memory_bytes=capacity.memory_bytes if orders.memory_bytes is None else orders.memory_bytes,
        labels=labels,
    )
