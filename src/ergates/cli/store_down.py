"""`erg store down`: stops the private store of this directory without losing anything."""

from __future__ import annotations

import click

from ergates.cli.options import examples, local_options
from ergates.cli.private_store import private_store
from ergates.cli.wording import plural
from ergates.errors import ErgatesError, UsageError


@click.command(epilog=examples("erg store down", "erg store down --force     although workers hold tasks"))
@click.option("--force", is_flag=True, help="Stop it although workers hold tasks, or although it does not answer.")
@local_options
def command(force: bool, state_dir: str | None, as_json: bool) -> None:
    """Stop the private store; everything is on the disk before it ends, and `erg store up` goes on with it.

    Refused while workers hold tasks: they would go on, but could not hand in what they did until the store is up again.
    """
    private = private_store(state_dir)
    with private.alone():
        record = private.running()
        if record is not None:
            if not force:
                _refuse_while_leased(private.admin())
            private.stop(record, force=force)
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"stopped": record is not None, "pid": None if record is None else record.pid})
    else:
        click.echo("store is down; erg store up starts it again" if record is not None else "store was not running")


def _refuse_while_leased(address: object) -> None:
    from ergates.drivers.stores.address import StoreAddress
    from ergates.drivers.stores.private_queues import server_facts

    assert isinstance(address, StoreAddress)
    try:
        facts = server_facts(address, all_queues=True)
    except ErgatesError as error:
        raise type(error)(f"{error}\n  hint: erg store down --force stops it all the same") from error
    held = [(queue.queue, queue.leased) for queue in facts.queues if queue.leased]
    if held:
        shown = ", ".join(f"{plural(number, 'task')} of queue {name}" for name, number in held)
        raise UsageError(
            f"workers hold {shown}\n  hint: let them end (erg worker drain), or erg store down --force: nothing is lost,"
            " workers wait until it is up again"
        )
