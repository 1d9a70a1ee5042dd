"""How an experiment stands: estimates, and what is read of a folder that nobody works on."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ergates.cli.experiment_display import standing_line
from ergates.conductor.experiment_folder import STANDING, ExperimentFolder, folder_of, set_aside
from ergates.conductor.find_folder import named_folder
from ergates.conductor.standing import FailedRun, Standing, estimated_left_ns
from ergates.conductor.standing_of import standing_of
from ergates.errors import UsageError
from ergates.experiment.plan import plan_runs
from ergates.experiment.reading.read_experiment import parse_experiment
from ergates.experiment.records import Manifest
from ergates.units import SECOND_NS

FILE = '[experiment]\nname = "x"\norder = "listed"\n[programs.p]\ncommand = "echo {a}"\n[sweep]\na = [1, 2, 3]\n'


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    (tmp_path / "x.toml").write_text(FILE)
    experiment = parse_experiment(FILE, "x.toml", tmp_path)
    found = ExperimentFolder(folder_of(tmp_path / "x.toml"))
    found.write_plan(experiment, FILE, plan_runs(experiment))
    return found


def finish(folder: ExperimentFolder, number: int, *, problem: str = "") -> None:
    run = folder.runs()[number - 1]
    folder.run_folder(run).mkdir(parents=True)
    folder.finish(run, Manifest(experiment="x", run=run, ok=not problem, problem=problem))


def test_an_estimate_needs_runs_to_be_based_on() -> None:
    assert estimated_left_ns(1, 10, 5) is None
    assert estimated_left_ns(2, 10, 5) == 25
    assert estimated_left_ns(0, 10, 0) == 0


def test_one_line_says_it_all() -> None:
    failed = FailedRun(number=4, name="a=1 #2", problem="exit code 1")
    standing = Standing(
        name="x",
        total=60,
        finished=11,
        failed=(failed,),
        running=("a=2 #1", "a=3 #1"),
        elapsed_ns=65 * SECOND_NS,
        left_ns=240 * SECOND_NS,
    )
    assert (standing.ended, standing.waiting) == (12, 46)
    assert standing_line(standing) == (
        "12 of 60 runs (20 %), 1 failed, 1 min 05 s, about 4 min left (estimate), running a=2 #1 and 1 more"
    )


def test_manifests_count_when_whoever_conducted_was_killed(folder: ExperimentFolder) -> None:
    assert standing_of(folder).finished == 0
    finish(folder, 1)
    said = Standing(name="x", total=3, finished=1, running=("a=2 #1",), left_ns=5)
    (folder.path / STANDING).write_bytes(msgspec.json.encode(said))
    finish(folder, 2, problem="p of main on here: exit code 1")
    standing = standing_of(folder)
    assert (standing.finished, standing.running, standing.left_ns) == (1, (), None)
    assert [(failed.number, failed.name) for failed in standing.failed] == [(2, "a=2 #1")]


def test_while_somebody_conducts_what_it_says_counts(folder: ExperimentFolder) -> None:
    said = Standing(name="x", total=3, finished=1, running=("a=2 #1",), left_ns=5)
    (folder.path / STANDING).write_bytes(msgspec.json.encode(said))
    with folder.alone():
        assert folder.conductor() is not None and standing_of(folder) == said
        with pytest.raises(UsageError, match="another process makes its runs now"), folder.alone():
            pass
    assert folder.conductor() is None and standing_of(folder).finished == 0


def test_a_file_and_its_folder_name_the_same_experiment(folder: ExperimentFolder, tmp_path: Path) -> None:
    assert named_folder(tmp_path / "x.toml").path == named_folder(folder.path).path == folder.path
    with pytest.raises(UsageError, match="no such file or folder"):
        named_folder(tmp_path / "y.toml")
    (tmp_path / "z.toml").touch()
    with pytest.raises(UsageError, match="no runs were planned"):
        named_folder(tmp_path / "z.toml")


def test_an_old_folder_is_kept_under_a_name_that_is_free(folder: ExperimentFolder, tmp_path: Path) -> None:
    (tmp_path / "x.1.experiment").mkdir()
    assert set_aside(folder.path) == tmp_path / "x.2.experiment"
    assert not folder.path.exists() and (tmp_path / "x.2.experiment" / "plan.jsonl").exists()
