"""`erg experiment gather`: the table of the finished runs, computed again from their files."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ergates.cli.experiment_options import finished_experiment, folder_option
from ergates.cli.options import examples
from ergates.cli.terminal import width_of


@click.command(
    epilog=examples(
        "erg experiment gather kv-tail.toml          after editing its [measure]",
        "erg experiment gather kv-tail.experiment    of a folder",
        "erg experiment gather kv-tail.toml --json | jq '.rows[] | select(.ok | not)'",
    )
)
@finished_experiment
@folder_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people.")
def command(file: Path, folder: Path | None, as_json: bool) -> None:
    """Compute the table of the finished runs again.

    FILE is the experiment's file, or the folder of its runs. Every measure is read anew from the files of every finished run, so
    that a measure that was forgotten, or was wrong, costs no run: edit [measure] and gather. table.csv (and table.parquet, where
    pyarrow is installed) has one row a run; a run that failed, or whose measure cannot be read, is named there with ok=false.
    """
    from ergates.cli.comparison_lines import failed_lines
    from ergates.cli.json_output import print_json
    from ergates.cli.wording import count, plural
    from ergates.conductor.find_folder import find_folder
    from ergates.conductor.results import parquet_note, read_table, write_tables

    found = find_folder(file, folder)
    table = read_table(found.folder.path, found.experiment)
    path = write_tables(found.folder.path, table)
    if as_json:
        print_json({"experiment": found.experiment.name, "columns": table.columns, "rows": table.rows})
        return
    planned = len(found.folder.runs())
    click.echo(
        f"{path}: {plural(len(table.rows), 'run')} of {count(planned)} planned, {plural(len(table.columns), 'column')}"
    )
    for line in failed_lines(table, width_of(sys.stdout, 140)):
        click.echo(line)
    if note := parquet_note():
        click.echo(f"erg: {note}", err=True)
    if len(table.rows) < planned:
        click.echo(f"the other runs are not finished\n  hint: erg experiment resume {file}", err=True)
