"""`erg worker slurm list`: allocations of this queue, and the workers in them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from ergates.cli.options import cluster_options, examples
from ergates.cli.placing import cluster_address
from ergates.cli.slurm_options import pool_of
from ergates.cli.tables import Column, table_lines
from ergates.cli.terminal import width_of
from ergates.units import format_duration

if TYPE_CHECKING:
    from ergates.cluster.node import WorkerStatus
    from ergates.drivers.placers.slurm_records import SlurmAllocation

_COLUMNS = (
    Column("allocation"),
    Column("pool"),
    Column("state"),
    Column("node"),
    Column("time left", "right"),
    Column("worker"),
    Column("tasks", "right"),
    Column("what", elastic=True),
)


@click.command(epilog=examples("erg worker slurm list", "erg worker slurm list --all   those that ended lately, too"))
@click.option(
    "--all",
    "ended_too",
    is_flag=True,
    help="Those that ended, too, as long as Slurm knows them (5 minutes by default).",
)
@cluster_options
def command(ended_too: bool, as_json: bool) -> None:
    """What Slurm holds for this queue of this store, in all pools, with the worker that runs in each."""
    from ergates.controller.slurm_placing import allocation_of
    from ergates.drivers.placers.slurm import Slurm
    from ergates.drivers.stores.open_cluster import open_cluster_store

    address = cluster_address()
    pool = pool_of(address, "main")
    rows = [row for row in Slurm().allocations(pool) if pool.of_store(row.comment) and (ended_too or not row.over)]
    store = open_cluster_store(address)
    try:
        workers = {allocation_of(worker): worker for worker in store.workers()}
    finally:
        store.close()
    if as_json:
        from ergates.cli.json_output import print_json

        print_json([_facts(row, workers.get(row.id)) for row in rows])
    else:
        click.echo("\n".join(allocation_lines(rows, workers, width_of(sys.stdout, 120))))


def allocation_lines(rows: Sequence[SlurmAllocation], workers: Mapping[str, WorkerStatus], width: int) -> list[str]:
    """A table, or a sentence when there is nothing."""
    if not rows:
        return ["no allocations of this queue\n  hint: erg worker slurm up --nodes 4 --time 1h"]
    return table_lines(_COLUMNS, [_cells(row, workers.get(row.id)) for row in rows], width)


def _cells(row: SlurmAllocation, worker: WorkerStatus | None) -> tuple[str, ...]:
    left = format_duration(row.left_ns) if row.left_ns is not None and row.running else ""
    reason = "" if row.reason == "None" or row.running else row.reason
    note = row.never_starts or (worker.load.note if worker else "") or reason
    return (
        row.id,
        _pool(row),
        row.state.lower(),
        row.node,
        left,
        "" if worker is None else ("draining" if worker.orders.drain else worker.standing),
        str(worker.leases) if worker else "",
        note,
    )


def _pool(row: SlurmAllocation) -> str:
    return row.comment.partition(" ")[0].rpartition("/")[2]


def _facts(row: SlurmAllocation, worker: WorkerStatus | None) -> dict[str, object]:
    return {
        "allocation": row.id, "pool": _pool(row), "state": row.state, "reason": row.reason, "partition": row.partition,
        "node": row.node, "left_ns": row.left_ns, "worker": worker.info.id if worker else None,
        "standing": worker.standing if worker else None, "leases": worker.leases if worker else 0,
    }  # fmt: skip
