"""`erg node restore`: undoes every `erg node prepare` since the last restore, and says what is not as it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ergates.cli.node_options import journal_options
from ergates.cli.options import examples
from ergates.cli.wording import plural

if TYPE_CHECKING:
    from ergates.drivers.nodes.restore import Restored


@click.command(
    epilog=examples(
        "sudo erg node restore",
        "sudo erg node restore --force     also what somebody else has changed since",
    )
)
@click.option(
    "--force",
    is_flag=True,
    help="Put back what others have changed since, too, and forget what is not there any more.",
)
@journal_options
def command(force: bool, state: Path | None, root: Path, as_json: bool) -> int:
    """Put back everything that `erg node prepare` changed, last change first, and read it back.

    A setting that somebody else changed since is named and left to them unless --force. After a reboot there is nothing
    to undo: none of these settings survives one. Exit code 1 while something is not as it was; it stays remembered.
    """
    from ergates.drivers.nodes.restore import not_back, restore_node

    restored = restore_node(root=root, state=state, force=force, tell=lambda line: click.echo(line, err=as_json))
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"things": restored.things, "void": restored.void, "left": restored.left, "ok": not restored.left})
    else:
        _print(restored, root)
        for thing in not_back(restored.things) if restored.left else ():
            said = f"says {thing.says!r}, was {thing.change.old.strip()!r}: " if thing.says else ""
            click.echo(f"not as it was: {thing.change.target}: {said}{thing.problem or 'not there now'}", err=True)
        if restored.left:
            click.echo("hint: mend the cause and restore again, or --force", err=True)
    return 1 if restored.left else 0


def _print(restored: Restored, root: Path) -> None:
    if restored.void:
        click.echo(
            f"booted since: {plural(restored.void, 'setting')} went back by that; nothing is remembered any more"
        )
    elif not restored.things:
        click.echo("nothing to undo: this machine is not prepared")
        if os.geteuid() != 0 and root == Path("/") and os.path.exists("/var/lib/ergates/node"):
            click.echo("hint: what root prepared, root restores: sudo erg node restore")
    elif not restored.left:
        click.echo("everything is as it was")
