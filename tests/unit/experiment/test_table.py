"""One row a finished run: failed ones by name, every column of one type, the same in CSV."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from runs_made_up import experiment_of, measured, runs_of

from ergates.experiment.measure import Cell
from ergates.experiment.records import Manifest
from ergates.experiment.run import Run
from ergates.experiment.spec import Measure
from ergates.experiment.table import Measured, Table, csv_text, failed_rows, kind_of, ok_rows, table_of

EXPERIMENT = experiment_of({"policy": ["fcfs", "darc"], "load": [0.5, 1]}, 2)


def read_back(table: Table) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(table))))


def test_columns_are_typed_and_in_order() -> None:
    table = table_of(EXPERIMENT, runs_of(EXPERIMENT, lambda point, repetition: repetition))
    assert [column.name for column in table.columns] == [
        *("run", "policy", "load", "repetition", "seed", "ok", "problem", "attempts", "p99"),
        *("seconds", "joules", "joules_by", "dollars", "started", "hosts", "simulated", "commit", "folder"),
    ]
    kinds = {column.name: column.kind for column in table.columns}
    assert (kinds["policy"], kinds["load"], kinds["p99"], kinds["ok"]) == ("text", "number", "integer", "truth")
    assert {type(row["load"]) for row in table.rows} == {float}
    assert table.names("axis") == ("policy", "load")
    assert table.names("measure") == ("p99",)


def test_a_failed_run_is_a_row_with_its_problem_and_without_figures() -> None:
    table = table_of(EXPERIMENT, runs_of(EXPERIMENT, lambda point, repetition: None if repetition == 2 else 1.5))
    assert len(table.rows) == 8
    assert len(ok_rows(table)) == 4
    for row in failed_rows(table):
        assert row["p99"] is None
        assert row["problem"] == "client on n1: exit code 1"
    assert {(row["ok"], row["p99"]) for row in read_back(table)} == {("true", "1.5"), ("false", "")}


def test_a_measure_that_could_not_be_read_fails_its_run_and_hides_its_other_figures() -> None:
    experiment = experiment_of({}, 1, [Measure(name="p99"), Measure(name="rate")])
    run = Run(number=1, point=(), repetition=1, seed=0)
    manifest = Manifest(experiment="made-up", run=run, ok=True)
    broken = Measured(
        manifest=manifest, values={"rate": 5}, problem="p99: attempt-1/0-client/load/stdout: no such file"
    )
    (row,) = table_of(experiment, [broken]).rows
    assert (row["ok"], row["rate"], row["problem"]) == (False, None, broken.problem)


def test_axes_that_only_the_runs_know_are_columns_too() -> None:
    old = measured(3, {"policy": "fcfs", "cap": 90}, 1, 2.0)
    table = table_of(EXPERIMENT, [old])
    assert table.names("axis") == ("policy", "load", "cap")
    assert (table.rows[0]["cap"], table.rows[0]["load"]) == (90, None)


def test_a_measure_takes_the_place_of_our_column_of_that_name() -> None:
    experiment = experiment_of({}, 1, [Measure(name="seconds", unit="s")])
    table = table_of(experiment, [measured(1, {}, 1, 42, "seconds")])
    assert [(column.of, column.unit) for column in table.columns if column.name == "seconds"] == [("measure", "s")]
    assert table.rows[0]["seconds"] == 42


def test_rows_come_in_the_order_of_the_runs() -> None:
    runs = runs_of(EXPERIMENT, lambda point, repetition: 1)
    assert [row["run"] for row in table_of(EXPERIMENT, reversed(runs)).rows] == list(range(1, 9))


def test_a_commit_with_changes_beside_it_shows_them() -> None:
    run = Run(number=1, point=(), repetition=1, seed=0)
    manifest = Manifest(
        experiment="x", run=run, ok=True, versions={"commit": "abc", "changed": "yes"}, started_ns=10**18
    )
    (row,) = table_of(experiment_of({}, 1), [Measured(manifest=manifest)]).rows
    assert (row["commit"], row["started"]) == ("abc+", "2001-09-09T01:46:40.000Z")


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([1, None, 2], "integer"),
        ([1, 2.5], "number"),
        ([None], "number"),
        ([True, False], "truth"),
        ([True, 1], "text"),
        (["a", 1], "text"),
        ([[1], 2], "list"),
    ],
)
def test_the_narrowest_kind_that_holds_all(cells: list[Cell], kind: str) -> None:
    assert kind_of(cells) == kind


CELLS: Any = st.one_of(
    st.none(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False), st.text(), st.booleans()
)


@given(st.lists(CELLS, min_size=1, max_size=6))
@example(["\r"])
@example(["a\r\nb", 'c"d', "=1,2"])
def test_every_cell_of_a_column_is_of_its_kind_and_comes_back_from_csv(cells: list[Cell]) -> None:
    experiment = experiment_of({}, 1)
    runs = [measured(number, {}, number, cell) for number, cell in enumerate(cells, 1)]
    table = table_of(experiment, runs)
    kind = next(column.kind for column in table.columns if column.name == "p99")
    types = {"integer": int, "number": float, "text": str, "truth": bool}
    assert {type(row["p99"]) for row in ok_rows(table)} <= {types[kind]}
    text = csv_text(table)
    assert sum(1 for _ in csv.reader(io.StringIO(text, newline=""))) == len(cells) + 1
    if kind in ("integer", "number"):
        read = [row["p99"] for row in read_back(table)]
        assert read == ["" if row["p99"] is None else str(row["p99"]) for row in table.rows]


def test_texts_that_are_no_unicode_are_shown_not_fatal() -> None:
    table = table_of(experiment_of({}, 1), [measured(1, {}, 1, "caf\udce9 \ud800")])
    assert csv_text(table).encode().count(b"\\udce9 \\ud800") == 1


def test_lists_are_json_in_csv() -> None:
    table = table_of(experiment_of({}, 1), [measured(1, {}, 1, [1, 2.5])])
    assert json.loads(read_back(table)[0]["p99"]) == [1, 2.5]
