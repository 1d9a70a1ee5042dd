"""`erg experiment plan`: what it shows, what it counts in a folder with runs, and that it leaves everything as it was."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ergates.cli.main import exit_code_of
from ergates.conductor.experiment_folder import ExperimentFolder
from ergates.experiment.plan import plan_runs
from ergates.experiment.reading.read_experiment import read_experiment
from ergates.experiment.records import Manifest

FILE = """
[experiment]
name = "tail"
description = "how long the tail is"
repetitions = 2
order = "listed"
time_limit = "90s"

[hosts]
lab = { kind = "namespaces", count = 3, rate = "100mbit" }

[roles]
server = "lab"
client = { hosts = "lab", count = 2 }

[programs.serve]
role = "server"
command = "./serve --policy {policy}"
background = true
ready = { port = 9000 }

[programs.load]
role = "client"
order = 1
command = "./load {server.address}:9000 --rate {load} > '{folder}/out.json'"

[sweep]
policy = ["fcfs", "darc"]
load = { from = 0.05, to = 0.60, step = 0.05 }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tail.toml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    got = exit_code_of(["experiment", "plan", *words])
    shown = capsys.readouterr()
    assert got == code, shown
    return shown.out if code == 0 else shown.err


def finish(here: Path, *numbers: int, ok: bool = True, seconds: float = 10.0) -> None:
    experiment = read_experiment("tail.toml")
    folder = ExperimentFolder(here / "tail.experiment")
    runs = folder.runs() if folder.begun else plan_runs(experiment)
    folder.write_plan(experiment, (here / "tail.toml").read_text(), runs)
    for number in numbers:
        folder.run_folder(runs[number - 1]).mkdir(parents=True, exist_ok=True)
        folder.finish(runs[number - 1], Manifest(experiment="tail", run=runs[number - 1], ok=ok, seconds=seconds))


def test_hosts_runs_points_and_the_commands_of_the_first_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = plan(capsys, "tail.toml")
    lines = shown.splitlines()
    assert lines[0] == "tail: how long the tail is"
    assert "  48 runs: 24 points (policy 2 x load 12) x 2 repetitions" in lines
    assert "  point by point; at most 1 min 30 s each; a run that fails is repeated at most 1 time" in lines
    assert "  into tail.experiment" in lines
    assert "lab    namespaces      3  1 server, 2 client  100 Mbit/s" in lines
    assert "    0  serve    server  port 9000, within 30 s  when the others ended" in lines
    assert "... and 4 points more; --all shows them" in lines
    seed = plan_runs(read_experiment("tail.toml"))[0].seed
    assert f"run 1: policy=fcfs load=0.05, repetition 1, seed {seed}" in lines
    assert f"    {here}/serve --policy fcfs &" in lines
    attempt = here / "tail.experiment/runs/0001-policy=fcfs-load=0.05-r1/attempt-1"
    for rank in (1, 2):
        assert (
            f"/bin/sh -c '{here}/load <server.address>:9000 --rate 0.05 > '\"'\"'{attempt}/{rank}-client/out.json"
            in shown
        )
    assert "estimate" not in shown


def test_it_starts_and_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan(capsys, "tail.toml", "--all")
    assert [path.name for path in here.iterdir()] == ["tail.toml"]


def test_all_points_and_a_chosen_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = plan(capsys, "tail.toml", "--all", "--run", "48")
    assert "... and" not in shown
    assert sum(line.startswith(("fcfs ", "darc ")) for line in shown.splitlines()) == 24
    assert "run 48: policy=darc load=0.6, repetition 2" in shown
    assert "no run 49\n  expected: one of the plan, 1 to 48" in plan(capsys, "tail.toml", "--run", "49", code=2)


def test_a_part_and_other_values(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = plan(capsys, "tail.toml", "--only", "policy=darc", "--set", "load=7,8", "--repetitions", "5")
    assert "  10 runs: 2 points (policy 1 x load 2) x 5 repetitions" in shown
    assert "darc    7        5" in shown
    message = plan(capsys, "tail.toml", "--only", "policy=drac", code=2)
    assert message == "erg: --only policy=drac: policy has no value drac\n  hint: did you mean darc?\n"


def test_finished_runs_are_counted_and_the_rest_is_estimated(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(here, 1, 2, 3)
    finish(here, 4, ok=False, seconds=900.0)
    shown = plan(capsys, "tail.toml")
    assert "  into tail.experiment: 4 finished, 1 of them failed" in shown
    # 44 runs of 10 s and half a second; the failed one says nothing of how long runs take
    assert "  estimate: 7 min 42 s for 44 runs, judged by 3 finished ones" in shown
    assert "fcfs    0.05     2         2" in shown
    assert "fcfs    0.15     2         0" in shown


def test_runs_have_the_numbers_of_the_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(here, 1)
    (here / "tail.toml").write_text(FILE.replace('["fcfs", "darc"]', '["new", "fcfs", "darc"]'))
    shown = json.loads(plan(capsys, "tail.toml", "--json", "--only", "policy=new,fcfs"))
    numbers = [run["number"] for run in shown["runs"]]
    assert sorted(numbers) == [*range(1, 25), *range(49, 73)], "the 24 of fcfs, and the new ones after all 48"
    assert shown["finished"] == {"1": True}


def test_a_folder_of_another_experiment_is_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(here, 1)
    (here / "tail.toml").write_text(FILE.replace("./serve", "./other"))
    shown = plan(capsys, "tail.toml")
    assert (
        "`erg experiment run` would refuse: tail.toml is not the experiment of which tail.experiment holds runs"
        in shown
    )
    assert "finished" not in shown
    assert "would refuse" not in plan(capsys, "tail.toml", "--folder", "elsewhere")


def test_json_says_the_same(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown: dict[str, Any] = json.loads(plan(capsys, "tail.toml", "--json"))
    runs = plan_runs(read_experiment("tail.toml"))
    assert [run["seed"] for run in shown["runs"]] == [run.seed for run in runs]
    assert shown["folders"][0] == "0001-policy=fcfs-load=0.05-r1"
    assert shown["experiment"]["name"] == "tail"
    assert shown["estimate"] is None
    assert [each["program"] for each in shown["commands"]] == ["serve", "load", "load"]


def test_all_mistakes_on_standard_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "tail.toml").write_text(FILE.replace("repetitions", "repetition").replace("{load}", "{lod}"))
    message = plan(capsys, "tail.toml", code=2)
    assert message.startswith(
        "erg: tail.toml:5: [experiment] has no key 'repetition'\n  hint: did you mean repetitions?\n"
    )
    assert "tail.toml:25: [programs.load] command: nothing is bound to {lod}\n  hint: did you mean {load}?" in message
    assert "no-such.toml: cannot be read" in plan(capsys, "no-such.toml", code=2)


def test_nothing_heavy_is_loaded(here: Path) -> None:
    code = (
        "import sys; from ergates.cli.main import exit_code_of; code = exit_code_of(['experiment', 'plan', 'tail.toml']);"
        "print(*sys.modules, file=sys.stderr); sys.exit(code)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(shown.stderr.split())
    assert loaded.isdisjoint({"numpy", "scipy", "pyarrow", "matplotlib", "redis", "sqlite3", "asyncio", "subprocess"})
