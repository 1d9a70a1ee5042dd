"""From the folder of a finished experiment to its table: what is read from where, and what is said when it is not there."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
from finished_folder import Files, finished
from pyarrow import parquet

from ergates.conductor import results
from ergates.conductor.experiment_folder import ExperimentFolder
from ergates.conductor.find_folder import find_folder
from ergates.conductor.results import parquet_bytes, read_table, write_table
from ergates.errors import InputError, UsageError
from ergates.experiment.run import Run
from ergates.experiment.spec import Experiment

FILE = """
[experiment]
name = "kv"
repetitions = 2

[hosts.lab]
kind = "simulated"
count = 3

[roles]
server = { hosts = "lab", count = 1 }
client = { hosts = "lab", count = 2 }

[programs.server]
role = "server"
command = "serve"
background = true

[programs.client]
role = "client"
command = "load"

[fixed]
port = 7000

[sweep]
load = [0.5, 0.9]
"""
MEASURES = """
[measure]
p99 = { program = "client", json = "p99", combine = "max", unit = "us" }
tail = { program = "client", file = "latencies-{load}-{port}-{index}.csv", csv = "us", quantile = 0.5 }
served = { program = "server", regex = 'served (\\d+)' }
server_seconds = { program = "server", record = "seconds" }
whole = "seconds"
notes = { program = "server", file = "notes.json", json = "n", optional = true }
"""


def made(run: Run, program: str, rank: int) -> Files | None:
    if program == "server":
        return {"stdout": f"served {run.number}0\n"}
    load = dict(run.point)["load"]
    rows = "us\n" + "".join(f"{100 * rank + i}\n" for i in range(3))
    return {"stdout": json.dumps({"p99": 10 * rank}), f"latencies-{load}-7000-0.csv": rows}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kv.toml"
    path.write_text(FILE + MEASURES)
    return path


def read(file: Path) -> tuple[ExperimentFolder, Experiment]:
    found = find_folder(file)
    return found.folder, found.experiment


def test_every_sort_of_measure_from_all_hosts_of_a_role(file: Path) -> None:
    finished(file, made)
    folder, experiment = read(file)
    path = write_table(folder.path, experiment)
    with path.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) == 4
    for row in rows:
        assert row["p99"] == "20"  # the larger of both clients
        assert float(row["tail"]) == 151.0  # of the rows of both clients together
        assert row["served"] == f"{row['run']}0"
        assert (row["server_seconds"], row["whole"], row["notes"], row["ok"]) == ("1.0", "1.5", "", "true")
        assert row["hosts"] == "n0 n1 n2"
        assert (folder.path / row["folder"] / "manifest.json").exists()


def test_parquet_holds_the_same_with_types_and_units(file: Path) -> None:
    finished(file, made, skipped=lambda run: run.number == 2)
    folder, experiment = read(file)
    write_table(folder.path, experiment)
    table = parquet.read_table(folder.path / "table.parquet")
    assert table.column("run").to_pylist() == [1, 3, 4]
    assert [str(table.schema.field(name).type) for name in ("load", "ok", "p99", "commit")] == [
        *("double", "bool", "int64", "string")
    ]
    assert table.schema.field("p99").metadata == {b"unit": b"us"}
    assert table.to_pylist() == list(read_table(folder.path, experiment).rows)


def test_lists_and_huge_numbers_survive_parquet(file: Path) -> None:
    file.write_text(
        FILE + '[measure]\nall = { program = "client", json = "p99", combine = "list" }\n'
        'big = { program = "server", json = "n" }\n'
    )
    finished(
        file, lambda run, program, rank: {"stdout": f'{{"p99": {rank}.5, "n": {2**70 if run.number == 1 else 1}}}'}
    )
    folder, experiment = read(file)
    data = parquet_bytes(read_table(folder.path, experiment))
    assert data is not None
    write_table(folder.path, experiment)
    table = parquet.read_table(folder.path / "table.parquet")
    assert table.column("all").to_pylist() == [[1.5, 2.5]] * 4
    assert table.column("big").to_pylist()[0] == str(2**70)


def test_without_pyarrow_no_stale_parquet_is_left(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished(file, made)
    folder, experiment = read(file)
    write_table(folder.path, experiment)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    write_table(folder.path, experiment)
    assert (folder.path / "table.csv").exists()
    assert not (folder.path / "table.parquet").exists()


def test_a_failed_run_and_one_whose_measure_is_not_there_are_named(file: Path) -> None:
    def some_broken(run: Run, program: str, rank: int) -> Files | None:
        if program == "client" and run.number == 1:
            return None
        files = dict(made(run, program, rank) or {})
        if program == "client" and run.number == 2 and rank == 2:
            files["stdout"] = '{"p98": 1}'
        if program == "client" and run.number == 3:
            files = {"stdout": files["stdout"]}
        return files

    folder = finished(file, some_broken)
    rows = read_table(folder.path, read(file)[1]).rows
    assert [row["ok"] for row in rows] == [False, False, False, True]
    assert rows[0]["problem"] == "client of client on n2: exit code 1"
    assert rows[1]["problem"] == (
        "p99: attempt-1/2-client/client/stdout: the document has no 'p99': did you mean 'p98'?"
    )
    assert "latencies-" in str(rows[2]["problem"])
    assert "no such file was kept; there are stdout" in str(rows[2]["problem"])
    assert {row["served"] for row in rows[:3]} == {None}
    said: list[str] = []
    write_table(folder.path, read(file)[1], said.append)
    assert said[0].startswith(
        "2 of 4 runs count as failed: a measure cannot be read\n  run 2: p99: attempt-1/2-client/"
    )
    assert all(folder.manifest(run).ok == (run.number != 1) for run in folder.runs()), "manifests stay as they are"


def test_an_edited_measure_costs_no_run(file: Path) -> None:
    finished(file, made)
    file.write_text(FILE + '[measure]\nfirst = { program = "client", json = "p99", combine = "first" }\n')
    folder, experiment = read(file)
    table = read_table(folder.path, experiment)
    assert table.names("measure") == ("first",)
    assert {row["first"] for row in table.rows} == {10}
    by_folder = find_folder(folder.path)
    assert by_folder.experiment.measures == experiment.measures, "the folder is read by the file beside it"


def test_compressed_files_are_read(file: Path) -> None:
    file.write_text(FILE + '[measure]\nn = { program = "server", file = "out.json.gz", json = "n" }\n')
    whole = gzip.compress(b'{"n": 7}')
    finished(file, lambda run, program, rank: {"out.json.gz": whole if run.number > 1 else whole[:-4]})
    rows = read_table(*_both(file)).rows
    assert [row["n"] for row in rows] == [None, 7, 7, 7]
    assert "cut off" in str(rows[0]["problem"])


def _both(file: Path) -> tuple[Path, Experiment]:
    folder, experiment = read(file)
    return folder.path, experiment


def test_a_file_is_read_once_for_all_its_measures(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "".join(f'm{i} = {{ program = "server", regex = "served" }}\n' for i in range(5))
    file.write_text(FILE + "[measure]\n" + lines)
    finished(file, made)
    seen: list[Path] = []
    read_text = results._text

    def counting(path: Path) -> str:
        seen.append(path)
        return read_text(path)

    monkeypatch.setattr(results, "_text", counting)
    read_table(*_both(file))
    assert len(seen) == 4


def test_a_folder_that_was_moved_is_read_as_it_was_planned(file: Path, tmp_path: Path) -> None:
    folder = finished(file, made)
    elsewhere = tmp_path / "archive"
    folder.path.rename(elsewhere)
    found = find_folder(elsewhere)
    assert (found.experiment.name, len(found.experiment.measures)) == ("kv", 6)
    file.write_text(FILE + '[measure]\none = { program = "client", json = "p99" }\n')
    assert [measure.name for measure in find_folder(file, elsewhere).experiment.measures] == ["one"]


def test_what_is_no_experiment_is_said(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file or folder"):
        find_folder(tmp_path / "nothing.toml")
    with pytest.raises(UsageError, match="no runs were planned in "):
        find_folder(file)
    with pytest.raises(UsageError, match="no runs were planned in "):
        find_folder(tmp_path)
    finished(file, made)
    other = tmp_path / "other.toml"
    other.write_text(FILE.replace('"kv"', '"other"'))
    with pytest.raises(UsageError, match=r"kv.experiment holds runs of 'kv', .*other.toml is 'other'"):
        find_folder(other, tmp_path / "kv.experiment")
    file.write_text("[experiment")
    with pytest.raises(InputError, match=r"kv\.toml:1"):
        find_folder(file)
