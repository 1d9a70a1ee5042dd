"""Files are looked for without waiting for a file system that does not answer."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from ergates.agent.path_check import PathCheck


def test_it_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "here").touch()
    here, gone = str(tmp_path / "here"), str(tmp_path / "gone")
    assert PathCheck(patience_s=30.0).missing((here, gone)) == (gone,)


def test_what_does_not_answer_counts_as_missing_and_is_asked_once_at_a_time() -> None:
    answers = threading.Event()
    asked: list[tuple[str, ...]] = []

    def dead(paths: Iterable[str]) -> tuple[str, ...]:
        asked.append(tuple(paths))
        answers.wait(30.0)
        return ()

    check = PathCheck(dead, patience_s=0.01)
    assert check.missing(("/dead/a",)) == ("/dead/a",)
    assert check.missing(("/dead/b",)) == ("/dead/b",)
    assert asked == [("/dead/a",)]
    hanging = check._hanging
    assert hanging is not None
    answers.set()
    hanging.join(30.0)
    assert PathCheck(dead, patience_s=30.0).missing(("/dead/b",)) == ()
