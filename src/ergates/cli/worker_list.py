"""`erg worker list`: who works for a cluster's store, where, on what, and how each stands."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType

import click

from ergates.cli.opened_cluster import opened_cluster
from ergates.cli.options import cluster_options, examples
from ergates.cli.tables import Column, table_lines
from ergates.cli.terminal import width_of
from ergates.cli.wording import coarse_duration, percent
from ergates.cli.workers_chosen import PRESENT
from ergates.cluster.node import WorkerStatus
from ergates.taskqueue.copying import speeds_of
from ergates.taskqueue.node_speed import NodeSpeed
from ergates.units import format_bytes

_COLUMNS = (
    Column("id"),
    Column("host"),
    Column("from"),
    Column("state"),
    Column("beat", "right"),
    Column("cpus", "right"),
    Column("memory", "right"),
    Column("running", "right"),
    Column("frozen", "right"),
    Column("ended", "right"),
    Column("failed", "right"),
    Column("speed (est.)", "right"),
    Column("labels"),
    Column("note", elastic=True),
)
_ID_SHOWN = 8


@click.command(
    name="list",
    epilog=examples(
        "erg worker list                      those that are there",
        "erg worker list --gone               those that left or died lately, too",
        "erg worker list --json",
    ),
)
@click.option("--gone", is_flag=True, help="Show workers that left or died lately, too.")
@cluster_options
def command(gone: bool, as_json: bool) -> None:
    """All workers of the store: where they are, since when they were not heard of, what they hold and run.

    State: live; silent (not heard of for longer than a lease: its tasks go to others soon); reaped (its tasks went to
    others); left. Beat: since its last word, by the server's clock. Speed: how much its node does in a second, next to the
    median node: an estimate from commands of one shape that ran on several nodes.
    """
    with opened_cluster() as store:
        workers = [each for each in store.workers() if gone or each.standing in PRESENT]
        speeds = speeds_of(store.recall_peaks()) if workers else {}
    if as_json:
        from ergates.cli.json_output import plain, print_json

        print_json([{**plain(each), "speed_estimate": _known_speed(each, speeds)} for each in workers])
    else:
        click.echo("\n".join(worker_lines(workers, width_of(sys.stdout, 140), speeds)))


def _known_speed(worker: WorkerStatus, speeds: Mapping[str, NodeSpeed]) -> dict[str, float] | None:
    found = speeds.get(worker.info.host)
    return None if found is None else asdict(found)


def worker_lines(
    workers: Sequence[WorkerStatus], width: int, speeds: Mapping[str, NodeSpeed] = MappingProxyType({})
) -> list[str]:
    """One row a worker. `speeds` are estimates, by host."""
    if not workers:
        return ["no workers", "  hint: `erg worker start` on a machine, or `erg worker up` for several"]
    length = shortest_ids([each.info.id for each in workers])
    return table_lines(_COLUMNS, [_row(each, length, speeds.get(each.info.host)) for each in workers], width)


def shortest_ids(ids: Sequence[str]) -> int:
    """So many characters tell these ids apart."""
    length = _ID_SHOWN
    while length < 36 and len({one[:length] for one in ids}) < len(ids):
        length += 1
    return length


def _row(worker: WorkerStatus, length: int, speed: NodeSpeed | None) -> tuple[str, ...]:
    info, load, orders = worker.info, worker.load, worker.orders
    capacity = info.capacity
    cpus_milli = capacity.cpus_milli if orders.cpus_milli is None else orders.cpus_milli
    memory = capacity.memory_bytes if orders.memory_bytes is None else orders.memory_bytes
    labels = {name: value for name, value in {**capacity.labels, **orders.labels}.items() if value}
    used = f"{percent(load.used_bytes, memory)} of " if load.used_bytes else ""
    there = worker.standing in PRESENT
    return (
        info.id[:length],
        info.host,
        info.placed_by,
        worker.standing,
        coarse_duration(worker.beat_age_ns) if there else "",
        f"{load.cpus_milli_held / 1000:g}/{cpus_milli / 1000:g}",
        f"{used}{format_bytes(memory)}",
        str(load.running) if there else "",
        str(load.frozen) if load.frozen else "",
        str(load.ended) if load.ended else "",
        str(load.failed) if load.failed else "",
        "" if speed is None else f"{speed.speed:.2g}",
        ",".join(f"{name}={value}" for name, value in sorted(labels.items())),
        load.note or ("to drain" if orders.drain and there else ""),
    )
