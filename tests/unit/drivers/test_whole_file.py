"""Files appear whole, with the rights that were asked for, and leave nothing beside them when they cannot be written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ergates.drivers.whole_file import PRIVATE, sync_tree, write_whole


def test_what_was_there_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    (tmp_path / f".table.csv.{os.getpid()}").write_text("of one that was killed and had our number")
    write_whole(path, b"old")
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_rights_are_there_before_the_content(tmp_path: Path) -> None:
    path = tmp_path / "store.toml"
    write_whole(path, b"password", mode=PRIVATE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_one_that_cannot_be_put_in_its_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "taken", b"x")
    assert os.listdir(tmp_path) == ["taken"]


def test_a_tree_with_all_that_programs_leave_is_put_on_the_disk(tmp_path: Path) -> None:
    folder = tmp_path / "run" / "attempt-1"
    folder.mkdir(parents=True)
    (folder / "out").write_text("x")
    (folder / "broken link").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    (folder / "locked").write_text("x")
    (folder / "locked").chmod(0)
    sync_tree(tmp_path)
