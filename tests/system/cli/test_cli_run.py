"""`erg run` for real: results, output, exit codes, job log, caching, early stops."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from erg_process import TIMEOUT_S, Erg


def test_a_file_of_commands_runs_and_says_what_it_did(erg: Erg, tmp_path: Path) -> None:
    (tmp_path / "commands.txt").write_text("# three\necho one\necho two\n\necho 'three  3'\n")
    ended = erg("run", "commands.txt", "-k")
    assert ended.returncode == 0
    assert ended.stdout == "one\ntwo\nthree  3\n"
    lines = ended.stderr.splitlines()
    assert lines[0] == "job j1 (commands.txt): new, 3 tasks"
    assert lines[1].startswith("j1 commands.txt: 3 done in ")
    assert lines[-1] == "  results: erg export j1   output: erg logs j1"


def test_failed_tasks_are_explained_and_make_the_exit_code_1(erg: Erg, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("sh -c 'echo the disk is flat >&2; exit 7'\ntrue\nno-such-program-here x\n")
    ended = erg("run", "c.txt")
    assert ended.returncode == 1
    assert "1 done, 2 failed" in ended.stderr
    assert "  task 1 failed: exit code 7" in ended.stderr
    assert "    | the disk is flat" in ended.stderr
    assert "no-such-program-here" in ended.stderr
    logs = erg("logs", "--failed")
    assert "== task 1, attempt 1, failed: exit code 7" in logs.stdout
    assert "task 2" not in logs.stdout
    assert logs.stderr == "the disk is flat\n"


def test_a_finished_job_runs_again_unless_cached(erg: Erg, tmp_path: Path) -> None:
    arguments = ("run", "sh -c 'echo x >> {}'", ":::", "ran")
    erg(*arguments)
    cached = erg(*arguments[:1], "--cached", *arguments[1:])
    assert cached.returncode == 0
    assert "cached, nothing to run, 1 of 1 done" in cached.stderr
    assert (tmp_path / "ran").read_text() == "x\n"
    assert "job j2 (sh): new, 1 task" in erg(*arguments).stderr
    assert (tmp_path / "ran").read_text() == "x\nx\n"


def test_a_cached_job_prints_again_what_it_printed(erg: Erg, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("sleep 0.2; echo one\necho two\n")
    erg("run", "c.txt")
    again = erg("run", "c.txt", "--cached", "-k", "--tag")
    assert again.stdout == "1\tone\n2\ttwo\n"
    assert "cached, nothing to run" in again.stderr


def test_a_run_stopped_by_failures_names_a_command_that_goes_on(erg: Erg, tmp_path: Path) -> None:
    arguments = ("run", "c.txt", "--max-fails", "1", "-j", "1")
    (tmp_path / "c.txt").write_text("test -e mended\n" + "sleep 0.2\n" * 8)
    stopped = erg(*arguments)
    assert f"go on with: erg retry j1 && erg {' '.join(arguments)}" in stopped.stderr
    (tmp_path / "mended").touch()
    erg("retry", "j1")
    assert "9 done" in erg(*arguments).stderr


def test_what_was_learned_is_told_after_the_run(erg: Erg, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("sleep 0.01\nsleep 0.02\n")
    erg("run", "c.txt")
    told = erg("explain", "1").stdout
    assert "It needs 1 core.\n" in told
    assert "runs of `sleep #`" in told or "a guess for `sleep #`" in told


def test_a_bad_line_submits_nothing_and_names_file_and_line(erg: Erg, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("true\necho 'open\n")
    ended = erg("run", "c.txt")
    assert ended.returncode == 2
    assert "c.txt:2:" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "no jobs" in erg("status").stdout + erg("status").stderr
    kept = erg("run", "c.txt", "--keep-going")
    assert kept.returncode == 0
    assert "skipped c.txt:2:" in kept.stderr
    assert "1 done" in kept.stderr


def test_a_mistyped_file_is_not_run_as_a_command(erg: Erg) -> None:
    ended = erg("run", "comands.txt")
    assert ended.returncode == 2
    assert "neither a file of commands nor a program" in ended.stderr


def test_dry_run_prints_and_submits_nothing(erg: Erg, tmp_path: Path) -> None:
    ended = erg("run", "--dry-run", "sim --seed {s} --size {n}", "-p", "s=1..2", "-p", "n=a,b")
    assert ended.stdout.splitlines() == [
        "1\tsim --seed 1 --size a",
        "2\tsim --seed 1 --size b",
        "3\tsim --seed 2 --size a",
        "4\tsim --seed 2 --size b",
    ]
    assert "4 tasks" in ended.stderr
    assert not (tmp_path / ".ergates").exists()
    first = json.loads(erg("run", "--dry-run", "--json", "echo {}", ":::", "a b").stdout)
    assert first["command"] == ["echo", "a b"]


def test_values_after_three_colons_may_look_like_options(erg: Erg) -> None:
    ended = erg("run", "-k", "echo", ":::", "-j", "--json", "7")
    assert ended.stdout == "-j\n--json\n7\n"


def test_output_is_binary_safe_tagged_or_in_order(erg: Erg, tmp_path: Path) -> None:
    script = tmp_path / "bytes.py"
    script.write_text("import sys\nsys.stdout.buffer.write(bytes(range(256)))\n")
    ended = erg.bytes("run", "-o", "-q", "python3 bytes.py")
    assert ended.returncode == 0
    assert ended.stdout == bytes(range(256))
    tagged = erg("run", "-k", "--tag", "printf '{w}\\nend'", "-p", "w=x,y", "--label", "study=a")
    assert tagged.stdout == "x\tx\nx\tend\ny\ty\ny\tend\n"


def test_line_buffered_output_comes_in_whole_lines_while_tasks_run(erg: Erg, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    template = "echo begun {}; printf par; cat go; echo tial"
    running = erg.start("run", "--line-buffer", "--tag", "-q", template, ":::", "x")
    assert running.stdout is not None
    assert running.stdout.readline() == "1\tbegun x\n"  # while the task waits for the gate
    (tmp_path / "go").write_text("")
    assert running.communicate(timeout=TIMEOUT_S)[0] == "1\tpartial\n"
    assert running.returncode == 0


def test_a_job_log_is_what_gnu_parallel_writes(erg: Erg, tmp_path: Path) -> None:
    erg("run", "--joblog", "log", "exit {}", ":::", "0", "3")
    lines = [line.split("\t") for line in (tmp_path / "log").read_text().splitlines()]
    assert lines[0] == ["Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval", "Signal", "Command"]
    assert sorted((line[0], line[6], line[8]) for line in lines[1:]) == [("1", "0", "exit 0"), ("2", "3", "exit 3")]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--max-fails", "2"), 1),
        (("--halt", "now,fail=2"), 1),
        (("--halt", "soon,success=1"), 0),
    ],
)
def test_a_run_can_stop_early(erg: Erg, options: tuple[str, ...], code: int) -> None:
    values = ["0"] if "success" in options[1] else ["1"]
    ended = erg("run", "-j1", "--json", *options, "exit {}", ":::", *values * 1, *(["1", "1"] * 300))
    assert ended.returncode == code, ended.stderr
    facts = json.loads(ended.stdout)
    assert facts["open"] > 0
    assert facts["why"] == ("max_fails" if options[0] == "--max-fails" else "halted")


def test_retries_and_environment_and_directory_reach_the_tasks(erg: Erg, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    command = "echo try >> tries; echo $COLOUR; test $(wc -l < tries) -ge 2"
    ended = erg("run", "-k", "--retries", "3", "--env", "COLOUR=green", "--cwd", "sub", f"{command}")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "green\n"
    assert (tmp_path / "sub" / "tries").read_text() == "try\ntry\n"
    assert "1 retried" in ended.stderr


def test_blocks_of_standard_input(erg: Erg) -> None:
    ended = erg("run", "-k", "--pipe", "-N", "2", "wc -l", stdin="a\nb\nc\n")
    assert ended.stdout.split() == ["2", "1"]


def test_json_on_standard_output_is_one_document(erg: Erg) -> None:
    facts = json.loads(erg("run", "--json", "--price", "3600", "exit {}", ":::", "0", "1").stdout)
    assert facts["counts"]["done"] == 1
    assert facts["why"] == "finished"
    assert facts["cost_usd_micros"] > 0
    assert facts["first_failures"][0]["reason"] == "exit code 1"
    clash = erg("run", "--json", "-k", "true")
    assert clash.returncode == 2
    assert "erg logs" in clash.stderr


def test_a_second_run_of_the_same_job_at_once_is_refused(erg: Erg, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    os.mkfifo(tmp_path / "go")
    arguments = ("run", "echo > begun; cat go")
    first = erg.start(*arguments)
    (tmp_path / "begun").read_text()
    second = erg(*arguments)
    assert second.returncode == 2
    assert f"pid {first.pid}" in second.stderr
    (tmp_path / "go").write_text("")
    assert "1 done" in first.communicate(timeout=TIMEOUT_S)[1]
