"""Looking at jobs and changing them, and taking the results: every command but `run`, for real."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from pathlib import Path

import pytest
from erg_process import ERG, TIMEOUT_S, Erg, clean_environment


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Erg:
    """A finished job j1 of four tasks, of which one failed; never changed by a test."""
    erg = Erg(tmp_path_factory.mktemp("ran"))
    template = "printf 'out {size}'; printf 'err {size}' >&2; test {size} != big -o {seed} = 0"
    ended = erg(
        "run", template, "-p", "size=small,big", "-p", "seed=1..2", "--label", "study=first", "--max-fails", "9"
    )
    assert ended.returncode == 1, ended.stderr
    return erg


def rows_of(ended: subprocess.CompletedProcess[str]) -> list[dict[str, str]]:
    assert ended.returncode == 0, ended.stderr
    return list(csv.DictReader(io.StringIO(ended.stdout)))


def test_status_is_a_table_of_jobs_or_one_job_in_words(ran: Erg) -> None:
    heading, row = ran("status").stdout.splitlines()
    assert heading.split()[:5] == ["job", "name", "state", "done", "of"]
    assert row.split()[:5] == ["j1", "printf", "failed", "2", "4"]
    text = ran("status", "1").stdout
    assert "4 tasks: 2 done, 2 failed" in text
    assert "2 tasks failed: exit code 1" in text
    facts = json.loads(ran("status", "j1", "--json").stdout)
    assert facts["shown_phase"] == "failed"
    assert facts["failures"] == [{"reason": "exit code 1", "tasks": 2}]
    assert [job["id"] for job in json.loads(ran("status", "--json").stdout)] == ["j1"]


def test_export_has_parameters_outcome_cost_and_labelled_memory(ran: Erg) -> None:
    rows = rows_of(ran("export", "--with-output"))
    assert [(row["task"], row["size"], row["seed"], row["study"]) for row in rows] == [
        ("1", "small", "1", "first"),
        ("2", "small", "2", "first"),
        ("3", "big", "1", "first"),
        ("4", "big", "2", "first"),
    ]
    assert [row["outcome"] for row in rows] == ["succeeded", "succeeded", "failed", "failed"]
    assert [row["exit_code"] for row in rows] == ["0", "0", "1", "1"]
    assert rows[2]["stdout"] == "out big"
    assert rows[2]["stderr"] == "err big"
    assert all(float(row["wall_s"]) > 0 and row["peak_label"] in ("sampled", "cgroup", "maxrss") for row in rows)
    assert all(row["cost_usd"] == "" and row["energy_j"] == "" for row in rows)  # unknown is not zero


def test_export_selects_writes_files_and_json_lines(ran: Erg, tmp_path: Path) -> None:
    assert [row["task"] for row in rows_of(ran("export", "j1/2-4", "--only", "failed"))] == ["3", "4"]
    table, files = tmp_path / "t.jsonl", tmp_path / "outputs"
    ended = ran("export", "--format", "jsonl", "--to", str(table), "--outputs", str(files))
    assert ended.stdout == ""
    records = [json.loads(line) for line in table.read_text().splitlines()]
    assert [record["state"] for record in records] == ["done", "done", "failed", "failed"]
    assert sorted(path.name for path in files.iterdir()) == sorted(
        f"{n}.{end}" for n in range(1, 5) for end in ("out", "err")
    )
    assert (files / "3.out").read_text() == "out big"
    assert json.loads(ran("export", "1", "--json").stdout)["task"] == 1


def test_report_sums_by_label_and_shows_waste(ran: Erg) -> None:
    lines = ran("report", "--by", "label:size").stdout.splitlines()
    assert lines[0].split()[:3] == ["size", "attempts", "done"]
    assert [line.split()[:3] for line in lines[1:]] == [["big", "2", "0"], ["small", "2", "2"], ["all", "4", "2"]]
    assert "100 %" in lines[1]
    by_outcome = json.loads(ran("report", "j1", "--by", "outcome", "--json").stdout)
    assert {row["group"]: row["attempts"] for row in by_outcome} == {"failed": 2, "succeeded": 2}
    assert ran("report", "--by", "colour").returncode == 2


def test_logs_of_one_task_are_its_bytes_and_of_several_have_headings(ran: Erg) -> None:
    one = ran("logs", "3")
    assert (one.stdout, one.stderr) == ("out big", "err big")
    assert ran("logs", "3", "--stderr").stdout == "err big"
    several = ran("logs", "1-2", "--stdout").stdout
    assert several == "== task 1, attempt 1, succeeded\nout small== task 2, attempt 1, succeeded\nout small"
    record = json.loads(ran("logs", "j1/4", "--json").stdout)
    assert (record["task"], record["stdout"], record["exit_code"]) == (4, "out big", 1)
    followed = ran("logs", "-f", "--failed").stdout
    assert followed.count("== task") == 2


def test_explain_says_why(ran: Erg) -> None:
    text = ran("explain", "3").stdout
    assert text.startswith("j1/3  printf")
    assert "It failed: exit code 1." in text
    assert json.loads(ran("explain", "j1/1-2", "--json").stdout)[1]["state"] == "done"
    whole = json.loads(ran("explain", "j1", "--json").stdout)
    assert whole["sentences"] == ["Nothing of it waits."] and whole["blocked"] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("logs", "j9/1"), "no job 'j9'"),
        (("logs", "99"), "j1 has no task 99\n  expected: a number from 1 to 4"),
        (("explain", "x/1-"), "is not a task"),
        (("retry", "3-1"), "a range goes upwards"),
        (("wait", "nobody"), "expected: one of j1 (printf)"),
        (("pause", "j1"), "nothing to pause"),
        (("run", "--job", "j1", "file"), "leave the input out"),
        (("run", "--memory", "4 apples", "true"), "expected a size such as 512MiB"),
        (("run", "--halt", "soon", "true"), "soon,fail=1"),
        (("run", "--resource", "gpus=x", "true"), "such as gpus=0,1"),
        (("run", "--memroy", "4g", "true"), "--memory"),
        (("stauts",), "did you mean `erg status`?"),
    ],
)
def test_wrong_usage_names_what_was_expected_and_exits_with_2(ran: Erg, arguments: tuple[str, ...], said: str) -> None:
    ended = ran(*arguments)
    assert ended.returncode == 2, ended.stderr
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


def test_errors_show_a_traceback_only_when_asked_to(ran: Erg, tmp_path: Path) -> None:
    ended = ran("status", "--state", str(tmp_path / "nothing"))
    assert ended.returncode == 2
    assert "no jobs were submitted here yet" in ended.stderr
    assert "Traceback" in ran("status", "--state", str(tmp_path / "nothing"), ERGATES_DEBUG="1").stderr


def test_a_closed_pipe_is_no_error(ran: Erg) -> None:
    script = f"{' '.join(ERG)} logs -f | head -c 1"
    ended = subprocess.run(
        ["bash", "-c", script], cwd=ran.cwd, capture_output=True, text=True, env=clean_environment(ran.cwd), check=False
    )
    assert ended.stdout == "="
    assert "Traceback" not in ended.stderr
    assert "BrokenPipe" not in ended.stderr


def test_submit_pause_resume_cancel_retry_and_wait(erg: Erg, tmp_path: Path) -> None:
    submitted = json.loads(erg("submit", "--json", "echo {}", ":::", "a", "b", "c").stdout)
    assert (submitted["id"], submitted["total"], submitted["open"]) == ("j1", 3, 3)
    assert erg("submit", "-q", "echo {}", ":::", "a", "b", "c").stdout == "j1\n"
    assert "stopped" in erg("status").stdout
    waiting = erg("wait", "--timeout", "10ms")
    assert waiting.returncode == 1
    assert "run by nobody now; it goes on after: erg run --job j1" in waiting.stderr
    assert "paused" in erg("pause").stdout
    assert "paused" in erg("status", "j1").stdout
    assert "its job is paused" in erg("explain", "1").stdout
    assert "run it: erg run --job j1" in erg("resume", "j1").stdout
    assert "1 task cancelled" in erg("cancel", "j1/2", "--reason", "wrong").stdout
    assert "It was cancelled: wrong." in erg("explain", "2").stdout
    ended = erg("run", "--job", "j1", "-k")
    assert ended.stdout == "a\nc\n"
    assert ended.returncode == 1  # not everything is done
    assert "1 task back in the queue; run it: erg run --job j1" in erg("retry").stdout
    assert erg("run", "--job", "1", "-k").stdout == "b\n"
    done = erg("wait")
    assert (done.returncode, done.stdout) == (0, "j1: 3 done\n")


def test_cancelling_a_job_that_runs_ends_its_tasks(erg: Erg, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    running = erg.start("run", "--grace", "1s", "echo > begun; exec sleep 1000")
    (tmp_path / "begun").read_text()
    assert "running" in erg("status").stdout
    erg("cancel", "j1")
    summary = running.communicate(timeout=TIMEOUT_S)[1]
    assert running.returncode == 1
    assert "1 cancelled" in summary
    assert "cancelled" in erg("status").stdout


def test_watch_and_wait_end_when_the_job_does(erg: Erg, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    os.mkfifo(tmp_path / "go")
    running = erg.start("run", "echo > begun; cat go")
    (tmp_path / "begun").read_text()
    watch = erg.start("status", "j1", "--watch", "--interval", "50ms")
    wait = erg.start("wait", "j1")
    assert watch.stdout is not None
    assert "running" in watch.stdout.readline()
    (tmp_path / "go").write_text("")
    assert running.communicate(timeout=TIMEOUT_S)[1]
    assert "1 done" in watch.communicate(timeout=TIMEOUT_S)[0]
    assert wait.communicate(timeout=TIMEOUT_S)[0] == "j1: 1 done\n"


def test_doctor_checks_and_advises(erg: Erg) -> None:
    ended = erg("doctor")
    assert ended.returncode == 0
    for name in ("Python", "cores", "memory", "control groups", "state", "disk", "limits", "containers", "completion"):
        assert f"  {name} " in ended.stdout
    findings = json.loads(erg("doctor", "--json").stdout)
    assert all(finding["level"] in ("ok", "warn", "fail") for finding in findings)
    assert "store" not in {finding["name"] for finding in findings}
    away = json.loads(erg("doctor", "--json", "--store", "redis://127.0.0.1:1").stdout)[-1]
    assert (away["name"], away["level"]) == ("store", "warn")
    assert "hint: start it" in away["advice"]


def test_settings_come_from_options_environment_and_files_in_this_order(erg: Erg, tmp_path: Path) -> None:
    (tmp_path / "ergates.toml").write_text('[run]\njobs = 3\nmemory = "1GiB"\n')
    rows = {row["option"]: row for row in json.loads(erg("config", "--json", ERGATES_RUN_JOBS="5").stdout)["settings"]}
    assert (rows["--jobs"]["value"], rows["--jobs"]["source"]) == ("5", "environment")
    assert (rows["--memory"]["value"], rows["--memory"]["source"]) == ("1GiB", "file")
    assert rows["--grace"]["source"] == "default"
    (tmp_path / "ergates.toml").write_text("[run]\njbos = 3\n")
    wrong = erg("run", "true")
    assert wrong.returncode == 2
    assert "ergates.toml: [run] has no option 'jbos'\n  hint: did you mean jobs?" in wrong.stderr
    (tmp_path / "ergates.toml").write_text("[rum]\njobs = 3\n")
    assert "did you mean run?" in erg("run", "true").stderr
    (tmp_path / "ergates.toml").write_text("jobs : 3\n")
    assert "ergates.toml:" in erg("run", "true").stderr


def test_simulate_compares_policies(erg: Erg) -> None:
    lines = erg(
        "simulate", "queue", "ramps", "--policy", "ours", "--policy", "fixed", "--seeds", "1"
    ).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["policy", "ours", "fixed"]
    assert erg("simulate", "queue", "nowhere").returncode == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_command(erg: Erg, shell: str) -> None:
    ended = erg("completion", shell)
    assert ended.returncode == 0
    assert "_ERG_COMPLETE" in ended.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=ended.stdout, text=True, check=True)


def test_completion_offers_commands_and_options(erg: Erg) -> None:
    offered = erg(_ERG_COMPLETE="bash_complete", COMP_WORDS="erg sta", COMP_CWORD="1").stdout
    assert "status" in offered
    offered = erg(_ERG_COMPLETE="bash_complete", COMP_WORDS="erg run --mem", COMP_CWORD="2").stdout
    assert "--memory-policy" in offered
