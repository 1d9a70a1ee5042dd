"""Puts a worker together from its settings: launchers, capacity, policy, identity. The only place that knows them all."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from ergates.agent.exchanging import Store
from ergates.agent.node import capacity_of, describe_worker
from ergates.agent.observer import Observer
from ergates.agent.scratch import remove_scratch
from ergates.agent.settings import RunSettings
from ergates.agent.staging import Staging
from ergates.agent.worker import Far, Worker
from ergates.clock import SystemClock
from ergates.cluster.node import WorkerInfo
from ergates.cluster.task import JobId, Kind
from ergates.drivers.launchers.leftovers import clean_leftovers
from ergates.drivers.launchers.process import ProcessLauncher
from ergates.drivers.objects.cache import FileCache
from ergates.taskqueue.halt import Stop
from ergates.taskqueue.launching import Launcher
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.policies import make_policy
from ergates.units import SECOND_NS, Nanoseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """How a worker of a cluster came to be here, and until when it stays. See WorkerInfo."""

    version: str
    ends_ns: Nanoseconds | None = None
    placed_by: str = ""


HAND_BACK_AFTER_NS = Nanoseconds(30 * SECOND_NS)
"""On a cluster a task that found no room here for so long may find some elsewhere."""


def build_worker(
    store: Store,
    settings: RunSettings,
    *,
    jobs: Sequence[JobId] = (),
    observers: Sequence[Observer] = (),
    stop_rule: Callable[[], Stop | None] | None = None,
    placing: Placing | None = None,
    far: Callable[[WorkerInfo], Far] | None = None,
) -> Worker:
    """A worker that is not registered yet.

    With a `stop_rule` (asked after every attempt, once its end is committed) nothing is queued behind what runs, so
    that no task starts after the one that broke the rule. On a cluster `placing` and `far` say the rest.

    Raises:
        LaunchError: tasks cannot be started here at all.
    """
    clock = SystemClock()
    state_dir = Path(settings.state_dir)
    remove_scratch(state_dir, clean_leftovers(state_dir))
    info = describe_worker(capacity_of(settings, confined=False))
    processes = ProcessLauncher(
        state_dir, info.id, memory_limit_bytes=settings.memory_bytes, prefer=settings.cgroups, clock=clock
    )
    if processes.confined:
        info = msgspec.structs.replace(info, capacity=capacity_of(settings, confined=True))
    if placing is not None:
        info = msgspec.structs.replace(
            info,
            version=placing.version,
            started_ns=clock.now_ns(),
            ends_ns=placing.ends_ns,
            placed_by=placing.placed_by,
        )

    def containers() -> Launcher:
        from ergates.drivers.launchers.container import ContainerLauncher  # the SDK takes 100 ms to import

        return ContainerLauncher(state_dir, info.id, clock=clock, engine=settings.container_engine)

    makers: dict[Kind, Callable[[], Launcher]] = {
        "command": lambda: processes,
        "python": lambda: processes,
        "container": containers,
    }
    node = NodeSettings(pin=settings.pin, jobs=settings.jobs)
    if stop_rule is not None:
        node = replace(node, queue_most=1)
    if far is not None:
        node = replace(node, refuse_unfit=False, hand_back_after_ns=HAND_BACK_AFTER_NS, ahead_wall_ns=SECOND_NS)
        node = replace(node, gangs=settings.memory_policy == "ours")  # the others keep no room for them
    try:
        return Worker(
            info=info,
            store=store,
            launchers=makers,
            policy=make_policy(settings.memory_policy, info.capacity, node, store.recall_peaks(), ends_ns=info.ends_ns),
            clock=clock,
            observers=observers,
            jobs=jobs,
            grace_ns=settings.grace_ns,
            state_dir=state_dir,
            stop_rule=stop_rule,
            staging=Staging(FileCache(state_dir, settings.cache_bytes), random.Random(f"{info.id}/transfers")),
            far=None if far is None else far(info),
            confine=processes.set_memory_limit if processes.confined else None,
        )
    except BaseException:
        processes.close()
        raise
