"""Puts a worker together from its settings: launchers, capacity, policy, identity. The only place that knows them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from ergates.agent.node import capacity_of, describe_worker
from ergates.agent.observer import Observer
from ergates.agent.settings import RunSettings
from ergates.agent.worker import Store, Worker
from ergates.clock import Clock, SystemClock
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import JobId, Kind
from ergates.drivers.launchers.process import ProcessLauncher
from ergates.taskqueue.launching import Launcher
from ergates.taskqueue.memory import PastRun
from ergates.taskqueue.node_policy import NodePolicy, Policy
from ergates.taskqueue.node_settings import NodeSettings

RUNS_TO_START_FROM = 1000
"""Newest attempts of the ledger that the memory prediction starts with: a few milliseconds to read."""


def build_worker(
    store: Store, settings: RunSettings, *, jobs: Sequence[JobId] = (), observers: Sequence[Observer] = ()
) -> Worker:
    """A worker that is not registered yet.

    Raises:
        LaunchError: tasks cannot be started here at all.
    """
    clock = SystemClock()
    state_dir = Path(settings.state_dir)
    info = describe_worker(capacity_of(settings, confined=False))
    processes = ProcessLauncher(
        state_dir, info.id, memory_limit_bytes=settings.memory_bytes, prefer=settings.cgroups, clock=clock
    )
    if settings.memory_bytes is not None and processes.confined:
        info = _with_capacity(info, capacity_of(settings, confined=True))

    @cache
    def containers() -> Launcher:
        return _container_launcher(state_dir, info, settings, clock)

    makers: dict[Kind, Callable[[], Launcher]] = {
        "command": lambda: processes,
        "python": lambda: processes,
        "container": containers,
    }
    return Worker(
        info=info,
        store=store,
        launchers=makers,
        policy=make_policy(info.capacity, settings, store),
        clock=clock,
        observers=observers,
        jobs=jobs,
        grace_ns=settings.grace_ns,
        state_dir=state_dir,
    )
