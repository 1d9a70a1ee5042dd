"""Open jobs, edits of many tasks, conditions, and commands on several jobs at once: the real `erg`, end to end."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest
from erg_process import TIMEOUT_S, Erg


def states(erg: Erg, job: str) -> dict[int, str]:
    rows = [json.loads(line) for line in erg("export", job, "--json").stdout.splitlines()]
    return {row["task"]: row["state"] for row in rows}


def commands(erg: Erg, job: str) -> list[str]:
    return [json.loads(line)["command"] for line in erg("export", job, "--json").stdout.splitlines()]


def test_a_job_grows_while_it_runs_and_ends_when_it_is_closed(erg: Erg, tmp_path: Path) -> None:
    assert "0 tasks, open for more" in erg("submit", "--open", "--key", "nightly").stdout
    os.mkfifo(tmp_path / "first")
    os.mkfifo(tmp_path / "last")
    running = erg.start("run", "--job", "nightly", "--no-progress")
    added = erg("submit", "--to", "nightly", "echo > first; echo {}", ":::", "1")
    assert "1 task added, 1 now" in added.stdout, added.stderr
    (tmp_path / "first").read_text()  # it runs
    waited = erg("wait", "nightly", "--timeout", "0.3s")
    assert waited.returncode == 1
    assert "open" in waited.stdout
    gather = erg("submit", "--to", "j1", "--after", "all", "--json", "echo > last; echo {}", ":::", "gather")
    assert json.loads(gather.stdout)["added"] == 1
    (tmp_path / "last").read_text()
    assert erg("close", "j1").returncode == 0
    assert running.wait(TIMEOUT_S) == 0
    assert running.stderr is not None and "waits for more tasks until: erg close j1" in running.stderr.read()
    assert running.stdout is not None
    running.communicate()
    assert states(erg, "j1") == {1: "done", 2: "done"}
    refused = erg("submit", "--to", "j1", "true")
    assert refused.returncode == 2
    assert "takes no more tasks" in refused.stderr
    assert "closed already" in erg("close", "j1").stdout


def test_an_open_job_can_be_run_until_it_is_empty(erg: Erg) -> None:
    erg("submit", "--open", "--name", "o", "true {}", ":::", "1", "2")
    ended = erg("run", "--job", "j1", "--until-empty")
    assert ended.returncode == 0, ended.stderr
    assert erg("run", "--job", "j1", "--until-empty").returncode == 0
    status = erg("status", "j1").stdout
    assert "open" in status and "erg submit --to j1" in status
    assert "is open, more tasks may come" in erg("wait", "j1", "--timeout", "0.2s").stderr


def test_ctrl_c_ends_the_wait_for_more(erg: Erg) -> None:
    erg("submit", "--open", "--key", "o")
    running = erg.start("run", "--job", "o", "--no-progress")
    assert running.stderr is not None
    assert "is open" in running.stderr.readline()
    running.terminate()
    running.communicate(timeout=TIMEOUT_S)
    assert running.returncode in (130, -15)  # caught, or before the handler was there
    assert json.loads(erg("status", "o", "--json").stdout)["takes_more"]


def test_after_in_a_file_means_the_file_and_after_means_the_job(erg: Erg, tmp_path: Path) -> None:
    erg("submit", "--open", "false {}", ":::", "1", "2")
    (tmp_path / "more.jsonl").write_text('{"command": "echo a", "id": "a"}\n{"command": "echo b", "after": "a"}\n')
    (tmp_path / "sub").mkdir()
    assert erg("submit", "--to", "j1", "--cwd", "sub", "more.jsonl").returncode == 0
    assert erg("submit", "--to", "j1", "--after", "2", "true {}", ":::", "x").returncode == 0
    assert erg("submit", "--to", "j1", "--after", "9", "true {}", ":::", "x").returncode == 2
    assert states(erg, "j1") == {1: "ready", 2: "ready", 3: "ready", 4: "blocked", 5: "blocked"}
    erg("close", "j1")
    erg("run", "--job", "j1", "--no-progress")
    assert states(erg, "j1") == {1: "failed", 2: "failed", 3: "done", 4: "done", 5: "cancelled"}


def test_options_of_a_whole_job_do_not_go_with_to(erg: Erg) -> None:
    erg("submit", "--open", "true")
    for more in (("--key", "x"), ("--open",), ("--max-fails", "3")):
        ended = erg("submit", "--to", "j1", *more, "true")
        assert ended.returncode == 2
        assert more[0] in ended.stderr
    assert erg("submit", "--after", "1", "true").returncode == 2
    assert erg("submit", "--to", "j7", "true").returncode == 2


def test_an_edit_is_shown_then_done(erg: Erg) -> None:
    erg("submit", "sim --in /old/{} --seed {}", *(":::", *map(str, range(1, 13))))
    shown = erg("edit", "j1", "--where", "task <= 11", "--set", "priority=9", "--replace", "/old=/new", "--dry-run")
    assert shown.returncode == 0
    assert "sim --in /old/1 --seed 1\n              → sim --in /new/1 --seed 1\n" in shown.stdout
    assert "j1/10\n" in shown.stdout and "j1/11" not in shown.stdout and "and 1 more task" in shown.stdout
    assert "j1: 11 tasks would change" in shown.stdout
    assert all("/old" in command for command in commands(erg, "j1"))
    asked = erg("edit", "j1", "--set", "priority=9")
    assert asked.returncode == 2 and "--yes" in asked.stderr
    facts = json.loads(
        erg(
            "edit", "j1", "--where", "task <= 11", "--set", "priority=9", "--replace", "/old=/new", "--yes", "--json"
        ).stdout
    )
    assert (facts["matched"], facts["changed"], facts["left_alone"]) == (11, 11, 0)
    assert sum("/new" in command for command in commands(erg, "j1")) == 11
    again = erg("edit", "j1", "--set", "priority=9", "--yes")
    assert "11 tasks so already" in again.stdout and "j1: 1 task changed" in again.stdout
    assert "priority == 9" and erg("status", "j1", "--where", "priority == 9", "--json").stdout.count('"task"') == 12


def test_text_is_replaced_across_the_words_of_a_command(erg: Erg) -> None:
    erg("submit", "sim --in {} --size 4", ":::", "a b", "c")
    erg("edit", "j1", "--replace", "--size 4=--size=8 -v", "--replace", "a b=it's", "--yes")
    assert commands(erg, "j1") == ["sim --in 'it'\"'\"'s' --size=8 -v", "sim --in c --size=8 -v"]


def test_what_runs_is_left_alone_and_what_failed_runs_again(erg: Erg, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    os.mkfifo(tmp_path / "go")
    lines = [{"command": "exit 3"}, {"command": "echo > begun; cat go"}, {"command": "exit 4", "after": 2}]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    running = erg.start("run", "c.jsonl", "-j1", "--no-progress")
    (tmp_path / "begun").read_text()
    facts = json.loads(erg("edit", "j1", "--set", "retries=5", "--yes", "--json").stdout)
    assert (facts["changed"], facts["running"]) == (2, 1)
    assert states(erg, "j1")[1] == "failed"
    facts = json.loads(
        erg("edit", "j1", "--where", "exit_code == 3", "--set", "command=true", "--set", "retries=0", "--rerun", "failed",
            "--yes", "--json").stdout
    )  # fmt: skip
    assert (facts["changed"], facts["to_run_again"]) == (1, 1)
    erg("edit", "j1/3", "--replace", "4=0", "--yes")
    (tmp_path / "go").write_text("")
    running.communicate(timeout=TIMEOUT_S)
    assert running.returncode == 0
    assert states(erg, "j1") == {1: "done", 2: "done", 3: "done"}
    ended = erg("edit", "j1", "--where", "task == 3", "--rerun", "finished", "--yes")
    assert "j1: 1 task changed" in ended.stdout and "erg run --job j1" in ended.stdout
    assert erg("run", "--job", "j1", "-q").returncode == 0
    ledger = sqlite3.connect(tmp_path / ".ergates" / "ergates.db")
    assert ledger.execute("SELECT number, outcome FROM ledger WHERE task = 3 ORDER BY number").fetchall() == [
        (1, "succeeded"),
        (2, "succeeded"),
    ]
    ledger.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("j1",), "nothing to change"),
        (("--set", "priority=3"), "no tasks named"),
        (("j1", "--set", "priorty=3"), "did you mean priority?"),
        (("j1", "--set", "priority=high"), "whole number"),
        (("j1", "--set", "memory=lots"), "expected a size"),
        (("j1", "--set", "cpus=0"), "number of cores"),
        (("j1", "--set", "time_limit=0"), "or none"),
        (("j1", "--set", "retries"), "NAME=VALUE"),
        (("j1", "--replace", "x"), "OLD=NEW"),
        (("j1", "--replace", "echo='", "--yes"), "a quote is not closed"),
        (("j1", "--set", "command= "), "expected a command"),
        (("j1", "--replace", "echo 1; true= ", "--yes"), "run nothing at all"),
        (("j1", "--where", "prio == 3", "--set", "priority=3"), "^"),
        (("j1", "--all", "--set", "priority=3"), "--all"),
        (("j1/9", "--set", "priority=3"), "no task 9"),
    ],
)
def test_an_edit_that_cannot_be_is_refused_whole(erg: Erg, arguments: tuple[str, ...], message: str) -> None:
    erg("submit", "echo {n}; true", "-p", "n=1..2")
    ended = erg("edit", *arguments)
    assert ended.returncode == 2, ended.stdout
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert commands(erg, "j1") == ["echo 1; true", "echo 2; true"]


def test_conditions_go_with_status_export_retry_and_cancel(erg: Erg) -> None:
    erg("run", "-q", "test {a} -lt 3", "-p", "a=1..4")
    condition = ("--where", "label.a > 1 and not state == done")
    assert [row["task"] for row in json.loads(erg("status", "j1", "--json", *condition).stdout)["tasks"]] == [3, 4]
    assert "2 tasks" in erg("status", "j1", *condition).stdout
    assert erg("export", "j1", "--where", "outcome == succeeded").stdout.count("\n") == 3
    assert "1 task back" in erg("retry", "j1", "--where", "label.a == 4").stdout
    assert "0 tasks cancelled" in erg("cancel", "j1", "--where", "label.a == 3").stdout
    assert "1 task cancelled" in erg("cancel", "j1", "--where", "wall > 0s").stdout
    for verb in ("export", "retry", "cancel", "status"):
        ended = erg(verb, "j1", "--where", "a > 1")
        assert ended.returncode == 2 and "^" in ended.stderr


def test_several_jobs_at_once(erg: Erg) -> None:
    for number in range(3):
        erg("submit", f"echo {number}")
    assert erg("pause", "j1", "j2").stdout.count("paused") == 2
    assert [row["job"] for row in json.loads(erg("pause", "--all", "--json").stdout)] == ["j3"]
    assert [row["job"] for row in json.loads(erg("resume", "--all", "--json").stdout)] == ["j1", "j2", "j3"]
    assert json.loads(erg("pause", "j2", "--json").stdout) == {"job": "j2", "phase": "paused"}
    assert [row["cancelled"] for row in json.loads(erg("cancel", "j1", "j2/1", "--json").stdout)] == [1, 1]
    assert [row["retried"] for row in json.loads(erg("retry", "--all", "--json").stdout)] == [1, 1]
    erg("run", "--job", "j3", "-q")
    assert erg("wait", "j1", "j3", "--any").stdout == "j3: 1 done\n"
    assert erg("wait", "--all", "--timeout", "0.1s").stdout.splitlines() == ["j1: 1 task left", "j2: 1 task left"]
    refused = erg("cancel", "--all")
    assert refused.returncode == 2 and "--yes" in refused.stderr
    assert erg("cancel", "--all", "--yes").stdout.splitlines() == ["j1: 1 task cancelled", "j2: 1 task cancelled"]
    assert erg("wait", "--all").returncode == 0
    assert erg("wait", "j3", "j1").returncode == 1
    assert erg("pause", "j3").returncode == 2
