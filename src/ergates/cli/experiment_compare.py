"""`erg experiment compare`: every value of an axis against the baseline, on the terminal and as comparison.json."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ergates.cli.experiment_options import finished_experiment, folder_option
from ergates.cli.options import examples
from ergates.cli.terminal import width_of

if TYPE_CHECKING:
    from ergates.experiment.spec import Experiment
    from ergates.experiment.table import Table


@click.command(
    epilog=examples(
        "erg experiment compare kv-tail.toml                    as [compare] says",
        "erg experiment compare kv-tail.toml --measure p99      one measure",
        "erg experiment compare kv-tail.toml --axis cap --baseline 120",
        "erg experiment compare kv-tail.toml --summary          every point by itself: mean, deviation, extremes",
        "erg experiment compare kv-tail.experiment --json       for programs",
    )
)
@finished_experiment
@folder_option
@click.option("--axis", default="", metavar="NAME", help="Compare the values of another axis.")
@click.option("--baseline", metavar="VALUE", help="Of that axis; the others are compared with it.")
@click.option("--measure", "measures", multiple=True, metavar="NAME", help="Only this one; may be said again.")
@click.option("--summary", is_flag=True, help="Compare nothing: mean, deviation, median and extremes of each point.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people.")
def command(
    file: Path,
    folder: Path | None,
    axis: str,
    baseline: str | None,
    measures: tuple[str, ...],
    summary: bool,
    as_json: bool,
) -> None:
    """Each value of an axis against the baseline: ratio, interval, significance.

    FILE is the experiment's file, or the folder of its runs. At every point of the other axes, and over all of them, the
    repetitions are compared; runs that failed are named and are in no figure. What is computed and how is in
    docs/measuring.md. The findings are written to comparison.json in the folder.
    """
    from ergates.cli.comparison_lines import comparison_lines, failed_lines, foot_lines
    from ergates.conductor.comparison_file import comparison_json, write_comparison
    from ergates.conductor.find_folder import find_folder
    from ergates.conductor.results import check_statistics, read_table
    from ergates.experiment.statistics.compare import compare
    from ergates.experiment.statistics.comparison_chosen import chosen_comparison

    check_statistics()
    found = find_folder(file, folder)
    table = read_table(found.folder.path, found.experiment)
    width = width_of(sys.stdout, 140)
    if summary:
        _summarise(table, found.experiment, measures, width, as_json=as_json)
        return
    chosen = chosen_comparison(found.experiment, table, axis, baseline, measures)
    findings = compare(table, found.experiment, chosen)
    path = write_comparison(found.folder.path, found.experiment, chosen, table, findings)
    if as_json:
        click.echo(comparison_json(found.experiment, chosen, table, findings), nl=False)
        return
    lines = comparison_lines(findings, width) or [f"nothing to compare: {chosen.axis} has one value only"]
    click.echo("\n".join(lines))
    for line in (*foot_lines(findings), *failed_lines(table, width), f"written: {path}"):
        click.echo(line, err=True)


def _summarise(table: Table, experiment: Experiment, measures: tuple[str, ...], width: int, *, as_json: bool) -> None:
    from ergates.cli.comparison_lines import failed_lines
    from ergates.cli.summary_lines import summary_lines
    from ergates.experiment.statistics.comparison_chosen import check_measures
    from ergates.experiment.statistics.summary import summaries_of

    check_measures(experiment, table, measures)
    summaries = summaries_of(table, experiment, measures)
    if as_json:
        from ergates.cli.json_output import print_json

        print_json(summaries)
        return
    click.echo("\n".join(summary_lines(summaries, width)))
    for line in failed_lines(table, width):
        click.echo(line, err=True)
