"""Ctrl-C, resuming, and the live display on a real pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import subprocess
from pathlib import Path

import pyte
from erg_process import ERG, TIMEOUT_S, Erg, clean_environment


def read_until(stream: subprocess.Popen[str], text: str) -> str:
    """Lines of standard error up to one that holds `text`."""
    assert stream.stderr is not None
    seen = ""
    for line in stream.stderr:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"never said {text!r}:\n{seen}")


def resume_words(summary: str) -> list[str]:
    found = re.search(r"go on with: erg (.*)", summary)
    assert found is not None, summary
    return shlex.split(found[1])


def gates(folder: Path) -> None:
    os.mkfifo(folder / "begun")
    os.mkfifo(folder / "go")


def test_the_first_interrupt_drains_and_the_printed_command_resumes(erg: Erg, tmp_path: Path) -> None:
    gates(tmp_path)
    (tmp_path / "c.txt").write_text("echo > begun; cat go; echo 1 >> done\necho 2 >> done\necho 3 >> done\n")
    running = erg.start("run", "c.txt", "-j", "1", "--joblog", "log")
    (tmp_path / "begun").read_text()
    running.send_signal(signal.SIGINT)
    read_until(running, "draining")
    (tmp_path / "go").write_text("")
    rest = running.communicate(timeout=TIMEOUT_S)[1]
    assert running.returncode == 130
    assert (tmp_path / "done").read_text() == "1\n"
    assert "1 done, 2 left" in rest
    words = resume_words(rest)
    assert words == ["run", "c.txt", "-j", "1", "--joblog", "log"]
    again = erg(*words)
    assert again.returncode == 0
    assert "job j1 (c.txt): resuming, 1 of 3 done" in again.stderr
    assert (tmp_path / "done").read_text() == "1\n2\n3\n"
    assert [line.split("\t")[0] for line in (tmp_path / "log").read_text().splitlines()] == ["Seq", "1", "2", "3"]


def test_the_second_interrupt_gives_back_at_once_and_leaves_no_process(erg: Erg, tmp_path: Path) -> None:
    gates(tmp_path)
    running = erg.start("run", "--grace", "1s", "echo $$ > begun; exec sleep 1000")
    pid = int((tmp_path / "begun").read_text())
    running.send_signal(signal.SIGINT)
    read_until(running, "draining")
    running.send_signal(signal.SIGINT)
    rest = running.communicate(timeout=TIMEOUT_S)[1]
    assert running.returncode == 130
    assert "given back unharmed" in rest
    assert "1 left" in rest
    assert not os.path.exists(f"/proc/{pid}")
    assert "stopped" in erg("status", "j1").stdout


def test_an_interrupted_pipe_resumes_by_the_name_of_its_job(erg: Erg, tmp_path: Path) -> None:
    gates(tmp_path)
    (tmp_path / "input").write_text("echo > begun; cat go\necho two\n")
    with open(tmp_path / "input") as text:
        cat = subprocess.Popen(["cat"], stdin=text, stdout=subprocess.PIPE)
        running = subprocess.Popen(
            [*ERG, "run", "-", "-j1", "--tag", "--label", "a=b"],
            cwd=tmp_path,
            stdin=cat.stdout,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(tmp_path),
        )
    (tmp_path / "begun").read_text()
    running.send_signal(signal.SIGINT)
    read_until(running, "draining")
    (tmp_path / "go").write_text("")
    words = resume_words(running.communicate(timeout=TIMEOUT_S)[1])
    assert cat.stdout is not None
    cat.stdout.close()
    cat.wait()
    assert words == ["run", "--job", "j1", "--jobs", "1", "--tag"]
    again = erg(*words)
    assert again.returncode == 0
    assert again.stdout == "2\ttwo\n"  # not tagged by the label that all tasks have


class ErgOnTerminal:
    """`erg` with a pseudo-terminal as its standard streams; pyte draws what it writes."""

    def __init__(self, cwd: Path, *args: str, columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        import fcntl
        import struct
        import termios

        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.before = termios.tcgetattr(slave)
        environment = clean_environment(cwd, PYTHONIOENCODING="utf-8")
        del environment["COLUMNS"]
        self.process = subprocess.Popen(
            [*ERG, *args], cwd=cwd, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        self._slave = slave
        self.screen = pyte.Screen(columns, 24)
        self._parser = pyte.ByteStream(self.screen)

    def wait_for(self, pattern: str) -> list[str]:
        """Read until a line of the screen matches."""
        while not any(re.search(pattern, line) for line in self.screen.display):
            assert select.select([self._master], [], [], TIMEOUT_S)[0], "\n".join(self.text())
            self._parser.feed(os.read(self._master, 65536))
        return self.text()

    def text(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def close(self) -> int:
        """Wait for the end, read the rest, and give the exit code."""
        import termios

        code = self.process.wait(timeout=TIMEOUT_S)
        while select.select([self._master], [], [], 0)[0]:
            self._parser.feed(os.read(self._master, 65536))
        assert termios.tcgetattr(self._slave) == self.before
        os.close(self._slave)
        os.close(self._master)
        return code


def test_a_terminal_shows_two_live_lines_and_then_only_the_summary(tmp_path: Path) -> None:
    gates(tmp_path)
    (tmp_path / "c.txt").write_text("true\nexit 3\necho > begun; cat go\n")
    terminal = ErgOnTerminal(tmp_path, "run", "c.txt", "-j1")
    (tmp_path / "begun").read_text()
    shown = terminal.wait_for(r"2 of 3")
    bar = next(line for line in shown if "2 of 3" in line)
    assert "67 %" in bar
    assert "█" in bar
    shown = terminal.wait_for(r"1 running.* of .*GiB.*1 failed")
    assert shown[0] == "job j1 (c.txt): new, 3 tasks"
    assert len(shown) == 3
    (tmp_path / "go").write_text("")
    assert terminal.close() == 1
    text = terminal.text()
    assert not any("█" in line or "running" in line for line in text)
    assert text[1].startswith("j1 c.txt: 2 done, 1 failed in ")
    assert not terminal.screen.cursor.hidden


def test_ctrl_c_on_a_terminal_says_what_it_does_and_restores_the_terminal(tmp_path: Path) -> None:
    gates(tmp_path)
    terminal = ErgOnTerminal(tmp_path, "run", "--grace", "1s", "echo > begun; exec sleep 1000", columns=60)
    (tmp_path / "begun").read_text()
    terminal.wait_for("1 running")
    terminal.process.send_signal(signal.SIGINT)
    shown = terminal.wait_for("draining")
    assert all(len(line) < 60 for line in shown)
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.close() == 130
    assert any("given back unharmed" in line for line in terminal.text())
    assert not any("draining" in line for line in terminal.text())


def test_output_of_tasks_scrolls_above_the_live_lines(tmp_path: Path) -> None:
    gates(tmp_path)
    (tmp_path / "c.txt").write_text("printf 'no end of line'\necho > begun; cat go\n")
    terminal = ErgOnTerminal(tmp_path, "run", "c.txt", "-k", "-j1")
    (tmp_path / "begun").read_text()
    shown = terminal.wait_for("1 of 2")
    shown = terminal.wait_for("no end of line")
    shown = terminal.wait_for("1 of 2")
    assert shown[1] == "no end of line"
    assert "1 of 2" in shown[2]
    (tmp_path / "go").write_text("")
    assert terminal.close() == 0
