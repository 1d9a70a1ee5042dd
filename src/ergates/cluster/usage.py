"""What one attempt used. Seconds, CPU seconds and memory are measured; joules say how they were obtained."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ergates.units import Bytes, Microjoules, Nanoseconds, UsdMicros

EnergyLabel = Literal["measured", "modelled", "estimated", "unknown"]
MemoryLabel = Literal["sampled", "cgroup", "maxrss", "unknown"]


class Usage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Measured use of one attempt.

    Args:
        wall_ns: from the start of its first process to the end of it.
        cpu_ns: user plus system time of the whole group (of the waited-for processes where there is no cgroup).
        peak_bytes: highest anonymous plus shared memory seen; see `peak_label`.
        peak_label: `sampled` from memory.stat by the tick; `cgroup` and `maxrss` are upper bounds for tasks too
            short to be sampled (page cache, or file pages and the starter's own memory, included).
        peak_with_cache_bytes: the cgroup's own peak, page cache included: an upper bound; 0 when unknown.
        energy_uj, energy_label: joules, later; `unknown` is never shown as zero.
        cost_usd_micros: share of the node's price over the attempt; None when the node has no price.
    """

    wall_ns: Nanoseconds = Nanoseconds(0)
    cpu_ns: Nanoseconds = Nanoseconds(0)
    peak_bytes: Bytes = Bytes(0)
    peak_label: MemoryLabel = "unknown"
    peak_with_cache_bytes: Bytes = Bytes(0)
    energy_uj: Microjoules = Microjoules(0)
    energy_label: EnergyLabel = "unknown"
    cost_usd_micros: UsdMicros | None = None
