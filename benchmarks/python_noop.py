"""How fast do Python functions that do nothing go through, with 2 worker processes?

`ergates.map` (its workers' start and end included) and `ergates.Executor.submit`, beside Ray (started and warm) and the
standard library's ProcessPoolExecutor, which keeps neither limits nor output, does not know lambdas, and is lost as a
whole when one call kills its process.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from _record import ROOT, Bar, argument_parser, finish, in_turns, machine_facts, medians, only

RAY = "ray==2.60.0"
SCRIPT = ROOT / "benchmarks" / "_noop_rate.py"
OURS = ("ergates.map", "ergates submit", "pool submit", "pool map", "pool map, chunks of 100")
BAR_TIMES_RAY = 2.0
PATIENCE_S = 600


def ray_python() -> Path | None:
    """The interpreter of Ray's own environment, made at the first use; None, and a reason, when it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ergates-benchmarks"
    folder = cache / RAY.replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / ".installed").exists():
        print(f"installing {RAY} into {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        answer = subprocess.run([python, "-m", "pip", "--quiet", "install", RAY], stderr=subprocess.PIPE, text=True)
        if answer.returncode:
            print(f"{RAY} cannot be installed here, left out: {answer.stderr.strip()[-300:]}", file=sys.stderr)
            return None
        (folder / ".installed").touch()
    return python


def rate(python: Path, contender: str, calls: int, workers: int) -> float:
    """Calls per second of one contender in a fresh process."""
    command = [str(python), str(SCRIPT), contender, str(calls), str(workers)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S)
    if answer.returncode:
        raise RuntimeError(f"{contender} ended with {answer.returncode}: {answer.stderr[-2000:]}")
    return calls / float(answer.stdout.split()[-1])


def main() -> None:
    parser = argument_parser(__doc__ or "")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--no-ray", action="store_true", help="do not install or run Ray")
    parser.add_argument("--one", metavar="CONTENDER", help="measure only this one, once, and print JSON")
    options = parser.parse_args()
    if options.quick:
        options.calls, options.rounds = min(options.calls, 2_000), 1
    contenders: dict[str, Callable[[], float]] = {
        name: partial(rate, Path(sys.executable), name, options.calls, options.workers) for name in OURS
    }
    python = None if options.no_ray else ray_python()
    if python is not None:
        contenders["Ray"] = partial(rate, python, "Ray", options.calls, options.workers)
    if options.one:
        only(contenders, options.one)
        return
    facts = machine_facts()
    figures = in_turns(contenders, options.rounds)
    median = medians(figures)
    for name, value in sorted(median.items(), key=lambda row: -row[1]):
        print(f"{name:24} {value:10,.0f} calls/s  ergates.map is {median['ergates.map'] / value:.2f} x as fast")
    bars = []
    if "Ray" in median:
        reached = median["ergates.map"] / median["Ray"]
        bars.append(Bar(f"calls/s of ergates.map at least {BAR_TIMES_RAY} x Ray", reached, BAR_TIMES_RAY))
    finish("python_noop", options, facts, {"calls_per_second": figures, "median_calls_per_second": median}, bars)


if __name__ == "__main__":
    main()
