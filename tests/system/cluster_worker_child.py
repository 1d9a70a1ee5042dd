"""A worker of a cluster with a short lease, for tests. Arguments: socket of the server, state directory, lease in s, jobs."""

from __future__ import annotations

import sys

import redis

from ergates.agent.cluster_worker import ClusterSettings, run_cluster_worker
from ergates.agent.exchanging import Rhythm
from ergates.agent.settings import RunSettings
from ergates.agent.worker_log import WorkerLog
from ergates.clock import SystemClock
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
    settings = ClusterSettings(run=RunSettings(state_dir=state, jobs=jobs), rhythm=rhythm)
    try:
        run_cluster_worker(store, settings, WorkerLog(sys.stderr, SystemClock(), attempts=True))
    finally:
        store.close()


if __name__ == "__main__":
    main()
