"""A slot's scratch directory is empty for every attempt, whatever the one before did with it."""

from __future__ import annotations

from pathlib import Path

from ergates.drivers.launchers.scratch import SlotScratch, remove_tree


def test_the_same_directory_serves_again_and_is_empty(tmp_path: Path) -> None:
    scratch = SlotScratch(str(tmp_path / "slot-0.dir"))
    first = Path(scratch.ready())
    assert first.stat().st_mode & 0o777 == 0o700
    (first / "deep" / "deeper").mkdir(parents=True)
    (first / "deep" / "file").write_text("left")
    (first / "link").symlink_to(tmp_path)
    (first / "closed").mkdir(mode=0)
    scratch.clear()
    assert list(first.iterdir()) == []
    assert Path(scratch.ready()) == first
    assert tmp_path.exists(), "what a link points to stays"


def test_a_task_may_do_what_it_likes_with_it(tmp_path: Path) -> None:
    scratch = SlotScratch(str(tmp_path / "slot-0.dir"))
    Path(scratch.ready()).rmdir()
    scratch.clear()
    replaced = Path(scratch.ready())
    replaced.rmdir()
    replaced.write_text("a file")
    scratch.clear()
    assert list(Path(scratch.ready()).iterdir()) == []


def test_what_a_former_life_of_the_slot_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / "slot-0.dir"
    left.mkdir()
    (left / "file").write_text("left")
    assert list(Path(SlotScratch(str(left)).ready()).iterdir()) == []


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    SlotScratch(str(tmp_path / "slot-0.dir")).clear()
    assert list(tmp_path.iterdir()) == []


def test_removing_what_is_not_there_is_no_failure(tmp_path: Path) -> None:
    assert remove_tree(str(tmp_path / "nothing"))
    (tmp_path / "file").write_text("x")
    assert remove_tree(str(tmp_path / "file"))
    assert list(tmp_path.iterdir()) == []
