"""A finished experiment in Python, for notebooks and scripts: its table, its comparison, its figures, the folder of every run.

import ergates
kv = ergates.open_experiment("kv-tail.experiment")
kv.table[0]["p99"], kv.columns["p99"].mean(), kv.compare()[0].words
kv.plot("tail")
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ergates.conductor.find_folder import find_folder
from ergates.conductor.results import check_statistics, read_table
from ergates.errors import UsageError
from ergates.experiment.figures import drawing_of, figures_of
from ergates.experiment.measure import Cell
from ergates.experiment.records import Manifest
from ergates.experiment.spec import Experiment, Figure, Value
from ergates.experiment.statistics.compare import compare
from ergates.experiment.statistics.comparison_chosen import chosen_comparison
from ergates.experiment.statistics.findings import Finding
from ergates.experiment.table import Table

if TYPE_CHECKING:
    import numpy
    from matplotlib.figure import Figure as Drawn


class FinishedRun(Struct, frozen=True, kw_only=True):
    """One run: `folder` holds its files, `manifest` says how it was made, `row` is its line of the table."""

    folder: Path
    manifest: Manifest
    row: dict[str, Cell]


class FinishedExperiment:
    """What `ergates.open_experiment` returns. Files are read when they are first asked for, and then kept."""

    def __init__(self, path: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> None:
        """See open_experiment."""
        found = find_folder(Path(path), None if folder is None else Path(folder))
        self._folder = found.folder
        self.folder: Path = found.folder.path
        self.experiment: Experiment = found.experiment

    def __repr__(self) -> str:
        return f"<experiment {self.experiment.name}: {len(self.table)} finished runs in {self._folder}>"

    @cached_property
    def typed_table(self) -> Table:
        """With the kind and unit of every column."""
        return read_table(self.folder, self.experiment)

    @property
    def table(self) -> list[dict[str, Cell]]:
        """A row for every finished run, failed ones (`ok` is False) included; their measures are None."""
        return [dict(row) for row in self.typed_table.rows]

    @property
    def columns(self) -> dict[str, numpy.ndarray[Any, Any]]:
        """Of the runs that count, as numpy arrays: numbers as float64 (nan where empty), everything else as objects."""
        import numpy

        rows = [row for row in self.typed_table.rows if row["ok"] is True]
        return {
            column.name: numpy.array([row[column.name] for row in rows], dtype=float)
            if column.kind in ("integer", "number")
            else numpy.array([row[column.name] for row in rows] + [None], dtype=object)[:-1]
            for column in self.typed_table.columns
        }

    def to_pandas(self) -> Any:
        """The table as a pandas DataFrame.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError:
            raise UsageError("pandas is not installed\n  hint: pip install pandas, or use .table or .columns") from None
        return pandas.DataFrame(self.table, columns=[column.name for column in self.typed_table.columns])

    def compare(
        self, axis: str = "", baseline: Value | None = None, measures: Sequence[str] = ()
    ) -> tuple[Finding, ...]:
        """As `[compare]` says, or with another axis, baseline or other measures.

        Raises:
            UsageError: no such axis, value or measure; or the file has no [compare] and the axis is not clear.
        """
        check_statistics()
        chosen = chosen_comparison(self.experiment, self.typed_table, axis, baseline, measures)
        return compare(self.typed_table, self.experiment, chosen)

    @property
    def figures(self) -> dict[str, Figure]:
        """Those of `[plot]`, or, when there are none, one of each measure."""
        return {figure.name: figure for figure in figures_of(self.experiment, self.typed_table)}

    def plot(self, figure: str | Figure) -> Drawn:
        """A figure by its name, or one of your own (`ergates.experiment.spec.Figure`).

        Raises:
            UsageError: no figure of that name; matplotlib is not installed.
        """
        from ergates.conductor.draw_figure import draw

        if isinstance(figure, str):
            known = self.figures
            if figure not in known:
                raise UsageError(f"no figure {figure!r}; there are {', '.join(known) or 'none'}")
            figure = known[figure]
        return draw(drawing_of(figure, self.experiment, self.typed_table))

    def run(self, number: int) -> FinishedRun:
        """The run of that number.

        Raises:
            UsageError: there is none, or it is not finished.
        """
        for run in self._folder.runs():
            if run.number == number and self._folder.is_finished(run):
                row = next(row for row in self.typed_table.rows if row["run"] == number)
                return FinishedRun(
                    folder=self._folder.run_folder(run), manifest=self._folder.manifest(run), row=dict(row)
                )
        raise UsageError(f"no finished run {number} in {self._folder}")


def open_experiment(path: str | os.PathLike[str], folder: str | os.PathLike[str] | None = None) -> FinishedExperiment:
    """A finished experiment, or what is finished of one that still runs.

    Args:
        path: its file, or the folder of its runs.
        folder: of the runs of the file, when not beside it.

    Raises:
        UsageError: nothing was run there.
        InputError: the file cannot be read.
    """
    return FinishedExperiment(path, folder)
