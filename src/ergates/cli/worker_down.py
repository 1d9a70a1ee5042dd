"""`erg worker down`: drain workers that `erg worker up` started, and see that nothing of them is left on their hosts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from typing import TYPE_CHECKING, Any

import click

from ergates.cli.options import DURATION, cluster_options, examples
from ergates.cli.placing import cluster_address, hosts_from, run_to_end, shown, ssh_options, ssh_options_from
from ergates.errors import StoreUnavailableError, UsageError
from ergates.units import SECOND_NS

if TYPE_CHECKING:
    from ergates.cluster.node import WorkerOrders, WorkerStatus
    from ergates.drivers.placers.hosts import Host
    from ergates.drivers.placers.many_hosts import HostReport
    from ergates.drivers.stores.address import StoreAddress
    from ergates.taskqueue.store import Roster


@click.command(
    epilog=examples(
        "erg worker down --all                    every host of this store that `up` brought up",
        "erg worker down node03 'node[10-12]'     these, when what runs there has ended",
        "erg worker down --all --now              give tasks back to the queue at once",
    )
)
@click.argument("names", nargs=-1, metavar="[HOST...]")
@click.option("--hosts", "host_file", metavar="FILE", help="The hosts of a file.")
@click.option("--all", "all_hosts", is_flag=True, help="All hosts that were brought up from here.")
@click.option("--now", is_flag=True, help="Do not wait for what runs: it goes back to the queue.")
@click.option(
    "--grace",
    "grace_ns",
    type=DURATION,
    default="15s",
    show_default=True,
    help="For a worker that is still there, before it is killed.",
)
@ssh_options
@cluster_options
def command(names: tuple[str, ...], host_file: str | None, all_hosts: bool, as_json: bool, **options: Any) -> int:
    """Order workers to drain, wait, then visit their hosts: whatever of them is left there is ended.

    Ctrl-C stops the waiting, not the draining.
    """
    chosen = hosts_from(host_file, names)
    if all_hosts == bool(chosen):
        raise UsageError("which hosts?\n  hint: name them, or --hosts FILE, or --all")
    reports, interrupted = _take_down(None if all_hosts else chosen, cluster_address(), options)
    if not reports and not as_json:
        click.echo("no host was brought up from here, and no worker of the store names one")
        return 0
    return shown(reports, as_json=as_json, interrupted=interrupted, good="down")


def _take_down(
    chosen: Sequence[Host] | None, address: StoreAddress, options: dict[str, Any]
) -> tuple[list[HostReport], bool]:
    from ergates.drivers.placers.many_hosts import ManyHosts
    from ergates.drivers.placers.placed_hosts import PlacedHosts, cluster_dir, cluster_name
    from ergates.drivers.placers.roster_watch import RosterWatch
    from ergates.drivers.placers.ssh_command import Ssh
    from ergates.drivers.placers.ssh_down import DownPlan, SshDown
    from ergates.drivers.stores.open_cluster import open_cluster_store

    cluster = cluster_name(address.url)
    directory = cluster_dir(cluster)
    placed = PlacedHosts(directory)
    many = ManyHosts(
        Ssh(directory, ssh_options_from(options)),
        parallel=options["parallel"],
        connect_timeout_s=options["connect_timeout"],
    )
    plan = DownPlan(cluster=cluster, now=options["now"], grace_s=options["grace_ns"] / SECOND_NS)
    with ExitStack() as stack:
        roster: Roster
        try:
            roster = stack.enter_context(closing(open_cluster_store(address)))
        except StoreUnavailableError as error:
            if not plan.now:
                raise
            roster = _Away(error)
        hosts = remembered(placed.read(), chosen) if chosen is not None else all_placed(placed.read(), roster)
        watch = stack.enter_context(closing(RosterWatch(roster)))
        interrupted = run_to_end(SshDown(many, watch, placed, plan).run(hosts), many)
    return many.reports, interrupted


def remembered(placed: Sequence[Host], chosen: Sequence[Host]) -> list[Host]:
    """The hosts that are meant, as they were reached when they were brought up."""
    known = {host.name: host for host in placed}
    return [known.get(host.name, host) for host in chosen]


def all_placed(placed: Sequence[Host], roster: Roster) -> list[Host]:
    """Those remembered here, and those that workers in the store name: another machine may have brought them up."""
    from ergates.drivers.placers.hosts import named_hosts
    from ergates.drivers.placers.roster_watch import PRESENT
    from ergates.drivers.placers.ssh_up import placed_by

    hosts = {host.name: host for host in placed}
    with suppress(StoreUnavailableError):
        for worker in roster.workers():
            place, prefix = worker.info.placed_by, placed_by("")
            if place.startswith(prefix) and worker.standing in PRESENT:
                name = place.removeprefix(prefix)
                hosts.setdefault(name, named_hosts(name)[0])
    return list(hosts.values())


class _Away:
    """The roster of a store that cannot be reached: `--now` does without."""

    def __init__(self, error: StoreUnavailableError) -> None:
        self._error = error

    def workers(self) -> tuple[WorkerStatus, ...]:
        raise self._error

    def order(self, worker: str, orders: WorkerOrders) -> WorkerOrders:
        raise self._error
