"""`erg experiment plot`: the figures of the file, or, when it names none, one of each measure."""

from __future__ import annotations

from pathlib import Path

import click

from ergates.cli.experiment_options import finished_experiment, folder_option
from ergates.cli.options import examples


@click.command(
    epilog=examples(
        "erg experiment plot kv-tail.toml                       all figures, as PNG and SVG",
        "erg experiment plot kv-tail.toml --figure tail         one of them",
        "erg experiment plot kv-tail.toml --to paper/figures --format pdf",
    )
)
@finished_experiment
@folder_option
@click.option("--figure", "names", multiple=True, metavar="NAME", help="Only this one; may be said again.")
@click.option(
    "--to", type=click.Path(path_type=Path), metavar="DIR", help="Where they go.  [default: figures/ in the folder]"
)
@click.option(
    "--format",
    "formats",
    type=click.Choice(("png", "svg", "pdf")),
    multiple=True,
    default=("png", "svg"),
    show_default="png and svg",
    help="May be said again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs instead of text for people.")
def command(
    file: Path,
    folder: Path | None,
    names: tuple[str, ...],
    to: Path | None,
    formats: tuple[str, ...],
    as_json: bool,
) -> None:
    """Draw the figures of the file.

    FILE is the experiment's file, or the folder of its runs. Without [plot] every measure is drawn over the numeric axis with
    most values, a line for each value of the next axis. A figure says what its points and whiskers are, and how many runs it
    leaves out.
    """
    from ergates.cli.json_output import print_json
    from ergates.conductor.draw_figure import check_matplotlib
    from ergates.conductor.figure_files import write_figures
    from ergates.conductor.find_folder import find_folder
    from ergates.conductor.results import check_statistics, read_table

    check_matplotlib()
    check_statistics()
    found = find_folder(file, folder)
    table = read_table(found.folder.path, found.experiment)
    written = write_figures(to or found.folder.path / "figures", found.experiment, table, names, formats)
    if as_json:
        print_json([str(path) for path in written])
    else:
        for path in written:
            click.echo(path)
