"""`erg worker up`: start workers on other hosts over ssh."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ergates.cli.options import BYTES, CPUS, DURATION, PAIR, cluster_options, examples
from ergates.cli.placing import cluster_address, hosts_from, run_to_end, shown, ssh_options, ssh_options_from
from ergates.errors import UsageError
from ergates.units import SECOND_NS

if TYPE_CHECKING:
    from ergates.drivers.placers.hosts import Host
    from ergates.drivers.placers.many_hosts import HostReport
    from ergates.drivers.stores.address import StoreAddress


@click.command(
    epilog=examples(
        "erg worker up --hosts hosts.txt --store .ergates/store.toml",
        "erg worker up --host 'node[01-16],alice@big' --wait 5m",
        "erg worker up --hosts hosts.txt --setup prepare.sh --memory 60GiB -- --idle-timeout 30m",
    )
)
@click.option(
    "--hosts",
    "host_file",
    metavar="FILE",
    help="A host a line: [user@]host[:port], node[01-16], cpus=, memory=, labels.",
)
@click.option("--host", "names", multiple=True, metavar="A,B", help="Hosts by name, as in a file.")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1, 1000), help="Workers on each host.")
@click.option(
    "--wait",
    "wait_ns",
    type=DURATION,
    default="0",
    metavar="TIME",
    help="How long hosts may still boot: tried again till then.",
)
@click.option(
    "--setup",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A script that is run first on each host.",
)
@click.option("--cpus", "cpus_milli", type=CPUS, help="Cores each worker may use, where the file does not say.")
@click.option("--memory", type=BYTES, help="Memory each worker may use, where the file does not say.")
@click.option("--label", "labels", type=PAIR, multiple=True, metavar="NAME=VALUE", help="A label of all these workers.")
@click.option(
    "--with", "extra", multiple=True, metavar="PACKAGE==VERSION", help="A further package for the hosts, as a wheel."
)
@click.option(
    "--join-timeout",
    "join_ns",
    type=DURATION,
    default="60s",
    show_default=True,
    help="Until the store must have heard of a worker.",
)
@ssh_options
@cluster_options
@click.argument("start_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS OF `erg worker start`]")
def command(
    host_file: str | None, names: tuple[str, ...], as_json: bool, start_options: tuple[str, ...], **options: Any
) -> int:
    """Start a worker on each host: over ssh, with nothing but Python >= 3.11 there.

    What the hosts need is gathered here with pip for their platform and sent once; they need no registry. A worker is up when
    the store has heard from it. Doing it again changes nothing where a worker runs already.
    """
    if start_options and not start_options[0].startswith("-"):
        word = start_options[0]
        raise UsageError(
            f"{word!r}: what does it mean here?\n  hint: a file of hosts: --hosts {word}; a host: --host {word}"
        )
    address = cluster_address()
    hosts = _limited(hosts_from(host_file, names), options)
    if not hosts:
        raise UsageError("no hosts\n  hint: --hosts FILE or --host A,B")
    _warn_of_loopback(address, hosts)
    reports, interrupted = _bring_up(hosts, address, start_options, options)
    return shown(reports, as_json=as_json, interrupted=interrupted, good="up")


def _limited(hosts: Sequence[Host], options: dict[str, Any]) -> list[Host]:
    """What the command line says holds where the file says nothing."""
    return [
        replace(
            host,
            cpus_milli=host.cpus_milli or options["cpus_milli"],
            memory_bytes=host.memory_bytes or options["memory"],
            labels={**dict(options["labels"]), **host.labels},
        )
        for host in hosts
    ]


def _bring_up(
    hosts: Sequence[Host], address: StoreAddress, start_options: Sequence[str], options: dict[str, Any]
) -> tuple[list[HostReport], bool]:
    from ergates.drivers.placers.many_hosts import ManyHosts
    from ergates.drivers.placers.placed_hosts import PlacedHosts, cluster_dir, cluster_name
    from ergates.drivers.placers.roster_watch import RosterWatch
    from ergates.drivers.placers.ssh_command import Ssh
    from ergates.drivers.placers.ssh_up import SshUp, UpPlan
    from ergates.drivers.placers.ssh_worker import start_command, store_files
    from ergates.drivers.placers.wheelhouse import Wheelhouse
    from ergates.drivers.stores.open_cluster import open_cluster_store

    cluster = cluster_name(address.url)
    directory = cluster_dir(cluster)
    plan = UpPlan(
        cluster=cluster,
        command=lambda host: start_command(host, start_options),
        files=store_files(address),
        count=options["count"],
        setup=None if options["setup"] is None else options["setup"].read_bytes(),
        join_s=options["join_ns"] / SECOND_NS,
    )
    many = ManyHosts(
        Ssh(directory, ssh_options_from(options)),
        parallel=options["parallel"],
        wait_s=options["wait_ns"] / SECOND_NS,
        connect_timeout_s=options["connect_timeout"],
    )
    wheelhouse = Wheelhouse(extra=options["extra"])
    with closing(open_cluster_store(address)) as store, closing(RosterWatch(store)) as watch:
        up = SshUp(many, wheelhouse, watch, PlacedHosts(directory), plan)
        interrupted = run_to_end(up.run(hosts), many)
    return many.reports, interrupted


def _warn_of_loopback(address: StoreAddress, hosts: Sequence[Host]) -> None:
    """Tunnels exist, so it is no error; without one no worker will join."""
    from ergates.drivers.placers.ssh_worker import is_loopback

    names = [name for name, _ in address.hosts]
    if all(is_loopback(name) for name in names) and not all(is_loopback(host.address) for host in hosts):
        click.echo(
            f"erg: {address} is this machine's own loopback address: other hosts reach the store there through a tunnel only",
            err=True,
        )
