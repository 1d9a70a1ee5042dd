"""`erg worker set`: change limits and labels of workers while they run."""

from __future__ import annotations

from typing import Any

import click

from ergates.cli.opened_cluster import opened_cluster
from ergates.cli.options import BYTES, CPUS, cluster_options, examples
from ergates.cli.workers_chosen import choose_workers
from ergates.errors import UsageError


def _label(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """`rack=b2`; `rack=` takes the label away."""
    labels = {}
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"expected NAME=VALUE, or NAME= to take it away; got {text!r}", ctx, param)
        labels[name] = value
    return labels


@click.command(
    name="set",
    epilog=examples(
        "erg worker set 3f2a --cpus 4 --memory 8GiB",
        "erg worker set --host node7 --label rack=b2",
        "erg worker set --all --jobs 16",
    ),
)
@click.argument("words", nargs=-1, metavar="[WORKER...]")
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="All workers of this host.")
@click.option("--all", "everybody", is_flag=True, help="All workers of the store.")
@click.option("--cpus", type=CPUS, metavar="CORES", help="Cores for all tasks together.")
@click.option("--memory", type=BYTES, metavar="SIZE", help="Memory for all tasks together.")
@click.option("-j", "--jobs", type=click.IntRange(1), metavar="N", help="N tasks at once.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", callback=_label,
              help="A label of the machine; an empty value takes it away.")  # fmt: skip
@cluster_options
def command(words: tuple[str, ...], hosts: tuple[str, ...], everybody: bool, as_json: bool, **options: Any) -> None:
    """Change what workers may use of their machines, and their labels. WORKER is an id, or its beginning.

    More takes effect at once. Fewer cores or tasks at once take effect as tasks end; with less memory the newest tasks go
    back to the queue. A limit that was set here wins over the worker's own options.
    """
    from ergates.cluster.node import WorkerOrders

    orders = WorkerOrders(
        cpus_milli=options["cpus"], memory_bytes=options["memory"], jobs=options["jobs"], labels=options["labels"]
    )
    if orders == WorkerOrders():
        raise UsageError("nothing to change\n  hint: --cpus, --memory, --jobs or --label")
    with opened_cluster() as store:
        chosen = choose_workers(store.workers(), words, hosts=hosts, everybody=everybody)
        told = {each.info.id: store.order(each.info.id, orders) for each in chosen}
    if as_json:
        from ergates.cli.json_output import print_json

        print_json(told)
    else:
        for each in chosen:
            click.echo(f"worker {each.info.id} on {each.info.host}: told")
        if not chosen:
            click.echo("no workers")
