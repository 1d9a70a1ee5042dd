"""`erg experiment`: an experiment from its file to its figures. Each verb is a file of its own, loaded when it is called."""

from __future__ import annotations

import click

from ergates.cli.lazy_group import VerbGroup
from ergates.cli.options import examples

VERBS = {
    "plan": "Check a file; show its hosts, its runs and their command lines. Starts nothing.",
    "run": "Make all runs, or those that are missing.",
    "status": "How far is it, which runs failed, what runs now?",
    "resume": "Go on with an experiment that was interrupted.",
    "gather": "Compute the table of the finished runs again.",
    "compare": "Each value of an axis against the baseline: ratio, interval, significance.",
    "plot": "Draw the figures of the file.",
}


@click.group(
    name="experiment",
    cls=VerbGroup,
    verbs=VERBS,
    epilog=examples(
        "erg experiment plan cache.toml       what would run, and where",
        "erg experiment run cache.toml        into cache.experiment/",
        "erg experiment compare cache.toml    the values of an axis against its baseline",
    ),
)
def command() -> None:
    """An experiment: programs on hosts, parameters swept, every point repeated, and one table out.

    The file is described in docs/experiments.md. Runs go into a folder beside it, FILE.experiment; one that was interrupted
    goes on where it stopped.
    """
