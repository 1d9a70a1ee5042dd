"""One table out: a row for every finished run, failed ones by name; every column of one type. Pure: manifests in, rows out."""

from __future__ import annotations

import csv
import datetime
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from ergates.experiment.layout import run_folder_name, shown_value
from ergates.experiment.measure import Cell
from ergates.experiment.records import Manifest
from ergates.experiment.spec import Experiment

Kind = Literal["integer", "number", "text", "truth", "list"]

RUNS = "runs"
OWN_BEFORE: tuple[tuple[str, Kind], ...] = (
    ("run", "integer"),
    ("repetition", "integer"),
    ("seed", "integer"),
    ("ok", "truth"),
    ("problem", "text"),
    ("attempts", "integer"),
)
"""Columns of ours that no axis and no measure may be called."""
OWN_AFTER: tuple[tuple[str, Kind], ...] = (
    ("seconds", "number"),
    ("joules", "number"),
    ("joules_by", "text"),
    ("dollars", "number"),
    ("started", "text"),
    ("hosts", "text"),
    ("simulated", "truth"),
    ("commit", "text"),
    ("folder", "text"),
)
"""Further columns of ours; where an axis or a measure has such a name, theirs is shown instead."""


class Column(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`of`: whether it is an axis, a measure or one of ours."""

    name: str
    kind: Kind
    of: Literal["axis", "measure", "ours"]
    unit: str = ""


class Table(Struct, frozen=True, kw_only=True):
    """Rows in the order of the runs; every row has a cell for every column."""

    columns: tuple[Column, ...]
    rows: tuple[dict[str, Cell], ...]

    def names(self, of: str) -> tuple[str, ...]:
        """Of the columns of that sort."""
        return tuple(column.name for column in self.columns if column.of == of)


class Measured(Struct, frozen=True, kw_only=True):
    """A finished run and what was read of it.

    Args:
        values: of the measures; empty when the run failed.
        problem: why a measure could not be read, naming the file; then the run counts as failed.
    """

    manifest: Manifest
    values: dict[str, Cell] = {}
    problem: str = ""

    @property
    def ok(self) -> bool:
        """Whether its figures count."""
        return self.manifest.ok and not self.problem


def table_of(experiment: Experiment, runs: Iterable[Measured]) -> Table:
    """The file's axes and measures, then axes that only the runs know. A failed run's cells of measures are empty."""
    ordered = sorted(runs, key=lambda each: each.manifest.run.number)
    made_with = (name for each in ordered for name, _ in each.manifest.run.point)
    axes = list(dict.fromkeys([*(axis.name for axis in experiment.sweep), *made_with]))
    units = {measure.name: measure.unit for measure in experiment.measures}
    ours: dict[str, Kind] = {name: kind for name, kind in (*OWN_BEFORE, *OWN_AFTER) if name not in {*axes, *units}}
    names = ["run", *axes, *(name for name, _ in OWN_BEFORE[1:]), *units, *(name for name, _ in OWN_AFTER)]
    rows = [{**_ours(each), **dict(each.manifest.run.point), **_values(each, units)} for each in ordered]
    columns = tuple(
        Column(name=name, kind=ours[name], of="ours")
        if name in ours
        else Column(
            name=name,
            kind=kind_of(row.get(name) for row in rows),
            of="measure" if name in units else "axis",
            unit=units.get(name, ""),
        )
        for name in dict.fromkeys(names)
    )
    return Table(
        columns=columns,
        rows=tuple({column.name: as_kind(row.get(column.name), column.kind) for column in columns} for row in rows),
    )


def _ours(each: Measured) -> dict[str, Cell]:
    manifest = each.manifest
    return {
        "run": manifest.run.number,
        "repetition": manifest.run.repetition,
        "seed": manifest.run.seed,
        "ok": each.ok,
        "problem": manifest.problem if not manifest.ok else each.problem,
        "attempts": manifest.attempts,
        "seconds": manifest.seconds,
        "joules": manifest.joules,
        "joules_by": manifest.joules_by,
        "dollars": manifest.dollars,
        "started": _utc(manifest.started_ns),
        "hosts": " ".join(member.seat.host for member in manifest.members),
        "simulated": manifest.simulated,
        "commit": _commit(manifest.versions),
        "folder": f"{RUNS}/{run_folder_name(manifest.run)}",
    }


def _commit(versions: Mapping[str, str]) -> str:
    """With a `+` when there were changes that it does not hold."""
    commit = versions.get("commit", "")
    return f"{commit}+" if commit and versions.get("changed") == "yes" else commit


def _values(each: Measured, names: Iterable[str]) -> dict[str, Cell]:
    return {name: each.values.get(name) if each.ok else None for name in names}


def _utc(at_ns: int) -> Cell:
    """ISO 8601 with milliseconds; None when it never started."""
    if not at_ns:
        return None
    moment = datetime.datetime.fromtimestamp(at_ns // 10**6 / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def kind_of(cells: Iterable[Cell]) -> Kind:
    """The narrowest kind that holds all cells; numbers when there are none."""
    types = {type(cell) for cell in cells if cell is not None}
    if list in types:
        return "list"
    if types == {bool}:
        return "truth"
    if types == {int}:
        return "integer"
    return "number" if types <= {int, float} else "text"


def as_kind(cell: Cell, kind: Kind) -> Cell:
    """The cell as its column holds it."""
    if cell is None:
        return None
    if kind == "list":
        listed = cell if isinstance(cell, list) else [cell]
        return [_unicode(each) if isinstance(each, str) else each for each in listed]
    if isinstance(cell, list):
        return json.dumps(cell)
    if kind == "number":
        return float(cell)
    return _unicode(shown_value(cell)) if kind == "text" else cell


def _unicode(text: str) -> str:
    """Bytes that are no UTF-8, and halves of characters, as `\\udcff`: no file of a table could hold them."""
    return text.encode("utf-8", "backslashreplace").decode()


def csv_text(table: Table) -> str:
    """With a heading; empty cells are empty, true and false as TOML writes them, lists as JSON, ends of lines `\\n`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.name for column in table.columns])
    for row in table.rows:
        writer.writerow([_csv_cell(row[column.name]) for column in table.columns])
    return out.getvalue()


def _csv_cell(cell: Cell) -> str | int | float:
    if cell is None:
        return ""
    if isinstance(cell, list):
        return json.dumps(cell)
    if isinstance(cell, str):  # Python's csv does not quote a lone carriage return, and reads it as the end of a row
        return cell.replace("\r\n", "\n").replace("\r", "\n")
    return shown_value(cell) if isinstance(cell, bool) else cell


def ok_rows(table: Table) -> list[dict[str, Cell]]:
    """Those that count: no failed run is ever averaged in."""
    return [row for row in table.rows if row["ok"] is True]


def failed_rows(table: Table) -> list[dict[str, Cell]]:
    """Those that are named only."""
    return [row for row in table.rows if row["ok"] is not True]


def numbers_of(rows: Sequence[Mapping[str, Cell]], name: str) -> list[float]:
    """The cells of a column that are numbers; optional measures may be empty, texts and lists have no statistic."""
    return [
        float(cell) for row in rows if isinstance(cell := row.get(name), int | float) and not isinstance(cell, bool)
    ]
