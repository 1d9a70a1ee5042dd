"""`erg store`: a private Redis or Valkey for many machines. Each verb is a file of its own, loaded when it is called."""

from __future__ import annotations

import click

from ergates.cli.lazy_group import VerbGroup
from ergates.cli.options import examples

VERBS = {
    "up": "Start a private, authenticated, persistent store, or say that it runs.",
    "down": "Stop it; nothing is lost.",
    "status": "Is it up, how full is it, what lives in it?",
    "backup": "Write a consistent copy of it to a file.",
}


@click.group(
    name="store",
    cls=VerbGroup,
    verbs=VERBS,
    epilog=examples(
        "erg store up                                      on this machine only",
        "erg store up --listen 10.0.0.5                    for others, too: with TLS",
        "export ERGATES_STORE=$PWD/.ergates/store.toml     what follows works on it",
        "erg store backup monday.rdb",
    ),
)
def command() -> None:
    """A private store for many machines: Redis or Valkey, with passwords, kept on disk.

    It lies in .ergates/store. How to get in stands in .ergates/store.toml; commands use it when --store or ERGATES_STORE
    names that file, never by themselves: in the same directory `erg run` goes on working alone.
    """
