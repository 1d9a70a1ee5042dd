"""A worker of a cluster with a short lease, for tests.

Arguments: socket of the server, state directory, lease in s, jobs; perhaps labels and resources (`name=value,...` each), and the
kind of control groups.
"""

from __future__ import annotations

import sys
from typing import Any

import redis

from ergates.agent.cluster_worker import ClusterSettings, run_cluster_worker
from ergates.agent.exchanging import Rhythm
from ergates.agent.settings import RunSettings
from ergates.agent.worker_log import WorkerLog
from ergates.clock import SystemClock
from ergates.cluster.node import NamedResource
from ergates.drivers.stores.redis.store import RedisStore
from ergates.units import SECOND_NS


def main() -> None:
    socket, state, lease_s, jobs = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    lease_ns = int(lease_s * SECOND_NS)
    store = RedisStore(
        lambda: redis.Redis(unix_socket_path=socket, protocol=2, socket_timeout=5, decode_responses=False),
        lease_ns=lease_ns,
    )
    rhythm = Rhythm(
        idle_ns=lease_ns // 3,
        busy_ns=lease_ns // 3,
        reap_ns=lease_ns // 2,
        reap_first_ns=lease_ns // 2,
        announced=True,
    )
    labels, resources = ((), ()) if len(sys.argv) < 7 else map(_pairs, sys.argv[5:7])
    cgroups: Any = sys.argv[7] if len(sys.argv) > 7 else "auto"
    run = RunSettings(
        state_dir=state,
        jobs=jobs,
        node_labels=dict(labels),
        cgroups=cgroups,
        resources=tuple(NamedResource(name=name, amount=int(amount)) for name, amount in resources),
    )
    settings = ClusterSettings(run=run, rhythm=rhythm)
    try:
        run_cluster_worker(store, settings, WorkerLog(sys.stderr, SystemClock(), attempts=True))
    finally:
        store.close()


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, _, value in (each.partition("=") for each in text.split(",")))


if __name__ == "__main__":
    main()
