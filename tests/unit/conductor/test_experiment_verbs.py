"""`erg experiment gather`, `compare` and `plot`, and `ergates.open_experiment`, on a finished experiment."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy
import pytest
from click.testing import CliRunner, Result
from finished_folder import Files, finished

import ergates
from ergates.cli.main import cli, exit_code_of
from ergates.errors import UsageError
from ergates.experiment.run import Run

TEXT = """
[experiment]
name = "kv"
repetitions = 5

[programs.load]
command = "load --policy {policy}"

[sweep]
policy = ["fcfs", "darc"]
load = [0.5, 0.9]

[measure]
p99 = { json = "p99", unit = "us" }

[compare]
axis = "policy"
baseline = "fcfs"

[plot.tail]
x = "load"
y = "p99"
by = "policy"
"""


def made(run: Run, program: str, rank: int) -> Files | None:
    point = dict(run.point)
    if point == {"policy": "darc", "load": 0.9} and run.repetition == 3:
        return None
    value = (50 if point["policy"] == "darc" else 100) * random.Random(run.seed).uniform(0.98, 1.02)
    return {"stdout": json.dumps({"p99": value})}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "kv.toml"
    path.write_text(TEXT)
    finished(path, made)
    return path


def erg(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["experiment", *map(str, words)], catch_exceptions=False)


def test_compare_says_it_in_words_and_names_what_failed(file: Path) -> None:
    shown = erg("compare", file)
    lines = shown.stdout.splitlines()
    assert lines[0] == "p99 [us]: median of repetitions; 95 % intervals; lower is better"
    assert lines[1].split() == ["load", "policy", "n", "fcfs", "this", "against", "fcfs", "p"]
    assert "all 2  darc    9, 10" in lines[2]
    assert "x lower (" in lines[2]
    assert "< 0.001  better" in lines[2]
    assert "(1 failed)" in lines[4]
    assert "1 run of 20 failed and is in no figure:" in shown.stderr
    assert "load of main on n0: exit code 1" in shown.stderr
    document = json.loads((file.parent / "kv.experiment" / "comparison.json").read_text())
    assert [finding["verdict"] for finding in document["findings"]] == ["better", "better", "better"]
    assert document["findings"][1]["words"].startswith("p99: darc at load=0.5 is ")
    assert [each["problem"] for each in document["failed"]] == ["load of main on n0: exit code 1"]
    assert json.loads(erg("compare", file.parent / "kv.experiment", "--json").stdout) == document


def test_compare_of_another_axis(file: Path) -> None:
    document = json.loads(erg("compare", file, "--axis", "load", "--baseline", "0.9", "--json").stdout)
    assert (document["axis"], document["baseline"]) == ("load", 0.9)
    assert {finding["value"] for finding in document["findings"]} == {0.5}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compare", "{file}", "--axis", "laod"), "no axis 'laod'\n  hint: did you mean load?"),
        (("compare", "{file}", "--baseline", "lifo"), "policy has no value lifo"),
        (("compare", "{file}", "--measure", "p98"), "no measure 'p98'\n  hint: did you mean p99?"),
        (("plot", "{file}", "--figure", "tial"), "no figure 'tial'\n  hint: did you mean tail?"),
        (("gather", "nowhere.toml"), "nowhere.toml: no such file or folder"),
        (("gather", "{file}", "--folder", "/"), "no runs were planned in "),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_written(
    file: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of(["experiment", *(word.format(file=file) for word in words)]) == 2
    assert message in capsys.readouterr().err
    folder = file.parent / "kv.experiment"
    assert {path.name for path in folder.iterdir()} == {"experiment.toml", "experiment.json", "plan.jsonl", "runs"}


def test_gather_reads_an_edited_measure_from_old_runs(file: Path) -> None:
    assert "20 runs of 20 planned" in erg("gather", file).stdout
    file.write_text(TEXT.replace("[compare]", "cpu = 'cpu_seconds'\n[compare]"))
    document = json.loads(erg("gather", file, "--json").stdout)
    assert {row["cpu"] for row in document["rows"]} == {0.1, None}
    heading = (file.parent / "kv.experiment" / "table.csv").read_text().split("\n", 1)[0]
    assert ",p99,cpu," in heading


def test_gather_of_an_unfinished_experiment_says_so(tmp_path: Path) -> None:
    file = tmp_path / "kv.toml"
    file.write_text(TEXT)
    finished(file, made, skipped=lambda run: run.number > 5)
    shown = erg("gather", file)
    assert "5 runs of 20 planned" in shown.stdout
    assert "hint: erg experiment resume" in shown.stderr


def test_plot_draws_the_figures_of_the_file(file: Path, tmp_path: Path) -> None:
    assert erg("plot", file).stdout.split() == [
        str(tmp_path / "kv.experiment" / "figures" / name) for name in ("tail.png", "tail.svg")
    ]
    erg("plot", file, "--to", tmp_path / "paper", "--format", "pdf")
    assert [path.name for path in (tmp_path / "paper").iterdir()] == ["tail.pdf"]
    assert b"p99 [us]" not in (tmp_path / "kv.experiment" / "figures" / "tail.png").read_bytes()[:4]


def test_plot_without_figures_in_the_file_draws_every_measure(file: Path, tmp_path: Path) -> None:
    file.write_text(TEXT.split("[plot.tail]")[0])
    assert erg("plot", file, "--to", tmp_path / "out", "--format", "svg").stdout.split() == [
        str(tmp_path / "out" / "p99.svg")
    ]


def test_in_python_table_comparison_figures_and_runs(file: Path) -> None:
    kv = ergates.open_experiment(file)
    assert repr(kv).startswith("<experiment kv: 20 finished runs in ")
    assert sum(row["ok"] is True for row in kv.table) == 19
    assert kv.columns["p99"].dtype == numpy.float64
    assert len(kv.columns["p99"]) == len(kv.columns["policy"]) == 19, "runs that failed are left out"
    assert [finding.verdict for finding in kv.compare()] == ["better", "better", "better"]
    assert kv.compare("load", 0.9)[0].axis == "load"
    assert list(kv.figures) == ["tail"]
    assert kv.plot("tail").axes[0].get_xlabel() == "load"
    run = kv.run(7)
    assert (run.manifest.run.number, run.row["run"]) == (7, 7)
    assert (run.folder / "manifest.json").exists()
    with pytest.raises(UsageError, match="no finished run 99"):
        kv.run(99)
    with pytest.raises(UsageError, match="no figure 'head'; there are tail"):
        kv.plot("head")


def test_pandas_only_where_it_is(file: Path) -> None:
    kv = ergates.open_experiment(file)
    try:
        import pandas
    except ModuleNotFoundError:
        with pytest.raises(UsageError, match="pandas is not installed"):
            kv.to_pandas()
    else:
        assert isinstance(kv.to_pandas(), pandas.DataFrame)
