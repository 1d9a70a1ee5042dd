"""`erg store backup`: a consistent copy of the private store, while it goes on."""

from __future__ import annotations

from pathlib import Path

import click

from ergates.cli.options import examples, local_options
from ergates.cli.private_store import private_store
from ergates.errors import StoreUnavailableError
from ergates.units import format_bytes


@click.command(
    epilog=examples(
        "erg store backup monday.rdb",
        "erg store up --state /elsewhere --from monday.rdb     a store that begins with it",
    )
)
@click.argument("file", type=click.Path(dir_okay=False))
@local_options
def command(file: str, state_dir: str | None, as_json: bool) -> None:
    """Write a copy of the private store to FILE: of one moment, checked, readable by you alone. Work goes on meanwhile.

    Tasks that were leased at that moment are leased in the copy; a store that begins with it gives them out again when
    their workers do not come back.
    """
    from ergates.drivers.stores.private_backup import back_up

    private = private_store(state_dir)
    with private.alone():
        record = private.running()
        if record is None:
            raise StoreUnavailableError("the store does not run\n  hint: erg store up, then the backup")
        size_bytes = back_up(private, record.program, Path(file))
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"file": str(Path(file).absolute()), "size_bytes": size_bytes})
    else:
        click.echo(f"{file}: {format_bytes(size_bytes)}, checked; restore it: erg store up --state NEW --from {file}")
