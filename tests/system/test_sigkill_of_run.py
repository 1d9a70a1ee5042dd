"""SIGKILL of `erg run` at random moments: no task lost, none committed twice, no process left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

import pytest

TASKS = 400
NO_PROCESS_LEFT_S = 1.0
"""The supervisor promises to have ended every task group within this after its worker is gone."""
SLACK_S = 4.0
"""What a busy two-core machine may add before the test calls it broken."""


def erg(arguments: list[str], cwd: Path, mark: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "ergates", *arguments],
        cwd=cwd,
        env={**os.environ, "ERG_TEST_MARK": mark, "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def marked_processes(mark: str) -> list[int]:
    """Processes that inherited the mark: everything a run ever started."""
    found = []
    needle = f"ERG_TEST_MARK={mark}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if needle in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # ended while we looked
    return found


def wait_until_gone(mark: str) -> float:
    begun = time.monotonic()
    while left := marked_processes(mark):
        waited = time.monotonic() - begun
        names = {pid: _command_of(pid) for pid in left}
        assert waited < NO_PROCESS_LEFT_S + SLACK_S, f"still running {waited:.1f} s after SIGKILL: {names}"
        time.sleep(0.02)  # nothing announces the end of somebody else's children
    return time.monotonic() - begun


def _command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "ended"


def run_killed(kills: int, folder: Path, seed: int) -> Counter[str]:
    """Kill `erg run` that often, then let it finish; returns what was seen."""
    stream = random.Random(f"{seed}/kills")
    mark = uuid.uuid4().hex
    effects = folder / "effects"
    effects.mkdir()
    lines = [
        f"sh -c 'sleep 0.0{stream.randrange(1, 6)}; echo {n} >> {effects}/{n}; echo out-{n}'" for n in range(TASKS)
    ]
    (folder / "commands.txt").write_text("\n".join(lines) + "\n")
    seen: Counter[str] = Counter()
    worst_s = 0.0
    for _ in range(kills):
        process = erg(["run", "commands.txt", "--no-progress", "--cpus-per-task", "0.5"], folder, mark)
        try:
            process.wait(timeout=stream.uniform(0.02, 1.0))
            seen["finished before the kill"] += 1
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            seen["killed"] += 1
        assert process.stdout is not None
        process.stdout.close()
        worst_s = max(worst_s, wait_until_gone(mark))
    last = erg(["run", "commands.txt", "--no-progress", "--cpus-per-task", "0.5"], folder, mark)
    printed, _ = last.communicate(timeout=120)
    assert last.returncode == 0, printed.decode(errors="replace")
    wait_until_gone(mark)
    seen["worst ms until nothing was left"] = round(worst_s * 1000)
    return seen


def check_ledger(folder: Path) -> None:
    """Every job that exists: complete, each task committed as done exactly once."""
    from ergates.cluster.attempt import Outcome
    from ergates.drivers.stores.sqlite import SqliteStore

    store = SqliteStore(folder / ".ergates" / "ergates.db")
    statuses = store.jobs()
    assert statuses
    for status in statuses:
        assert status.total == TASKS
        assert status.counts["done"] == TASKS, status.counts
        succeeded = Counter(t for _, t, attempt in store.attempts(status.id) if attempt.outcome is Outcome.SUCCEEDED)
        assert set(succeeded) == set(range(1, TASKS + 1)), "a task is missing from the ledger"
        assert set(succeeded.values()) == {1}, "a task was committed twice"
    ran = {int(path.name): len(path.read_text().split()) for path in (folder / "effects").iterdir()}
    assert set(ran) == set(range(TASKS)), "a task is done in the ledger and never ran"
    store.close()


@pytest.mark.system
@pytest.mark.timeout(600)
def test_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("ERGATES_SEED", "1"))
    seen = run_killed(kills=10, folder=tmp_path, seed=seed)
    print("seed", seed, dict(seen))
    assert seen["killed"] >= 5
    check_ledger(tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_500_kills_lose_nothing(tmp_path: Path) -> None:
    total: Counter[str] = Counter()
    for block in range(20):
        folder = tmp_path / str(block)
        folder.mkdir()
        seen = run_killed(kills=25, folder=folder, seed=1000 + block)
        worst = max(total["worst ms until nothing was left"], seen["worst ms until nothing was left"])
        total += seen
        total["worst ms until nothing was left"] = worst
        check_ledger(folder)
    results = Path(__file__).parents[2] / "benchmarks" / "results"
    results.mkdir(exist_ok=True, parents=True)
    (results / "soak-sigkill.json").write_text(json.dumps(dict(total), indent=2) + "\n")
    print(dict(total))
