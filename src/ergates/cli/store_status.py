"""`erg store status`: is the store up, how full is it, would a power cut cost anything, what lives in it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ergates.cli.opened import named_store
from ergates.cli.options import common_options, examples
from ergates.cli.private_store import private_store
from ergates.cli.tables import Column, table_lines
from ergates.cli.wording import coarse_duration, count
from ergates.errors import StoreError
from ergates.units import format_bytes

if TYPE_CHECKING:
    from ergates.drivers.stores.address import StoreAddress
    from ergates.drivers.stores.private_queues import ServerFacts


@click.command(
    epilog=examples(
        "erg store status                        the private one of this directory",
        "erg store status --store redis://db1    any other; only the queue that is named",
        "erg store status --json",
    )
)
@common_options
def command(state_dir: str | None, as_json: bool) -> int:
    """Is the store up, how full is it, what would be lost if it failed, and what lives in it? Exit code 1 when it is down."""
    from ergates.drivers.stores.private_queues import server_facts

    address, pid, trouble, facts = named_store(), None, "", None
    own = address is None
    if address is None:
        private = private_store(state_dir)
        record = private.running()
        address, pid = private.admin(), None if record is None else record.pid
        trouble = (
            "" if record is not None else f"it does not run; start it: erg store up\n  {private.last_words()}".rstrip()
        )
    if not trouble:
        try:
            facts = server_facts(address, all_queues=own)
        except StoreError as error:
            trouble = str(error)
    if as_json:
        from ergates.cli.json_output import plain, print_json

        print_json(
            {"up": facts is not None, "url": address.url, "pid": pid, "trouble": trouble, **(plain(facts) or {})}
        )
    elif facts is None:
        click.echo(f"store is down: {trouble}")
    else:
        click.echo("\n".join(_lines(address, pid, facts)))
    return 0 if facts is not None else 1


def _lines(address: StoreAddress, pid: int | None, facts: ServerFacts) -> list[str]:
    limit = f" of {format_bytes(facts.memory_bytes_max)}" if facts.memory_bytes_max else ""
    process = "" if pid is None else f", pid {pid}"
    lines = [
        f"store is up: {address} ({facts.version}{process}), for {coarse_duration(facts.up_s * 10**9)}",
        f"  memory {format_bytes(facts.memory_bytes)}{limit}, log {format_bytes(facts.log_bytes)},"
        f" {count(facts.clients)} clients",
        f"  {'durable' if facts.durable else 'NOT DURABLE'}: a failure loses {facts.loses}",
    ]
    if not facts.queues:
        return [*lines, "  no queue in it yet"]
    columns = (Column("  queue"), *(Column(name, "right") for name in ("jobs", "waiting", "leased", "workers")))
    rows = [
        (f"  {each.queue}", count(each.jobs), count(each.waiting), count(each.leased), count(each.workers))
        for each in facts.queues
    ]
    return lines + table_lines(columns, rows)
