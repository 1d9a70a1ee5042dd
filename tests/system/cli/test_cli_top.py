"""`erg top` for real: one frame of a run that goes on, one record, a terminal, and what it says without textual."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
from pathlib import Path

from erg_process import ERG, TIMEOUT_S, Erg, clean_environment


def test_one_frame_and_one_record_of_a_run(erg: Erg, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    os.mkfifo(tmp_path / "go")
    running = erg.start("run", "echo > begun; cat go; echo {n}", "-p", "n=1", "--no-progress", "--name", "held")
    (tmp_path / "begun").read_text()
    text = erg("top", "--once").stdout
    record = json.loads(erg("top", "--json").stdout)
    (tmp_path / "go").write_text("")
    running.communicate(timeout=TIMEOUT_S)
    assert "j1   held  running" in text
    assert "1 worker live" in text
    assert "cat go; echo 1" in text
    assert record["jobs"][0]["running"] == 1
    assert record["tasks"][0]["task"] == "j1/1" and record["tasks"][0]["for_s"] >= 0
    assert record["workers"][0]["standing"] == "live"
    assert json.loads(erg("top", "--json", "--unfinished").stdout)["jobs"] == []


def test_the_screen_needs_a_terminal_and_textual(erg: Erg, tmp_path: Path) -> None:
    erg("submit", "true")
    ended = erg("top")
    assert ended.returncode == 2 and "--once" in ended.stderr
    (tmp_path / "textual").mkdir()
    (tmp_path / "textual" / "__init__.py").write_text("raise ModuleNotFoundError('no textual', name='textual')\n")
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [*ERG, "top"],
        cwd=tmp_path,
        stdin=secondary,
        stdout=secondary,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(tmp_path, PYTHONPATH=str(tmp_path)),
    )
    os.close(secondary)
    _, said = process.communicate(timeout=TIMEOUT_S)
    os.close(primary)
    assert process.returncode == 2
    assert "pip install 'ergates[cluster]'" in said


def test_on_a_terminal_it_draws_and_ends_with_q(erg: Erg, tmp_path: Path) -> None:
    erg("submit", "true", "--name", "shown-here")
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        [*ERG, "top"],
        cwd=tmp_path,
        stdin=secondary,
        stdout=secondary,
        stderr=secondary,
        env=clean_environment(tmp_path, TERM="xterm-256color", LINES="40"),
        start_new_session=True,
    )
    os.close(secondary)
    seen = _read_until(primary, b"shown-here")
    os.write(primary, b"q")
    while _read(primary):  # it restores the terminal, then closes it
        pass
    assert process.wait(TIMEOUT_S) == 0
    os.close(primary)
    assert b"Traceback" not in seen


def _read_until(terminal: int, mark: bytes) -> bytes:
    seen = b""
    while mark not in seen:
        piece = _read(terminal)
        assert piece, seen.decode(errors="replace")
        seen += piece
    return seen


def _read(terminal: int) -> bytes:
    """What it draws next; nothing when it has ended."""
    ready, _, _ = select.select([terminal], [], [], TIMEOUT_S)
    try:
        return os.read(terminal, 65536) if ready else b""
    except OSError:  # the other side was closed
        return b""
