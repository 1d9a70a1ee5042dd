"""`erg experiment resume`: go on with an experiment that was interrupted, however that happened."""

from __future__ import annotations

from pathlib import Path

import click

from ergates.cli.experiment_options import folder_option
from ergates.cli.options import examples


@click.command(
    epilog=examples(
        "erg experiment resume cache.toml",
        "erg experiment resume cache.experiment                  by its folder",
        "erg experiment resume cache.experiment --retry-failed   what failed for good, too",
    )
)
@click.argument("place", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@folder_option
@click.option("--retry-failed", is_flag=True, help="Try again what failed for good.")
@click.option("--keep-hosts", is_flag=True, help="Take nothing down at the end: look at hosts, workers and store.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what goes wrong.")
def command(place: Path, folder: Path | None, retry_failed: bool, keep_hosts: bool, as_json: bool, quiet: bool) -> int:
    """Go on with the runs that were planned in FOLDER (or that of FILE) and have no manifest yet.

    The experiment is as it was when they were planned. What an earlier attempt left running is ended first, even when everything
    is finished. `erg experiment run FILE` does the same, and adds what is new in the file.
    """
    from ergates.cli.experiment_making import make
    from ergates.conductor.find_folder import named_folder
    from ergates.conductor.make_runs import Asked, kept_text

    found = named_folder(place, folder)
    experiment = found.experiment()
    if place.is_file() and place.read_text(errors="surrogateescape") != kept_text(found):
        again = f"erg experiment run {place}"
        click.echo(f"erg: {place} has changed since; what was planned is made, `{again}` adds what is new", err=True)
    return make(
        found,
        Asked(
            experiment=experiment,
            text=kept_text(found),
            plan=lambda past: past or found.runs(),
            wanted=lambda runs: [run.number for run in runs],
            retry_failed=retry_failed,
            keep_hosts=keep_hosts,
        ),
        as_json=as_json,
        quiet=quiet,
    )
