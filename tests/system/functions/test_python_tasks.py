"""Python tasks of a task file, and tasks with an image, from the command line to their output."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ERG = str(Path(sys.executable).parent / "erg")
IMAGE = "ergates-test:latest"


def run_file(folder: Path, tasks: list[dict[str, object]]) -> list[dict[str, object]]:
    """Run the tasks with `erg run` and return what `erg export` has of them, in the order of the file."""
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    subprocess.run([ERG, "run", "tasks.jsonl"], cwd=folder, capture_output=True, timeout=100, check=False)
    exported = subprocess.run(
        [ERG, "logs", "--json"], cwd=folder, capture_output=True, text=True, timeout=30, check=True
    )
    rows = [json.loads(line) for line in exported.stdout.splitlines()]
    return sorted(rows, key=lambda row: row["task"])


def test_functions_and_source(tmp_path: Path) -> None:
    (tmp_path / "cooking.py").write_text(
        "count = 0\ndef bake(name, *, minutes):\n    global count\n    count += 1\n    return [name, minutes, count]\n"
    )
    bake: dict[str, object] = {"type": "python", "command": "cooking:bake", "args": ["bread"], "kwargs": {"minutes": 3}}
    rows = run_file(
        tmp_path,
        [
            bake,
            {"type": "python", "command": "import os\nprint('task', os.environ['ERG_TASK_ID'], args)", "args": [7]},
            {"type": "python", "command": "cooking:missing"},
            {"type": "python", "command": "os:_exit", "args": [9]},
            {"type": "python", "command": "os:getcwd", "cwd": "/"},
        ],
    )
    assert json.loads(str(rows[0]["stdout"])) == ["bread", 3, 1]
    assert rows[1]["stdout"] == "task 2 [7]\n"
    assert "has no attribute 'missing'" in str(rows[2]["stderr"])
    assert rows[2]["outcome"] == "failed"
    assert (rows[3]["outcome"], rows[3]["reason"]) == ("failed", "exit code 9")
    assert rows[4]["stdout"] == '"/"\n'


@pytest.mark.system
@pytest.mark.needs("docker")
def test_tasks_with_an_image(tmp_path: Path) -> None:
    (tmp_path / "here").write_text("from outside\n")
    rows = run_file(
        tmp_path,
        [
            {"command": "cat /data/here", "image": IMAGE, "mounts": [f"{tmp_path}:/data:ro"]},
            {"command": "echo no >&2; exit 4", "image": IMAGE},
            {"command": "true", "image": "no-such-image:ever"},
        ],
    )
    assert rows[0]["stdout"] == "from outside\n"
    assert (rows[1]["outcome"], rows[1]["stderr"]) == ("failed", "no\n")
    assert rows[2]["outcome"] == "not_started"
    assert "docker pull no-such-image:ever" in str(rows[2]["reason"])
