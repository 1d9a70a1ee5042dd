"""Removing what tasks of forgotten jobs printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from ergates.drivers.output.forget import remove_set_aside, set_aside
from ergates.errors import ErgatesError


def folder_of(state: Path, job: str) -> Path:
    folder = state / "jobs" / job / "output"
    folder.mkdir(parents=True)
    (folder / "pack").write_text("printed")
    return folder.parent


def test_a_folder_vanishes_at_once_and_for_good(tmp_path: Path) -> None:
    gone, kept = folder_of(tmp_path, "j1"), folder_of(tmp_path, "j12")
    set_aside(tmp_path, "j1")
    assert not gone.exists()
    remove_set_aside(tmp_path)
    assert [entry.name for entry in (tmp_path / "jobs").iterdir()] == ["j12"]
    assert (kept / "output/pack").read_text() == "printed"


def test_what_a_killed_call_set_aside_goes_with_the_next(tmp_path: Path) -> None:
    folder_of(tmp_path, "j1")
    set_aside(tmp_path, "j1")
    set_aside(tmp_path, "j1")  # a job that never printed anything, or was set aside before
    remove_set_aside(tmp_path)
    remove_set_aside(tmp_path)
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_refusal_names_the_folder(tmp_path: Path) -> None:
    folder_of(tmp_path, "j1")
    (tmp_path / "jobs/.forgotten-j1").mkdir()
    (tmp_path / "jobs/.forgotten-j1/left").write_text("by a call that was killed")
    with pytest.raises(ErgatesError, match=r"(?s)jobs/j1: .*not forgotten"):
        set_aside(tmp_path, "j1")
