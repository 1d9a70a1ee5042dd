"""Which attempt this node should run a second time, told from what the workers say of themselves and from runs that ended.

Each worker names the few attempts that have run longest there and may be copied (`WorkerLoad.longest`); the store remembers how
long runs of each command shape took, and where (`History`). So nobody scans tasks or leases: an idle node reads the roster, and
stragglers.py decides. Every idle node decides for itself; that two choose the same does no harm, for the store gives one copy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ergates.cluster.node import LongAttempt, NodeCapacity, WorkerStatus
from ergates.cluster.task import Requirement
from ergates.taskqueue.node_speed import NodeSpeed, ShapeRun, node_speeds
from ergates.taskqueue.slots import Slots
from ergates.taskqueue.store import Lease, PastPeak
from ergates.taskqueue.stragglers import CopyRecord, Duplicate, RunningCopy, worth_duplicating
from ergates.taskqueue.unfit import lacks
from ergates.units import SECOND_NS, Nanoseconds

LONG_NS = 5 * SECOND_NS
"""A younger attempt is not worth telling of: starting a copy takes about as long."""
TOLD_MOST = 4
LOOK_EVERY_NS = 5 * SECOND_NS
LOOKS_PER_WORKER_NS = SECOND_NS // 2
"""With many workers each looks less often: all together twice a second."""


def look_pause_ns(live: int) -> int:
    """How long an idle worker waits between two looks, of so many live workers."""
    return max(LOOK_EVERY_NS, live * LOOKS_PER_WORKER_NS)


def may_run_twice(lease: Lease, *, copies: bool) -> bool:
    """Whether a second attempt beside this one is allowed: its job has `copies`, and nothing ties it to this node.

    Outputs that are carried back would be written by both, a gang is several attempts already, and who does not look for its
    paths beforehand cannot promise that they are there.
    """
    return copies and lease.gang is None and not lease.spec.outputs and not lease.spec.requirement.paths


def has_room(
    requirement: Requirement, capacity: NodeCapacity, cpus_milli_held: int, resources_held: Iterable[tuple[str, int]]
) -> bool:
    """Whether a node could start such a task now, as far as cores, resources and labels go; memory is seen when it starts."""
    if lacks(requirement, Slots(capacity), gangs=False):
        return False
    free = {resource.name: resource.amount for resource in capacity.resources}
    for name, amount in resources_held:
        free[name] = free.get(name, 0) - amount
    enough = all(amount <= free.get(name, 0) for name, amount in requirement.resources)
    return enough and requirement.cpus_milli <= capacity.cpus_milli - cpus_milli_held


def longest(attempts: Iterable[LongAttempt]) -> tuple[LongAttempt, ...]:
    """Of those that run on a node, what its worker tells of: the oldest first."""
    old = [attempt for attempt in attempts if attempt.age_ns >= LONG_NS]
    return tuple(sorted(old, key=lambda attempt: (-attempt.age_ns, attempt.job, attempt.task))[:TOLD_MOST])


def speeds_of(peaks: Iterable[PastPeak]) -> dict[str, NodeSpeed]:
    """The estimated speed of each node that ran a command shape which another one ran, too."""
    return node_speeds(
        ShapeRun(peak.shape, peak.host, Nanoseconds(peak.wall_ns)) for peak in peaks if peak.host and _is_fine(peak)
    )


def choose_copy(
    workers: Sequence[WorkerStatus], peaks: Sequence[PastPeak], host: str, record: CopyRecord, now_ns: int
) -> Duplicate | None:
    """The attempt that deserves a copy on this host, which has room; None when none does.

    Args:
        workers: all of the store.
        peaks: runs that ended.
        host: ours.
        record: how copies that we know of fared.
        now_ns: only differences count.
    """
    live = [worker for worker in workers if worker.standing == "live"]
    running = _running(live, now_ns)
    if not any(attempt.host != host for attempt in running):
        return None
    speeds = {name: estimate.speed for name, estimate in speeds_of(peaks).items()}
    walls: dict[str, list[int]] = defaultdict(list)
    for peak in peaks:
        if _is_fine(peak):
            walls[peak.shape].append(round(peak.wall_ns * speeds.get(peak.host, 1.0)))
    for several in walls.values():
        several.sort()
    slots = sum(max(1, worker.info.capacity.cpus_milli // 1000) for worker in live)
    chosen = worth_duplicating(running, walls, {host: 1}, speeds, now_ns, slots=slots, record=record)
    return chosen[0] if chosen else None


def _running(live: Sequence[WorkerStatus], now_ns: int) -> list[RunningCopy]:
    found = [
        RunningCopy(
            key=(attempt.job, attempt.task, attempt.fence),
            shape=attempt.shape,
            host=worker.info.host,
            started_ns=Nanoseconds(now_ns - attempt.age_ns - worker.beat_age_ns),
            duplicated=attempt.copy,
        )
        for worker in live
        for attempt in worker.load.longest
    ]
    copied = {each.key[:2] for each in found if each.duplicated}
    return [replace(each, duplicated=each.key[:2] in copied) for each in found]


def _is_fine(peak: PastPeak) -> bool:
    """Coarse shapes (memory.py) repeat the runs of fine ones."""
    return not peak.shape.endswith(" (any words)")
