"""Input with mistakes, odd input, and every way in: through the real command, from the file to the results."""

from __future__ import annotations

import json
import os
import shlex
import sys

import pytest
from erg_rig import Erg

BINARY = bytes(range(256)) * 300 + os.urandom(1000)
TEN_MB = 10_000_000


def nothing_submitted(erg: Erg) -> None:
    assert erg.jobs() == []


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "place", "words"),
    [
        ("c.txt", "echo a\necho 'b\n", "c.txt:2", "quote"),
        ("c.txt", "echo a\n\0\0\n", "c.txt:2", "NUL"),
        ("t.jsonl", '{"command": "true"}\n{"comand": "true"}\n', "t.jsonl:2", "did you mean 'command'"),
        ("t.jsonl", '{"command": "true"}\n{"command"\n', "t.jsonl:2", "JSON"),
        ("t.jsonl", '{"command": "true", "after": "nobody"}\n', "t.jsonl:1", "nobody"),
        ("t.toml", '[[task]]\ncommand = "true"\nmemory = "much"\n', "t.toml", "much"),
    ],
    ids=["open quote", "binary file", "unknown key", "cut off JSON", "after nobody", "no size"],
)
def test_a_malformed_line_submits_nothing(erg: Erg, name: str, text: str, place: str, words: str) -> None:
    (erg.folder / name).write_text(text)
    run = erg("run", name)
    assert run.code == 2, run
    assert place in run.err, run
    assert words in run.err, run
    assert "expected" in run.err, run
    assert "Traceback" not in run.err
    nothing_submitted(erg)


def test_a_distcomp_line_among_others_that_does_not_fit(erg: Erg) -> None:
    erg.commands("shell:5:1:1:echo a", "shell:high:1:1:echo b")
    run = erg("run", "commands.txt", "--format", "distcomp")
    assert run.code == 2, run
    assert "commands.txt:2" in run.err
    assert "expected" in run.err
    nothing_submitted(erg)


def test_bad_lines_are_skipped_when_asked(erg: Erg) -> None:
    run = erg("run", erg.commands("echo a", "echo 'b", "echo c"), "--keep-going", "-k")
    assert run.code == 0, run
    assert run.out == b"a\nc\n"
    assert "skipped commands.txt:2" in run.err


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing yet\n"], ids=["empty", "blank", "comments"])
def test_an_empty_file(erg: Erg, text: str) -> None:
    (erg.folder / "c.txt").write_text(text)
    run = erg("run", "c.txt")
    assert run.code == 2, run
    assert "c.txt: no commands" in run.err
    assert "expected: at least one command" in run.err
    nothing_submitted(erg)


def test_empty_standard_input(erg: Erg) -> None:
    run = erg("run", "-", stdin=b"")
    assert run.code == 2, run
    assert "<stdin>" in run.err


def test_a_file_that_is_not_there(erg: Erg) -> None:
    run = erg("run", "nosuch.txt")
    assert run.code == 2, run
    assert "nosuch.txt" in run.err
    assert "hint" in run.err


def test_ten_megabytes_on_one_line_of_input(erg: Erg) -> None:
    run = erg("run", erg.commands("echo a", "echo " + "x" * TEN_MB))
    assert run.code == 2, run
    assert "commands.txt:2" in run.err
    assert "10,000,000 bytes" in run.err
    assert len(run.err) < 2000, "the line itself is no message"
    nothing_submitted(erg)


def test_a_circle_of_tasks(erg: Erg) -> None:
    (erg.folder / "t.jsonl").write_text(
        '{"id": "a", "command": "true", "after": "b"}\n{"id": "b", "command": "true", "after": "a"}\n'
    )
    run = erg("run", "t.jsonl")
    assert run.code == 2, run
    assert "Traceback" not in run.err
    nothing_submitted(erg)


# --- odd, but right ---------------------------------------------------------------------------------


def test_a_command_that_does_not_exist_fails_in_words_and_alone(erg: Erg) -> None:
    run = erg("run", erg.commands("echo a", "nosuchprogram --x", "./nosuchfile", "echo b"), "--retries", "3")
    assert run.code == 1, run
    assert "command not found: nosuchprogram" in run.err
    rows = erg.rows()
    assert [row["state"] for row in rows] == ["done", "failed", "failed", "done"]
    assert rows[1]["attempts"] == 1, "trying again would not help"
    assert "nosuchfile" in rows[2]["reason"]
    assert erg.logs("4") == b"b\n"


def test_a_file_without_the_right_to_run_it(erg: Erg) -> None:
    (erg.folder / "script").write_text("#!/bin/sh\necho a\n")
    run = erg("run", erg.commands("./script", "true"))
    assert run.code == 1, run
    assert [row["state"] for row in erg.rows()] == ["failed", "done"]
    assert "not executable" in run.err or "ermission" in run.err, run
    assert "script" in run.err


def test_binary_output_comes_back_byte_for_byte(erg: Erg) -> None:
    (erg.folder / "data").write_bytes(BINARY)
    run = erg("run", erg.commands("cat data", "cat data >&2"), "-k")
    assert run.code == 0, run
    assert run.out == BINARY
    assert erg.logs("1") == BINARY
    assert erg.logs("2", "--stderr") == BINARY
    assert erg("export", "--outputs", "outs").code == 0
    assert (erg.folder / "outs" / "1.out").read_bytes() == BINARY


def test_ten_megabytes_on_one_line_of_output(erg: Erg) -> None:
    program = f"{sys.executable} -c 'import sys; sys.stdout.write(\"x\" * {TEN_MB})'"
    run = erg("run", erg.commands(program), "--output")
    assert run.code == 0, run
    assert run.out == b"x" * TEN_MB
    assert erg.logs("1") == b"x" * TEN_MB


def test_commands_that_are_not_utf_8(erg: Erg) -> None:
    (erg.folder / "c.txt").write_bytes(b"echo caf\xe9\necho '\xff:\xfe'\n")
    run = erg("run", "c.txt", "-k")
    assert run.code == 0, run
    assert run.out == b"caf\xe9\n\xff:\xfe\n"


def test_the_same_line_twice_is_two_tasks(erg: Erg) -> None:
    assert erg("run", erg.commands("echo a", "echo a")).code == 0
    assert len(erg.rows()) == 2


def test_a_dry_run_submits_nothing(erg: Erg) -> None:
    run = erg("run", "echo {n}", "-p", "n=1..3", "--dry-run")
    assert run.code == 0, run
    assert run.out == b"1\techo 1\n2\techo 2\n3\techo 3\n"
    assert not (erg.folder / ".ergates").exists()


# --- the ways in ------------------------------------------------------------------------------------


def test_standard_input(erg: Erg) -> None:
    run = erg("run", "-", "-k", stdin=b"echo a\n# no\necho b\n")
    assert run.code == 0, run
    assert run.out == b"a\nb\n"


def test_lists_as_with_parallel(erg: Erg) -> None:
    run = erg("run", "-k", "echo {1}-{2}-{#}", ":::", "a", "b c", ":::", "x", "$(date)")
    assert run.code == 0, run
    assert run.out == b"a-x-1\na-$(date)-2\nb c-x-3\nb c-$(date)-4\n"
    (erg.folder / "values").write_text("p/one.tar.gz\n")
    run = erg("run", "-k", "echo {} {.} {/} {//} {/.}", "::::", "values")
    assert run.out == b"p/one.tar.gz p/one.tar one.tar.gz p one.tar\n"


def test_parameters_become_columns(erg: Erg) -> None:
    run = erg("run", "-k", "echo {seed}/{size}", "-p", "seed=1..2", "-p", "size=a,b")
    assert run.code == 0, run
    assert run.out == b"1/a\n1/b\n2/a\n2/b\n"
    rows = erg.rows()
    assert [(row["seed"], row["size"]) for row in rows] == [("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")]


def test_a_table_of_parameters(erg: Erg) -> None:
    (erg.folder / "grid.csv").write_text('lr,name\n0.1,"a, b"\n0.2,c\n')
    run = erg("run", "-k", "--params", "grid.csv", "echo {lr} {name}")
    assert run.code == 0, run
    assert run.out == b"0.1 a, b\n0.2 c\n"


def test_blocks_of_standard_input(erg: Erg) -> None:
    data = b"".join(b"line %d\n" % n for n in range(5000))
    run = erg("run", "--pipe", "--block", "16KiB", "-k", "cat", stdin=data)
    assert run.code == 0, run
    assert run.out == data
    assert len(erg.rows()) == -(-len(data) // 16384)


def test_distcomp_lines_are_recognised(erg: Erg) -> None:
    erg.commands("shell:1:0:1:echo low:1", "shell:9:0:1:echo high")
    run = erg("run", "commands.txt", "-j", "1", "--output")
    assert run.code == 0, run
    assert run.out == b"high\nlow:1\n", "larger priorities go first, and a command may hold colons"


def test_tasks_wait_for_those_they_come_after(erg: Erg) -> None:
    tasks = [
        {"id": "last", "command": "cat one two > three", "after": ["one", "two"]},
        {"id": "one", "command": "sleep 0.1; echo 1 > one"},
        {"id": "two", "command": "echo 2 > two", "after": "one"},
    ]
    (erg.folder / "t.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    run = erg("run", "t.jsonl")
    assert run.code == 0, run
    assert (erg.folder / "three").read_text() == "1\n2\n"


def test_what_comes_after_a_failure_does_not_run(erg: Erg) -> None:
    (erg.folder / "t.jsonl").write_text(
        '{"id": "a", "command": "false"}\n{"id": "b", "command": "touch ran", "after": "a"}\n{"command": "true"}\n'
    )
    run = erg("run", "t.jsonl")
    assert run.code == 1, run
    assert not (erg.folder / "ran").exists()
    states = [row["state"] for row in erg.rows()]
    assert states[0] == "failed"
    assert states[1] in ("failed", "cancelled")
    assert states[2] == "done"


def test_python_tasks(erg: Erg) -> None:
    tasks = [
        {"type": "python", "command": "math:sqrt", "args": [16]},
        {"type": "python", "command": "print('from source')"},
        {"type": "python", "command": "math:sqrt", "args": [-1]},
    ]
    (erg.folder / "t.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    run = erg("run", "t.jsonl")
    assert run.code == 1, run
    rows = erg.rows()
    assert [row["state"] for row in rows] == ["done", "done", "failed"], rows
    assert erg.logs("2") == b"from source\n"
    assert "ValueError" in rows[2]["reason"] or b"ValueError" in erg("logs", "3").err.encode()


def test_environment_directory_and_labels(erg: Erg) -> None:
    place = erg.folder / "a place"
    place.mkdir()
    show = 'printf "%s|" "$COLOUR" "$EXTRA" "$(pwd)" "$ERG_JOB_ID" "$ERG_TASK_ID"'
    task = {"command": show, "env": {"COLOUR": "blue"}, "cwd": str(place), "labels": {"part": "one"}}
    (erg.folder / "t.jsonl").write_text(json.dumps(task) + "\n")
    run = erg("run", "t.jsonl", "--output", "--env", "EXTRA=yes", "--label", "owner=me")
    assert run.code == 0, run
    assert run.out.decode() == f"blue|yes|{place}|j1|1|"
    row = erg.rows()[0]
    assert (row["part"], row["owner"]) == ("one", "me")


def test_the_variables_of_the_caller_reach_the_tasks(erg: Erg) -> None:
    run = erg("run", "--output", "printenv FROM_OUTSIDE", env={"FROM_OUTSIDE": "a b"})
    assert run.code == 0, run
    assert run.out == b"a b\n"


def test_standard_input_of_a_task(erg: Erg) -> None:
    (erg.folder / "in").write_bytes(BINARY)
    tasks = [{"command": "cat", "stdin": "text"}, {"command": "cat", "stdin": {"file": "in"}}, {"command": "cat"}]
    (erg.folder / "t.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    run = erg("run", "t.jsonl", "-k")
    assert run.code == 0, run
    assert run.out == b"text" + BINARY


# --- failures, limits, exit codes -------------------------------------------------------------------


def test_failing_tasks_make_the_exit_code_1(erg: Erg) -> None:
    run = erg("run", erg.commands("true", "sh -c 'echo why >&2; exit 7'", "sh -c 'kill -9 $$'"))
    assert run.code == 1, run
    assert "exit code 7" in run.err
    assert "| why" in run.err
    rows = erg.rows()
    assert [row["outcome"] for row in rows] == ["succeeded", "failed", "signalled"]
    assert rows[1]["exit_code"] == 7
    assert rows[2]["signal"] == 9
    again = erg("run", "commands.txt", "--cached")
    assert again.code == 1, again
    assert "erg retry j1" in again.err


def test_retries_succeed_in_the_end(erg: Erg) -> None:
    flaky = "sh -c 'test -e once || { touch once; exit 3; }; echo well'"
    run = erg("run", erg.commands(flaky), "--retries", "2", "--output")
    assert run.code == 0, run
    assert run.out == b"well\n"
    assert erg.rows()[0]["attempts"] == 2


def test_a_time_limit(erg: Erg) -> None:
    lines = ["sh -c 'sleep 300 & sleep 300'", "true"]
    run = erg("run", erg.commands(*lines), "--time-limit", "200ms", "--grace", "200ms")
    assert run.code == 1, run
    assert "ran longer than its limit" in run.err
    assert [row["outcome"] for row in erg.rows()] == ["timed_out", "succeeded"]
    erg.wait_until_gone()


def test_max_fails_starts_nothing_more(erg: Erg) -> None:
    run = erg("run", erg.commands(*(f"sh -c 'exit {n}'" for n in range(1, 41))), "--max-fails", "3", "-j", "1")
    assert run.code == 1, run
    assert "--max-fails" in run.err
    counts = erg.jobs()[0]["counts"]
    assert 3 <= counts["failed"] < 40
    assert counts["failed"] + counts["ready"] == 40


def test_halt_now_ends_what_runs(erg: Erg) -> None:
    run = erg("run", erg.commands("sleep 300", "false", "sleep 300"), "--halt", "now,fail=1", "--cpus-per-task", "0.1")
    assert run.code == 1, run
    counts = erg.jobs()[0]["counts"]
    assert counts["failed"] == 1
    assert counts["ready"] + counts["delayed"] == 2, "what was ended waits to be run again"
    erg.wait_until_gone()


def test_halt_at_a_success(erg: Erg) -> None:
    run = erg("run", erg.commands("false", "true", "sleep 300"), "--halt", "now,success=1", "--cpus-per-task", "0.1")
    assert run.code == 0, run
    erg.wait_until_gone()


def test_a_finished_job_runs_again_unless_cached(erg: Erg) -> None:
    erg.commands("sh -c 'echo x >> count'")
    assert "new, 1 task" in erg("run", "commands.txt").err
    cached = erg("run", "commands.txt", "--cached")
    assert cached.code == 0, cached
    assert "cached, nothing to run, 1 of 1 done" in cached.err
    assert (erg.folder / "count").read_text() == "x\n"
    assert "new, 1 task" in erg("run", "commands.txt").err
    assert (erg.folder / "count").read_text() == "x\nx\n"
    assert [job["id"] for job in erg.jobs()] == ["j2", "j1"]


@pytest.mark.parametrize("option", [["--no-such"], ["--memory", "lots"], ["--halt", "whenever"], ["--job", "j9"]])
def test_wrong_options(erg: Erg, option: list[str]) -> None:
    words = ["run", *option] if "--job" in option else ["run", *option, shlex.join(["echo", "a"])]
    run = erg(*words)
    assert run.code == 2, run
    assert "Traceback" not in run.err
