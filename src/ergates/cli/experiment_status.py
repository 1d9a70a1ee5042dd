"""`erg experiment status`: how far an experiment is, which runs failed, what runs now."""

from __future__ import annotations

from pathlib import Path

import click

from ergates.cli.experiment_options import folder_option
from ergates.cli.options import examples


@click.command(epilog=examples("erg experiment status cache.toml", "erg experiment status cache.experiment --json"))
@click.argument("place", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@folder_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people.")
def command(place: Path, folder: Path | None, as_json: bool) -> int:
    """Show how the experiment in FOLDER (or that of FILE) stands; it may run, be interrupted or be finished.

    Exit code 0 when every run is finished, 1 when one failed for good or is still to be made.
    """
    from ergates.cli.experiment_display import standing_line
    from ergates.cli.experiment_making import shown_path
    from ergates.conductor.find_folder import named_folder
    from ergates.conductor.standing_of import standing_of
    from ergates.drivers.hosts.local_workers import Place, left_running

    found = named_folder(place, folder)
    standing, conductor = standing_of(found), found.conductor()
    left = 0 if conductor is not None else left_running(Place(folder=found.path, here=found.path))
    if as_json:
        from ergates.cli.json_output import plain, print_json

        shown = {**plain(standing), "waiting": standing.waiting, "folder": str(found.path), "conductor": conductor}
        print_json({**shown, "left_running": left})
    else:
        click.echo(f"{standing.name}: {standing_line(standing)}")
        for failed in standing.failed:
            click.echo(f"  failed: run {failed.number} ({failed.name}): {failed.problem}")
        click.echo(f"  {_state(standing.ended < standing.total, conductor)}; runs in {shown_path(found.path / 'runs')}")
        if left:
            click.echo(f"  processes of it that still run here: {left}; erg experiment resume ends them")
    return 0 if standing.finished == standing.total else 1


def _state(missing: bool, conductor: int | None) -> str:
    if conductor is not None:
        return f"being made by process {conductor}"
    return "interrupted; erg experiment resume goes on" if missing else "all runs are made"
