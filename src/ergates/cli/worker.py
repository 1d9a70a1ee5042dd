"""`erg worker`: the workers of a cluster. Each verb is a file of its own, loaded when it is called."""

from __future__ import annotations

import click

from ergates.cli.lazy_group import VerbGroup
from ergates.cli.options import examples

VERBS = {
    "start": "Run tasks of a cluster's store on this machine.",
    "list": "Who works, where, on what, and how each stands.",
    "set": "Change limits and labels of workers that run.",
    "drain": "Let workers end what runs and start nothing new.",
    "up": "Start workers on other hosts over ssh.",
    "down": "Drain workers that `up` started, and see that nothing is left.",
    "slurm": "Workers in allocations of Slurm: ask for them, list them, end them.",
}


@click.group(
    name="worker",
    cls=VerbGroup,
    verbs=VERBS,
    epilog=examples(
        "erg worker start --store store.toml    work here until told to stop",
        "erg worker list                        all workers of the store",
        "erg worker drain --host node7          let one host end its work",
    ),
)
def command() -> None:
    """Workers of a cluster: start one here, see them all, change their limits, let them end."""
