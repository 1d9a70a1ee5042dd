"""Options that the verbs of `erg node` share."""

from __future__ import annotations

from pathlib import Path

import click

from ergates.cli.options import applied
from ergates.cli.terminal import shows_unicode

PROFILE_NAMES = ("latency", "throughput", "energy")

root_option = click.option(
    "--root",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="ERGATES_NODE_ROOT",
    default="/",
    hidden=True,
    help="Work on a tree below this folder instead of the machine (for tests).",
)
state_option = click.option(
    "--state",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where old values are remembered.  [default: /var/lib/ergates/node, or the user's state folder when not root]",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people."
)
journal_options = applied((state_option, root_option, json_option))


def arrow() -> str:
    """As far as the terminal can show it."""
    import sys

    return "→" if shows_unicode(sys.stdout) else "->"
