"""How fast do tasks that do nothing go through? /bin/true, 10,000 times, 2 slots.

`erg run` has cgroups, the ledger and the progress counters on. Its rivals: `xargs -P2 -n1`, which keeps nothing; GNU
parallel, which keeps output apart; HyperQueue's local cluster, which keeps a server. Each starts in an empty folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from _record import ERG, ROOT, Bar, argument_parser, finish, in_turns, machine_facts, medians, only, run_command

HYPERQUEUE = "hyperqueue==0.27.0"


def cache_folder() -> Path:
    """Where HyperQueue's own environment lives: it is no dependency of ours."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ergates-benchmarks"


def hyperqueue_python() -> Path | None:
    """Its interpreter, installed at the first use; None when it cannot be installed here."""
    folder = cache_folder() / HYPERQUEUE.replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        print(f"installing {HYPERQUEUE} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        if subprocess.run([python, "-m", "pip", "--quiet", "install", HYPERQUEUE]).returncode:
            return None
        (folder / ".installed").touch()
    return python


def erg_seconds(tasks: int, slots: int) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "commands.txt").write_text("/bin/true\n" * tasks)
        return run_command([ERG, "run", "-j", str(slots), "commands.txt"], folder, log=folder / "log").seconds


def xargs_seconds(tasks: int, slots: int) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "numbers").write_text("".join(f"{number}\n" for number in range(tasks)))
        return run_command(["xargs", f"-P{slots}", "-n1", "/bin/true"], folder, stdin=folder / "numbers").seconds


def parallel_seconds(tasks: int, slots: int) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "commands.txt").write_text("/bin/true\n" * tasks)
        return run_command(["parallel", "--no-notice", f"-j{slots}"], folder, stdin=folder / "commands.txt").seconds


def hyperqueue_seconds(python: Path, tasks: int, slots: int) -> float:
    script = ROOT / "benchmarks" / "_hyperqueue_rate.py"
    answer = subprocess.run(
        [python, script, str(tasks), str(slots)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return float(answer.stdout.split()[-1])


def contenders(options: argparse.Namespace) -> dict[str, Callable[[], float]]:
    """Everything that can run here, as functions that return tasks per second."""
    tasks, slots = options.tasks, options.slots
    found: dict[str, Callable[[], float]] = {
        "erg run": lambda: tasks / erg_seconds(tasks, slots),
        "xargs": lambda: tasks / xargs_seconds(tasks, slots),
    }
    if shutil.which("parallel"):
        found["GNU parallel"] = lambda: tasks / parallel_seconds(tasks, slots)
    else:
        print("no GNU parallel here (package: parallel): left out", file=sys.stderr)
    python = None if options.no_hyperqueue else hyperqueue_python()
    if python:
        found["HyperQueue"] = lambda: tasks / hyperqueue_seconds(python, tasks, slots)
    else:
        print("no HyperQueue here: left out", file=sys.stderr)
    return found


def main() -> None:
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--no-hyperqueue", action="store_true", help="do not install or run HyperQueue")
    parser.add_argument("--one", metavar="CONTENDER", help="measure only this one, once, and print JSON")
    options = parser.parse_args()
    if options.quick:
        options.tasks, options.rounds = min(options.tasks, 500), 1
    if options.one:
        only(contenders(options), options.one)
        return
    facts = machine_facts()
    figures = in_turns(contenders(options), options.rounds)
    rate = medians(figures)
    for name, value in sorted(rate.items(), key=lambda row: -row[1]):
        print(f"{name:16} {value:10,.0f} tasks/s  erg run is {rate['erg run'] / value:.2f} x as fast")
    bars = [
        Bar(f"tasks/s of erg run at least {times} x {name}", rate["erg run"] / rate[name], times)
        for name, times in (("xargs", 1.0), ("GNU parallel", 3.0), ("HyperQueue", 3.0))
        if name in rate
    ]
    finish("true_rate", options, facts, {"tasks_per_second": figures, "median_tasks_per_second": rate}, bars)


if __name__ == "__main__":
    main()
