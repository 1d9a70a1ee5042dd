"""What a run was made with: the commit, and whether there was anything that it does not hold."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from shutil import which

import pytest

from ergates.conductor.versions import versions_of
from ergates.experiment.reading.read_experiment import parse_experiment

pytestmark = pytest.mark.skipif(which("git") is None, reason="git is not installed")
TEXT = 'program = "sh {here}/it.sh"\n'


def _git(here: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    subprocess.run(["git", "-C", str(here), *who, *words], check=True, capture_output=True)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "it.sh").write_text("true\n")
    _git(tmp_path, "init")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "it")
    return tmp_path


def _changed(here: Path, folder: Path) -> str:
    return versions_of(parse_experiment(TEXT, "x.toml", here), TEXT.encode(), folder)["changed"]


def test_results_of_experiments_are_no_changes(here: Path) -> None:
    for name in ("x.experiment", "y.experiment", "out [1]"):
        (here / name).mkdir()
        (here / name / "plan.jsonl").write_text("{}")
    assert _changed(here, here / "out [1]") == "no"
    assert _changed(here, here / "x.experiment") == "yes", "the other folder is nobody's results"


def test_programs_that_no_commit_holds_are(here: Path) -> None:
    assert _changed(here, here / "x.experiment") == "no"
    (here / "it.sh").write_text("false\n")
    assert _changed(here, Path("/elsewhere")) == "yes"


def test_the_repository_is_only_looked_at(here: Path) -> None:
    index = here / ".git/index"
    os.utime(here / "it.sh", (1, 1))  # git would write down the new time
    before = index.read_bytes()
    assert _changed(here, here / "x.experiment") == "no"
    assert index.read_bytes() == before


def test_without_a_repository_there_is_no_commit(tmp_path: Path) -> None:
    found = versions_of(parse_experiment(TEXT, "x.toml", tmp_path), TEXT.encode(), tmp_path / "x.experiment")
    assert "commit" not in found and len(found["file_sha256"]) == 64
