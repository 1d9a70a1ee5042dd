"""From an experiment's folder to its table: the measures of every finished run are read from its files, and one table is written.

Nothing but finished runs is read, and nothing is remembered between two calls: who edits `[measure]` and calls again has a new
table of the old runs. A run whose measure cannot be read counts as failed, and the table says which file held what instead.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from ergates.conductor.experiment_folder import ExperimentFolder
from ergates.drivers.whole_file import write_whole
from ergates.errors import ErgatesError, InputError, UsageError
from ergates.experiment.bindings import filled_text, values_of
from ergates.experiment.layout import member_folder_name
from ergates.experiment.measure import Cell, Scalar, UnmeasuredError, combined, values_in, values_recorded
from ergates.experiment.records import Manifest, MemberRecord, ProgramRecord
from ergates.experiment.run import RoleSeats, RunOrder
from ergates.experiment.spec import Experiment, Measure
from ergates.experiment.table import Column, Measured, Table, csv_text, table_of

CSV_TABLE, PARQUET_TABLE = "table.csv", "table.parquet"
_INT64 = 2**63


def write_table(folder: Path, experiment: Experiment, say: Callable[[str], None] = lambda _: None) -> Path:
    """Read all finished runs and write `table.csv`, and `table.parquet` where pyarrow is installed; each whole or not at all.

    Args:
        folder: of the experiment.
        experiment: whose measures are read: as planned, or from a file that was edited since.
        say: is told of measures that could not be read.

    Raises:
        UsageError: no runs were planned there.
        OSError: no room, no right.
    """
    runs = list(measured_runs(ExperimentFolder(folder), experiment))
    unread = [each for each in runs if each.problem]
    if unread:
        say(
            f"{len(unread)} of {len(runs)} runs count as failed: a measure cannot be read"
            f"\n  run {unread[0].manifest.run.number}: {unread[0].problem}"
            "\n  hint: mend [measure] in the file, then: erg experiment gather"
        )
    return write_tables(folder, table_of(experiment, runs))


def read_table(folder: Path, experiment: Experiment) -> Table:
    """One row a finished run; nothing is written. Raises UsageError as `write_table`."""
    return table_of(experiment, measured_runs(ExperimentFolder(folder), experiment))


def write_tables(folder: Path, table: Table) -> Path:
    """The CSV file; beside it the Parquet file, or none: one that is older than the CSV file would lie."""
    path = folder / CSV_TABLE
    write_whole(path, csv_text(table).encode())
    parquet = folder / PARQUET_TABLE
    if (data := parquet_bytes(table)) is None:
        parquet.unlink(missing_ok=True)
    else:
        write_whole(parquet, data)
    return path


def parquet_note() -> str:
    """What to say when there is no Parquet file; empty when there is one."""
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        return "no table.parquet: pyarrow is not installed\n  hint: pip install 'ergates[experiment]'"
    return ""


def check_statistics() -> None:
    """Say what to install before anything is computed.

    Raises:
        UsageError: numpy or scipy is not installed.
    """
    from importlib.util import find_spec

    missing = [name for name in ("numpy", "scipy") if find_spec(name) is None]
    if missing:
        raise UsageError(f"{' and '.join(missing)}: not installed here\n  hint: pip install 'ergates[experiment]'")


def measured_runs(folder: ExperimentFolder, experiment: Experiment) -> Iterator[Measured]:
    """Every finished run with what was read of it, in the order of the plan."""
    for run in folder.runs():
        if folder.is_finished(run):
            found = _measured(folder.run_folder(run), folder.manifest(run), experiment)
            yield replace(found, manifest=_without_facts(found.manifest))


def _without_facts(manifest: Manifest) -> Manifest:
    """Tables of many thousand runs are made at once, and need to know where they ran only."""
    return replace(manifest, members=tuple(replace(each, facts={}, programs=()) for each in manifest.members))


def _measured(run_folder: Path, manifest: Manifest, experiment: Experiment) -> Measured:
    if not manifest.ok:
        return Measured(manifest=manifest)
    files = _RunFiles(run_folder, manifest, experiment)
    values: dict[str, Cell] = {}
    problems = []
    for measure in experiment.measures:
        try:
            values[measure.name] = combined(measure, files.values(measure))
        except UnmeasuredError as error:
            if not measure.optional:
                problems.append(f"{measure.name}: {error}")
    return Measured(manifest=manifest, values=values, problem="; ".join(problems))


class _RunFiles:
    """The files of one run; each is read once, however many measures it holds."""

    def __init__(self, run_folder: Path, manifest: Manifest, experiment: Experiment) -> None:
        self._folder, self._manifest, self._experiment = run_folder, manifest, experiment
        self._texts: dict[Path, str] = {}

    def values(self, measure: Measure) -> list[Scalar]:
        """Of all hosts, in the order of their ranks. Raises UnmeasuredError naming the file."""
        if measure.record is not None:
            return values_recorded(measure, self._manifest)
        values: list[Scalar] = []
        hosts = 0
        for member in self._manifest.members:
            for record in member.programs:
                if record.name == measure.program:
                    hosts += 1
                    values += self._of_file(measure, self._path(measure, member, record))
        if not hosts:
            raise UnmeasuredError(f"the program {measure.program!r} ran on no host")
        return values

    def _of_file(self, measure: Measure, path: Path) -> list[Scalar]:
        shown = path.relative_to(self._folder) if path.is_relative_to(self._folder) else path
        try:
            if path not in self._texts:
                self._texts[path] = _text(path)
            return values_in(measure, self._texts[path])
        except UnmeasuredError as error:
            raise UnmeasuredError(f"{shown}: {error}") from None
        except FileNotFoundError:
            raise UnmeasuredError(f"{shown}: no such file was kept; {_kept(path.parent)}") from None
        except OSError as error:
            raise UnmeasuredError(f"{shown}: cannot be read: {error.strerror or error}") from None

    def _path(self, measure: Measure, member: MemberRecord, record: ProgramRecord) -> Path:
        """A file elsewhere, gathered under its absolute name, lies under its last part in the program's folder."""
        seat = member.seat
        member_folder = self._folder / self._manifest.folder / member_folder_name(seat.rank, seat.role)
        values = values_of(
            self._order(),
            [each.seat for each in self._manifest.members],
            seat,
            here=self._experiment.here,
            folder=str(member_folder),
        )
        try:
            name = filled_text(measure.file, values, self._manifest.run.number)
        except InputError as error:
            raise UnmeasuredError(f"{measure.file}: {error.message}") from None
        below = Path(Path(name).name) if Path(name).is_absolute() else Path(name)
        return member_folder / record.folder / below

    def _order(self) -> RunOrder:
        """What the run's members were told, as far as names in a path need it."""
        roles = [member.seat.role for member in self._manifest.members]
        return RunOrder(
            experiment=self._experiment.name,
            run=self._manifest.run,
            roles=tuple(RoleSeats(role=role, group="", count=roles.count(role)) for role in dict.fromkeys(roles)),
            programs=(),
            fixed=self._experiment.fixed,
        )


def _text(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (EOFError, zlib.error):
            raise UnmeasuredError("the compressed file is cut off or damaged") from None
    return data.decode("utf-8", "replace")


def _kept(folder: Path) -> str:
    try:
        names = sorted(each.name for each in folder.iterdir())
    except OSError:
        return "its folder is not there either"
    return f"there are {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "its folder is empty"


def parquet_bytes(table: Table) -> bytes | None:
    """The table as a Parquet file; units are in the metadata of its columns. None without pyarrow."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError:
        return None
    arrays = {column.name: _array(pyarrow, table, column) for column in table.columns}
    fields = [
        pyarrow.field(column.name, arrays[column.name].type, metadata={"unit": column.unit} if column.unit else None)
        for column in table.columns
    ]
    out = io.BytesIO()
    try:
        parquet.write_table(pyarrow.table(list(arrays.values()), schema=pyarrow.schema(fields)), out)
    except pyarrow.ArrowException as error:
        raise ErgatesError(f"the table cannot be written as Parquet: {error}") from error
    return out.getvalue()


def _array(arrow: Any, table: Table, column: Column) -> Any:
    cells: list[Any] = [row[column.name] for row in table.rows]
    if column.kind == "list":
        numbers = all(type(each) in (int, float) for cell in cells if cell is not None for each in cell)
        inner, each_as = (arrow.float64(), float) if numbers else (arrow.string(), str)
        listed = [None if cell is None else [each_as(each) for each in cell] for cell in cells]
        return arrow.array(listed, type=arrow.list_(inner))
    if column.kind == "integer" and any(cell is not None and not -_INT64 <= cell < _INT64 for cell in cells):
        return arrow.array([None if cell is None else str(cell) for cell in cells], type=arrow.string())
    kinds = {
        "integer": arrow.int64(),
        "number": arrow.float64(),
        "text": arrow.string(),
        "truth": arrow.bool_(),
    }
    return arrow.array(cells, type=kinds[column.kind])
