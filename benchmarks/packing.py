"""How close to the edge of 4 GiB can 200 tasks be packed when nobody says how much memory they need?

Each task ramps up to a peak between 50 MB and 1.5 GB (log-normal) within its 1 to 4 seconds of life and holds 0.05 of a core.
Side by side: `erg run --memory 4GiB`, which is told nothing; the largest fixed `xargs -P` that survives the same order
in the same memory without a kill by the kernel; and a list schedule that knows every task at every moment, computed
and also executed. Wasted work is the time of attempts that did not end in success, as a share of all.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from _confined import memory_group
from _packing_plan import (
    LIST_ORDERS,
    MIB,
    OVERHEAD_BYTES,
    STEP_MS,
    ListScheduler,
    PlannedTask,
    area_bound_s,
    best_order,
    draw_tasks,
    fixed_slots_peak,
    write_plan,
)
from _record import ERG, ROOT, Bar, argument_parser, finish, machine_facts, run_command

EXECUTED_FRACTION = 0.96
"""Of the limit, for the executed omniscient schedule: the kernel's own pages and late ends need the rest."""
LATE_STEPS = 10
"""Real processes share two cores: each is given 0.2 s more than planned; its memory counts until it ends."""


@dataclass(frozen=True, slots=True)
class Packing:
    """One execution of all tasks."""

    seconds: float
    kernel_kills: int
    wasted_fraction: float = 0.0
    more: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Course:
    """Where everything runs: the compiled task, its plan, the limit."""

    folder: Path
    tasks: Sequence[PlannedTask]
    limit_bytes: int

    def command(self, number: int) -> list[str]:
        return [str(self.folder / "memory_task"), str(self.folder / "plan"), str(number)]


def prepare(folder: Path, tasks: Sequence[PlannedTask], limit_bytes: int) -> Course:
    """Compile the task and write its plan."""
    source = ROOT / "benchmarks" / "memory_task.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-o", folder / "memory_task", source], check=True)
    write_plan(tasks, folder / "plan")
    return Course(folder, tasks, limit_bytes)


def run_erg(course: Course, policy: Sequence[str] = ()) -> Packing:
    """`erg run` in an empty folder; it has never seen these tasks."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [" ".join(course.command(task.number)) for task in course.tasks]
        (folder / "commands.txt").write_text("".join(f"{line}\n" for line in lines))
        argv = [ERG, "run", "--cpus-per-task", "0.05", "--memory", str(course.limit_bytes), *policy, "commands.txt"]
        run = run_command(argv, folder, log=folder / "log")
        status = json.loads(subprocess.check_output([ERG, "status", "--json"], cwd=folder))[0]
    ends = status["outcomes"]
    return Packing(
        seconds=run.seconds,
        kernel_kills=ends.get("oom_killed", 0),
        wasted_fraction=status["wasted_wall_ns"] / max(1, status["wall_ns"]),
        more={"outcomes": ends, "cpu_seconds": run.cpu_seconds},
    )


def run_xargs(course: Course, slots: int) -> Packing:
    """Fixed slots: `xargs -P` in a memory cgroup, in the order submitted."""
    numbers = course.folder / "numbers"
    numbers.write_text("".join(f"{task.number}\n" for task in course.tasks))
    with memory_group(course.limit_bytes) as group:
        argv = group.inside(["xargs", f"-P{slots}", "-n1", *course.command(0)[:-1]])
        run = run_command(argv, course.folder, stdin=numbers, may_fail=True)
        kills = group.kernel_kills()
    if run.exit_code and not kills:
        raise RuntimeError(f"xargs ended with {run.exit_code} though the kernel killed nothing")
    return Packing(run.seconds, kills, more={"slots": slots})


def largest_surviving(course: Course) -> int:
    """The largest number of slots at which nothing is killed, found by running; computed profiles say where to look first."""
    slots = 1
    while fixed_slots_peak(course.tasks, slots + 1)[0] <= course.limit_bytes:
        slots += 1
    if run_xargs(course, slots).kernel_kills:
        while slots > 1 and run_xargs(course, slots - 1).kernel_kills:
            slots -= 1
        return max(1, slots - 1)
    while not run_xargs(course, slots + 1).kernel_kills:
        slots += 1
    return slots


def run_omniscient(course: Course, order_name: str) -> Packing:
    """The list schedule, with real processes: what ends late holds its memory until it does."""
    ordered = sorted(course.tasks, key=LIST_ORDERS[order_name])
    scheduler = ListScheduler(ordered, int(course.limit_bytes * EXECUTED_FRACTION), LATE_STEPS)
    running: dict[
        PlannedTask, tuple[int, subprocess.Popen[bytes]]
    ] = {}  # with the step at which each should have ended
    with memory_group(course.limit_bytes) as group:
        began = time.perf_counter()
        while scheduler.waiting or running:
            step = int((time.perf_counter() - began) * 1000 / STEP_MS)
            running = {task: row for task, row in running.items() if row[1].poll() is None}
            late = [task for task, (due, _) in running.items() if due <= step]
            scheduler.overdue_bytes = sum(task.peak_bytes + OVERHEAD_BYTES for task in late)
            for task in scheduler.start(step):
                process = subprocess.Popen(group.inside(course.command(task.number)))
                running[task] = (step + task.duration_ms // STEP_MS + LATE_STEPS, process)
            time.sleep(max(0.0, began + (step + 1) * STEP_MS / 1000 - time.perf_counter()))
        seconds = time.perf_counter() - began
        return Packing(seconds, group.kernel_kills(), more={"order": order_name})


def measure(course: Course, slots: int, order_name: str, rounds: int) -> dict[str, list[Packing]]:
    """All contenders in turns, `rounds` times, each round starting with the next one."""
    contenders = {
        "erg run": lambda: run_erg(course),
        "fixed -P": lambda: run_xargs(course, slots),
        "omniscient, executed": lambda: run_omniscient(course, order_name),
    }
    names = list(contenders)
    found: dict[str, list[Packing]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            packing = contenders[name]()
            found[name].append(packing)
            print(
                f"  round {number + 1}/{rounds}  {name:22} {packing.seconds:7.1f} s,"
                f" {packing.kernel_kills} killed by the kernel, {packing.wasted_fraction:.1%} wasted",
                file=sys.stderr,
                flush=True,
            )
    return found


def options_of() -> argparse.Namespace:
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, nargs=2, default=(1.0, 4.0), metavar=("MIN", "MAX"), help="of a task")
    parser.add_argument("--limit-mib", type=int, default=4096)
    parser.add_argument(
        "--slots", type=int, help="the fixed -P, when it is known already; searched by running otherwise"
    )
    options = parser.parse_args()
    if options.quick:
        options.tasks, options.rounds = min(options.tasks, 40), 1
    if os.geteuid() != 0:
        parser.error("needs root, to confine xargs to the same memory in a cgroup")
    return options


def main() -> None:
    options = options_of()
    facts = machine_facts()
    tasks = draw_tasks(options.tasks, options.seed, tuple(options.seconds))
    limit_bytes = options.limit_mib * MIB
    order_name, computed_s = best_order(tasks, limit_bytes)
    with tempfile.TemporaryDirectory() as name:
        course = prepare(Path(name), tasks, limit_bytes)
        slots = options.slots or largest_surviving(course)
        found = measure(course, slots, order_name, options.rounds)
    median_s = {name: statistics.median(run.seconds for run in runs) for name, runs in found.items()}
    median_s["omniscient, computed"] = computed_s
    print(f"median seconds: {median_s}; the fixed -P is {slots}; the list order is {order_name}")
    results: dict[str, object] = {
        "median_seconds": median_s,
        "area_bound_seconds": area_bound_s(tasks, limit_bytes),
        "fixed_slots": slots,
        "list_order": order_name,
        "runs": {
            name: [
                {
                    "seconds": run.seconds,
                    "kernel_kills": run.kernel_kills,
                    "wasted_fraction": run.wasted_fraction,
                    **run.more,
                }
                for run in runs
            ]
            for name, runs in found.items()
        },
    }
    ours = found["erg run"]
    executed_s = median_s["omniscient, executed"]
    bars = [
        Bar(
            "makespan over the omniscient schedule's, executed", median_s["erg run"] / executed_s, 1.25, at_least=False
        ),
        Bar("the same over its ideal, where work costs no CPU", median_s["erg run"] / computed_s, 1.25, at_least=False),
        Bar("times as fast as the best surviving fixed -P", median_s["fixed -P"] / median_s["erg run"], 1.3),
        Bar("share of the work wasted", statistics.median(run.wasted_fraction for run in ours), 0.10, at_least=False),
        Bar("killed by the kernel, all rounds", sum(run.kernel_kills for run in ours), 0, at_least=False),
    ]
    finish("packing", options, facts, results, bars)


if __name__ == "__main__":
    main()
