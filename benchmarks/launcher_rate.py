"""How fast are attempts started and ended, against `xargs -P2 -n1`?

Runs `/bin/true` many times through the launcher's slots, in control groups where this machine has them, and the same
number through xargs. Nothing else of erg is measured: no store, no policy. With 32 queued on a slot, ends are reported
several at a time; with 1, every attempt waits for the worker's answer.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from _record import Bar, argument_parser, finish, in_turns, machine_facts, medians

from ergates.clock import SystemClock
from ergates.drivers.launchers.process import ProcessLauncher
from ergates.taskqueue.launching import Ended, Launch

SLOTS = 2


def xargs_rate(tasks: int) -> float:
    numbers = b"\n".join(b"%d" % number for number in range(tasks))
    begin = time.perf_counter()
    subprocess.run(["xargs", f"-P{SLOTS}", "-n1", "/bin/true"], input=numbers, check=True)
    return tasks / (time.perf_counter() - begin)


def launcher_rate(launcher: ProcessLauncher, slots: list[int], tasks: int, queued: int) -> float:
    """Tasks per second with up to `queued` attempts on each slot, half of them sent at a time."""
    base = dict(os.environ)
    slot_of: dict[int, int] = {}
    held = dict.fromkeys(slots, 0)
    given = ended = 0
    refill = max(1, queued // 2)
    begin = time.perf_counter()
    while ended < tasks:
        for slot in slots:
            if held[slot] <= queued - refill and given < tasks:
                count = min(queued - held[slot], tasks - given)
                batch = []
                for number in range(given, given + count):
                    env = {**base, "ERG_TASK_ID": str(number), "ERG_ATTEMPT": "1"}
                    batch.append(
                        Launch(key=("rate", number, 1), argv=("/bin/true", str(number)), env=env, output_job="rate")
                    )
                    slot_of[number] = slot
                launcher.launch(slot, batch)
                given += count
                held[slot] += count
        for event in launcher.poll(1.0):
            if isinstance(event, Ended):
                assert event.exit_code == 0, event
                ended += 1
                held[slot_of.pop(event.key[1])] -= 1
    return tasks / (time.perf_counter() - begin)


def main() -> None:
    parser = argument_parser(__doc__ or "", default_rounds=3)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--groups", choices=("auto", "v2", "v1", "none"), default="auto")
    options = parser.parse_args()
    if options.quick:
        options.tasks, options.rounds = min(options.tasks, 500), 1
    facts = machine_facts()
    tasks = options.tasks
    with tempfile.TemporaryDirectory() as folder:
        launcher = ProcessLauncher(Path(folder), str(uuid.uuid4()), clock=SystemClock(), prefer=options.groups)
        slots = [launcher.open_slot() for _ in range(SLOTS)]
        try:
            contenders = {
                "xargs": lambda: xargs_rate(tasks),
                "launcher, 32 queued": lambda: launcher_rate(launcher, slots, tasks, 32),
                "launcher, 1 queued": lambda: launcher_rate(launcher, slots, tasks, 1),
            }
            figures = in_turns(contenders, options.rounds)
        finally:
            launcher.close()
    rate = medians(figures)
    for name, value in rate.items():
        print(f"{name:20} {value:8,.0f} tasks/s  {value / rate['xargs']:.2f} x xargs")
    bars = [Bar("tasks/s with 32 queued at least 1.0 x xargs", rate["launcher, 32 queued"] / rate["xargs"], 1.0)]
    results = {"groups": launcher.group_kind, "tasks_per_second": figures, "median_tasks_per_second": rate}
    finish("launcher_rate", options, facts, results, bars)


if __name__ == "__main__":
    main()
