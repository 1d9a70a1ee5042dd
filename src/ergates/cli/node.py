"""`erg node`: the settings of a machine that measurements depend on. Each verb is a file of its own, loaded when it is called."""

from __future__ import annotations

import click

from ergates.cli.lazy_group import VerbGroup
from ergates.cli.options import examples

VERBS = {
    "check": "What this machine is like, and what measurements would have; changes nothing.",
    "prepare": "Change settings, each shown before and remembered.",
    "restore": "Put everything back as it was.",
}


@click.group(
    name="node",
    cls=VerbGroup,
    verbs=VERBS,
    epilog=examples(
        "erg node check",
        "erg node prepare --profile latency --dry-run",
        "sudo erg node prepare --set governor=performance --set hugepages=512",
        "sudo erg node restore",
    ),
)
def command() -> None:
    """Make a machine fit to be measured on, and put it back.

    Governor and turbo, idle states, huge pages, cores kept free, interrupts, network cards, modules, watchdogs, services,
    swap. Nothing survives a reboot, and nothing is changed that is not remembered first.
    """
