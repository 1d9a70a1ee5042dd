"""`erg worker slurm`: workers in allocations of Slurm. Each verb is a file of its own, loaded when it is called."""

from __future__ import annotations

import click

from ergates.cli.lazy_group import VerbGroup
from ergates.cli.options import examples

VERBS = {
    "up": "Ask for so many workers, once.",
    "auto": "Keep asking for as many as the queue is worth, until interrupted.",
    "list": "Allocations of this queue, and the workers in them.",
    "down": "Take back what waits, drain what runs, end what is left.",
    "join": "Inside an allocation: become its worker (the batch script does this).",
}


@click.group(
    name="slurm",
    cls=VerbGroup,
    verbs=VERBS,
    epilog=examples(
        "erg worker slurm up --nodes 8 --time 1h --store store.toml -- --gres=gpu:1",
        "erg worker slurm auto --time 4h --workers-max 50 --partition batch",
        "erg worker slurm list",
        "erg worker slurm down",
    ),
)
def command() -> None:
    """Workers placed by Slurm: each allocation is one node with one worker, which drains before its walltime."""
