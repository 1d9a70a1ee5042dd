"""`erg node check`: what this machine is like, beside what a profile would have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ergates.cli.node_options import PROFILE_NAMES, journal_options
from ergates.cli.options import examples
from ergates.cli.tables import Column, table_lines
from ergates.cli.wording import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ergates.drivers.nodes.check import Row

_MARKS = {"ok": "ok", "differs": "differs", "not there": "-", "told": ""}


@click.command(
    epilog=examples(
        "erg node check",
        "erg node check --profile energy",
        "erg node check --strict || echo not fit to measure on",
        "erg node check --json | jq '.settings[] | select(.judgement == \"differs\")'",
    )
)
@click.option(
    "--profile", type=click.Choice(PROFILE_NAMES), default="latency", show_default=True, help="What to compare with."
)
@click.option("--strict", is_flag=True, help="Exit code 1 when something differs.")
@click.option("--quiet", "-q", is_flag=True, help="Only what differs.")
@journal_options
def command(profile: str, strict: bool, quiet: bool, state: Path | None, root: Path, as_json: bool) -> int:
    """Show every setting that measurements depend on: what it is, what a profile wants, and why it matters.

    Reads only, needs no rights, and is safe anywhere. Exit code 0 unless --strict.
    """
    from ergates.drivers.nodes.check import check_node, remembered

    rows, kept = check_node(profile=profile, root=root), remembered(root=root, state=state)
    differing = [row for row in rows if row.judgement == "differs"]
    if as_json:
        from ergates.cli.json_output import print_json

        print_json({"profile": profile, "settings": rows, "remembered": kept, "differs": len(differing)})
    else:
        _print(differing if quiet else rows, profile)
        if kept:
            click.echo(f"\nprepared: {plural(kept, 'old value')} remembered; erg node restore puts them back")
        elif any(row.settable for row in differing):
            click.echo(f"\nerg node prepare --profile {profile} --dry-run shows what would be changed")
    return 1 if strict and differing else 0


def _print(rows: Sequence[Row], profile: str) -> None:
    columns = (Column(""), Column("setting"), Column("now", elastic=True), Column(f"{profile} wants"))
    click.echo("\n".join(table_lines(columns, [(_MARKS[row.judgement], row.name, row.now, row.wants) for row in rows])))
    notes = [row for row in rows if row.judgement in ("differs", "not there") or (row.reason and not row.settable)]
    if notes:
        click.echo()
    for row in notes:
        reason = f" ({row.reason})" if row.reason else ""
        click.echo(f"{row.name}: {row.why}{reason}")
