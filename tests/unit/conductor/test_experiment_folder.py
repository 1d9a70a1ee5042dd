"""The folder of an experiment: whose turn it is."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

import pytest

from ergates.conductor.experiment_folder import LOCK, ExperimentFolder
from ergates.errors import UsageError


def test_one_process_at_a_time_and_others_know_which(tmp_path: Path) -> None:
    folder = ExperimentFolder(tmp_path / "x.experiment")
    assert folder.conductor() is None
    with folder.alone():
        assert folder.conductor() == os.getpid()
        with (
            pytest.raises(UsageError, match=rf"another process makes its runs now \(pid {os.getpid()}\)"),
            folder.alone(),
        ):
            pass
    assert folder.conductor() is None


def test_who_only_asks_for_a_moment_refuses_nobody(tmp_path: Path) -> None:
    folder = ExperimentFolder(tmp_path)
    fd = os.open(tmp_path / LOCK, os.O_RDONLY | os.O_CREAT, 0o600)
    fcntl.flock(fd, fcntl.LOCK_SH)
    asked = threading.Timer(0.05, os.close, [fd])
    asked.start()
    with folder.alone():
        assert folder.conductor() == os.getpid()
    asked.join()
