"""How fast are attempts started and ended, against `xargs -P2 -n1`?

Runs `/bin/true` many times through two slots, in control groups where this machine has them, and the same number through
xargs, turn about in one process, and prints medians. Nothing else of erg is measured: no store, no policy.

    .venv/bin/python benchmarks/launcher_rate.py [--tasks 10000] [--rounds 3] [--groups auto|v2|v1|none]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--groups", choices=("auto", "v2", "v1", "none"), default="auto")
    arguments = parser.parse_args()
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        launcher = ProcessLauncher(Path(folder), str(uuid.uuid4()), clock=SystemClock(), prefer=arguments.groups)
        slots = [launcher.open_slot() for _ in range(SLOTS)]
        try:
            for _ in range(arguments.rounds):
                rates.setdefault("xargs -P2 -n1", []).append(xargs_rate(arguments.tasks))
                for queued in (32, 1):
                    rate = launcher_rate(launcher, slots, arguments.tasks, queued)
                    rates.setdefault(f"launcher, {queued} queued per slot", []).append(rate)
        finally:
            launcher.close()
    reference = statistics.median(rates["xargs -P2 -n1"])
    print(f"groups: {launcher.group_kind}, {arguments.tasks} x /bin/true, {SLOTS} slots, {os.cpu_count()} cores")
    print(f"{'':34} tasks/s  x xargs  (all rounds)")
    for name, values in rates.items():
        middle = statistics.median(values)
        rounds = " ".join(f"{value:.0f}" for value in values)
        print(f"{name:34} {middle:7.0f}  {middle / reference:7.2f}  ({rounds})")


if __name__ == "__main__":
    main()
