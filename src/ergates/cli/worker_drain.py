"""`erg worker drain`: let workers end what runs and start nothing new."""

from __future__ import annotations

import time
from collections.abc import Collection

import click

from ergates.cli.opened_cluster import opened_cluster
from ergates.cli.options import DURATION, cluster_options, examples
from ergates.cli.terminal import tell
from ergates.cli.workers_chosen import PRESENT, choose_workers
from ergates.errors import StoreUnavailableError
from ergates.taskqueue.store import Roster

_LOOK_S = 0.5


@click.command(
    name="drain",
    epilog=examples(
        "erg worker drain 3f2a                  this one ends when what it runs has ended",
        "erg worker drain --host node7 --wait   wait until nothing runs there any more",
        "erg worker drain --all --give-back     at once: what runs goes back to the queue",
    ),
)
@click.argument("words", nargs=-1, metavar="[WORKER...]")
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="All workers of this host.")
@click.option("--all", "everybody", is_flag=True, help="All workers of the store.")
@click.option("--give-back", is_flag=True, help="Do not let what runs end: return it to the queue at once.")
@click.option("--wait", is_flag=True, help="Wait until they are gone.")
@click.option("--timeout", "timeout_ns", type=DURATION, metavar="TIME", help="Wait no longer than this (exit code 1).")
@cluster_options
def command(
    words: tuple[str, ...],
    hosts: tuple[str, ...],
    everybody: bool,
    give_back: bool,
    wait: bool,
    timeout_ns: int | None,
    as_json: bool,
) -> int:
    """Order workers to end. WORKER is an id, or its beginning. Ctrl-C stops the waiting, not the draining."""
    from ergates.cluster.node import WorkerOrders

    with opened_cluster() as store:
        chosen = choose_workers(store.workers(), words, hosts=hosts, everybody=everybody)
        ids = [each.info.id for each in chosen]
        for worker in ids:
            store.order(worker, WorkerOrders(drain=True, give_back=give_back))
        left: Collection[str] = ids
        if wait or timeout_ns is not None:
            left = wait_until_gone(store, ids, timeout_ns)
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"drained": ids, "left": sorted(left)})
    else:
        for each in chosen:
            state = "drains" if each.info.id in left else "gone"
            click.echo(f"worker {each.info.id} on {each.info.host}: {state}")
        if not chosen:
            click.echo("no workers")
    return 1 if timeout_ns is not None and left else 0


def wait_until_gone(store: Roster, ids: Collection[str], timeout_ns: int | None) -> set[str]:
    """Wait until these workers have left or were declared dead; returns those that are still there after the timeout."""
    until = None if timeout_ns is None else time.monotonic() + timeout_ns / 1e9
    said = False
    left = set(ids)
    while True:
        try:
            left &= {each.info.id for each in store.workers() if each.standing in PRESENT}
        except StoreUnavailableError as error:
            if not said:
                tell(f"erg: {error}\n  waiting for it")
            said = True
        if not left or (until is not None and time.monotonic() > until):
            return left
        time.sleep(_LOOK_S)
