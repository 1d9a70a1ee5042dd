"""`erg worker slurm down`: take back what waits, let workers drain, end what is left. Only allocations of this store's queue."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ergates.cli.options import DURATION, cluster_options, examples
from ergates.cli.placing import cluster_address
from ergates.cli.slurm_options import pool_of, pool_options, pool_root
from ergates.cli.wording import plural
from ergates.cluster.node import WorkerOrders
from ergates.controller.slurm_placing import allocation_of
from ergates.errors import UsageError
from ergates.units import SECOND_NS

if TYPE_CHECKING:
    from ergates.drivers.placers.slurm import Slurm
    from ergates.drivers.placers.slurm_pool import PoolFolder
    from ergates.drivers.placers.slurm_records import SlurmAllocation
    from ergates.taskqueue.store import Roster

LOOK_EVERY_S = 1.0
GRACE_NS = 30 * SECOND_NS
"""With --now workers have so long to give their tasks back before Slurm ends them."""


@click.command(
    epilog=examples(
        "erg worker slurm down               what runs may end; returns when all are gone",
        "erg worker slurm down --wait 10m    what still runs then goes back to the queue",
        "erg worker slurm down --now         at once: running tasks go back to the queue",
    )
)
@click.option("--now", is_flag=True, help="Give running tasks back to the queue instead of letting them end.")
@click.option("--wait", "wait_ns", type=DURATION, help="End what still runs after this.  [default: wait for all tasks]")
@pool_options
@cluster_options
def command(now: bool, wait_ns: int | None, name: str, folder: Path | None, as_json: bool) -> None:
    """End the allocations of a pool: waiting ones are cancelled, workers drain through the store, what is left is cancelled.

    Interrupted, it leaves the workers draining.
    """
    from ergates.drivers.placers.slurm import Slurm
    from ergates.drivers.placers.slurm_pool import PoolFolder
    from ergates.drivers.stores.open_cluster import open_cluster_store

    address = cluster_address()
    slurm = Slurm()
    pool_folder = PoolFolder(pool_root(folder), pool_of(address, name))
    store = open_cluster_store(address)
    try:
        pool_folder.lock()
        ended = _Down(slurm, pool_folder, store, wait_ns=0 if now else wait_ns).run()
    finally:
        pool_folder.unlock()
        store.close()
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"ended": ended})
    else:
        click.echo(f"ended {plural(len(ended), 'allocation')}")


class _Down:
    """`wait_ns` is how long tasks may still run; None: as long as they need."""

    def __init__(self, slurm: Slurm, folder: PoolFolder, store: Roster, *, wait_ns: int | None) -> None:
        self._slurm, self._folder, self._store, self._wait_ns = slurm, folder, store, wait_ns
        self._told: dict[str, bool] = {}
        self._cancelled: set[str] = set()

    def run(self) -> list[str]:
        """Until nothing is left; returns what was there."""
        begun_s, ended = time.monotonic(), dict[str, None]()
        while left := self._left():
            ended |= dict.fromkeys(row.id for row in left)
            passed_ns = (time.monotonic() - begun_s) * SECOND_NS
            self._step(left, passed_ns)
            time.sleep(LOOK_EVERY_S)  # Slurm announces nothing
        return list(ended)

    def _step(self, left: list[SlurmAllocation], passed_ns: float) -> None:
        give_back = self._wait_ns is not None and passed_ns >= self._wait_ns
        late = self._wait_ns is not None and passed_ns >= self._wait_ns + GRACE_NS
        self._cancel([row for row in left if row.pending], pending_only=True)
        working = self._drain({row.id for row in left}, give_back=give_back)
        # Without a worker (not yet, or no longer) an allocation has nothing to lose.
        self._cancel([row for row in left if row.running and (late or row.id not in working)])

    def _drain(self, allocations: set[str], *, give_back: bool) -> set[str]:
        """Tell their workers; returns the allocations that have one."""
        working = set()
        for worker in self._store.workers():
            allocation = allocation_of(worker)
            if worker.standing != "live" or allocation not in allocations:
                continue
            working.add(allocation)
            if self._told.get(worker.info.id) != give_back:
                with suppress(UsageError):  # it left meanwhile
                    self._store.order(worker.info.id, WorkerOrders(drain=True, give_back=give_back))
                self._told[worker.info.id] = give_back
        return working

    def _cancel(self, rows: list[SlurmAllocation], *, pending_only: bool = False) -> None:
        fresh = [row.id for row in rows if row.id not in self._cancelled]
        if fresh:
            self._slurm.cancel(fresh, pending_only=pending_only)
            if not pending_only:
                self._cancelled |= set(fresh)

    def _left(self) -> list[SlurmAllocation]:
        rows = self._slurm.allocations(self._folder.pool)
        return [row for row in self._folder.ours(rows) if not row.over]
