"""`erg worker start` in a hurry: the lease is short. Arguments: state directory, lease in s, attempts at once.

Its store is the one of the environment, as for the command; what goes wrong is said and ended as there.
"""

from __future__ import annotations

import os
import sys

from ergates.agent.cluster_worker import ClusterSettings, run_cluster_worker
from ergates.agent.exchanging import Rhythm
from ergates.agent.settings import RunSettings
from ergates.agent.worker_log import WorkerLog
from ergates.clock import SystemClock
from ergates.drivers.stores.first_contact import check_server
from ergates.drivers.stores.open_cluster import client_factory
from ergates.drivers.stores.redis.store import RedisStore
from ergates.drivers.stores.store_file import store_address
from ergates.errors import ErgatesError
from ergates.units import SECOND_NS

AFTER_TROUBLE_NS = 2 * SECOND_NS
"""Who meets a full store asks again after a second: a lease here is shorter than two of these."""


def main() -> None:
    state, lease_s, jobs = sys.argv[1], float(sys.argv[2]), int(sys.argv[3])
    lease_ns = int(lease_s * SECOND_NS)
    address = store_address(os.environ["ERGATES_STORE"])
    factory = client_factory(address)
    rhythm = Rhythm(
        idle_ns=lease_ns // 3,
        busy_ns=lease_ns // 3,
        reap_ns=lease_ns // 2,
        reap_first_ns=max(lease_ns // 2, AFTER_TROUBLE_NS),
        announced=True,
    )
    settings = ClusterSettings(run=RunSettings(state_dir=state, jobs=jobs), rhythm=rhythm)
    try:
        with factory() as client:
            check_server(client, address)
        store = RedisStore(factory, queue=address.queue, lease_ns=lease_ns)
        run_cluster_worker(store, settings, WorkerLog(sys.stderr, SystemClock(), attempts=True))
        store.close()
    except ErgatesError as error:
        print(f"erg: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
