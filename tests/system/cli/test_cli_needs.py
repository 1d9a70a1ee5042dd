"""What tasks need of their node, through the command line, on this machine."""

from __future__ import annotations

import json
from pathlib import Path

from erg_process import Erg


def test_labels_and_paths_of_this_machine(erg: Erg, tmp_path: Path) -> None:
    there = tmp_path / "data"
    there.touch()
    lines = [
        {"command": "echo fine", "require_labels": {"arch": "x86"}, "requires": str(there)},
        {"command": "echo label", "require_labels": {"arch": "arm"}},
        {"command": "echo path", "requires": str(tmp_path / "gone")},
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ended = erg("run", "tasks.jsonl", "--node-label", "arch=x86", "-q")
    assert ended.returncode == 1
    assert erg("logs", "1", "--stdout").stdout == "fine\n"
    assert "It failed: needs the label arch=arm; this node has arch=x86." in erg("explain", "2").stdout
    assert f"It failed: needs {tmp_path}/gone, which is not on this node." in erg("explain", "3").stdout


def test_the_first_free_choice_is_taken_and_told(erg: Erg) -> None:
    ended = erg(
        *("run", "echo {n} $ERG_CPUS $ERG_RESOURCES $CUDA_VISIBLE_DEVICES; sleep 0.3", "-p", "n=1,2", "-o", "-k"),
        *("--cpus", "2", "--resource", "gpus=5,7", "--cpus-per-task", "2", "--or", "cpus=0,gpus=1", "-q"),
    )  # fmt: skip
    assert ended.returncode == 2 and "a number of cores" in ended.stderr
    ended = erg(
        *("run", "echo {n} $ERG_CPUS $ERG_RESOURCES $CUDA_VISIBLE_DEVICES; sleep 0.3", "-p", "n=1,2", "-o", "-k"),
        *("--cpus", "3", "--resource", "gpus=5,7", "--cpus-per-task", "2", "--or", "cpus=1,gpus=1", "-q"),
    )  # fmt: skip
    assert ended.returncode == 0 and ended.stdout == "1 2\n2 1 gpus=1 5\n"


def test_a_gang_needs_a_cluster(erg: Erg) -> None:
    for words in (("run", "--role", "a=1", "--role", "b=1:true", "true"), ("submit", "--nodes", "2", "true x")):
        ended = erg(*words)
        assert ended.returncode == 2
        assert "needs 2 nodes at once, and this store serves one machine" in ended.stderr and "hint: " in ended.stderr
    assert "no jobs here yet" in erg("status").stderr + erg("status").stdout


def test_what_blocks_a_whole_job(erg: Erg) -> None:
    erg("submit", "true {n}", "-p", "n=1..20", "--task-resource", "gpus=2")
    assert "20 tasks wait: no worker is live." in erg("explain", "j1").stdout
    facts = json.loads(erg("explain", "j1", "--json").stdout)
    assert facts["blocked"][0]["tasks"] == 20 and facts["blocked"][0]["resource"] == "workers"
