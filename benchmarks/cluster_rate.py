"""How fast do tasks that do nothing go through a cluster of one node with 2 slots, from submission to result?

Python functions: `ergates.map(..., store=...)` over Redis with its append-only file on, beside Celery, RQ, Dask, Parsl and Ray.
/bin/true: a job in the same store, beside HyperQueue's local cluster. Everybody's workers are up and warm before the clock
starts; Celery and RQ get a Redis without persistence, which is in their favour.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from _private_redis import private_redis
from _record import ROOT, Bar, argument_parser, finish, in_turns, machine_facts, medians
from python_noop import rate as process_rate
from python_noop import ray_python
from true_rate import hyperqueue_python, hyperqueue_seconds

RIVALS = "celery==5.7.0 rq==2.12.0 dask[distributed]==2026.8.0 parsl==2026.10.26 redis==8.1.0"
BARS = {"RQ": 3.0, "Celery": 3.0, "Dask": 3.0, "Parsl": 3.0, "Ray": 1.0}
PATIENCE_S = 900


def rivals_python() -> Path | None:
    """The interpreter of the rivals' own environment, made at the first use; None when it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ergates-benchmarks"
    folder = cache / "task-queues"
    python = folder / "bin" / "python"
    stamp = folder / ".installed"
    if not stamp.exists() or stamp.read_text() != RIVALS:
        print(f"installing {RIVALS} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        answer = subprocess.run([python, "-m", "pip", "--quiet", "install", *RIVALS.split()], stderr=subprocess.PIPE)
        if answer.returncode:
            print(f"they cannot be installed here, left out: {answer.stderr[-300:]!r}", file=sys.stderr)
            return None
        stamp.write_text(RIVALS)
    return python


def ours(kind: str, count: int, slots: int) -> float:
    """Tasks per second of a fresh store and a fresh worker."""
    with private_redis() as socket:
        script = ROOT / "benchmarks" / "_cluster_rate.py"
        return count / _seconds([sys.executable, str(script), kind, str(count), str(slots), str(socket)])


def rival(python: Path, name: str, count: int, slots: int) -> float:
    with private_redis(persistent=False) as socket:
        script = ROOT / "benchmarks" / "_peer_noop_rate.py"
        return count / _seconds([str(python), str(script), name, str(count), str(slots), str(socket)])


def _seconds(command: list[str]) -> float:
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    if answer.returncode:
        raise RuntimeError(f"{command} ended with {answer.returncode}: {answer.stderr[-2000:]}")
    return float(answer.stdout.split()[-1])


def main() -> None:
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--no-ray", action="store_true", help="do not install or run Ray")
    options = parser.parse_args()
    if options.quick:
        options.calls, options.rounds = min(options.calls, 1_000), 1
    count, slots = options.calls, options.slots
    functions: dict[str, Callable[[], float]] = {"ergates": partial(ours, "calls", count, slots)}
    python = rivals_python()
    if python is not None:
        functions |= {name: partial(rival, python, name, count, slots) for name in BARS if name != "Ray"}
    ray = None if options.no_ray else ray_python()
    if ray is not None:
        functions["Ray"] = lambda: process_rate(ray, "Ray", count, slots)
    programs: dict[str, Callable[[], float]] = {"ergates": partial(ours, "true", count, slots)}
    hyperqueue = hyperqueue_python()
    if hyperqueue is not None:
        programs["HyperQueue"] = lambda: count / hyperqueue_seconds(hyperqueue, count, slots)
    facts = machine_facts()
    print("/bin/true", file=sys.stderr)
    true_figures = in_turns(programs, options.rounds)
    print("Python functions", file=sys.stderr)
    call_figures = in_turns(functions, options.rounds)
    bars = []
    for title, figures, needed in (("functions", call_figures, BARS), ("/bin/true", true_figures, {"HyperQueue": 3.0})):
        median = medians(figures)
        for name, value in sorted(median.items(), key=lambda row: -row[1]):
            print(f"{title:10} {name:12} {value:10,.0f}/s  ours is {median['ergates'] / value:.2f} x as fast")
        bars += [
            Bar(f"{title}/s at least {times} x {name}", median["ergates"] / median[name], times)
            for name, times in needed.items()
            if name in median
        ]
    results = {
        "functions_per_second": call_figures,
        "true_per_second": true_figures,
        "median_functions_per_second": medians(call_figures),
        "median_true_per_second": medians(true_figures),
    }
    finish("cluster_rate", options, facts, results, bars)


if __name__ == "__main__":
    main()
