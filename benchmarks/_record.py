"""What all benchmarks share: the same options, contenders measured in turns, and a record that says on which machine and when.

Contenders run side by side: round by round, each round in a different order, so that a machine that slows down or
speeds up over the minutes does so for all of them. Medians are compared, all figures are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
ERG = str(Path(sys.executable).parent / "erg")
DEFAULT_ROUNDS = 5


def argument_parser(question: str, default_rounds: int = DEFAULT_ROUNDS) -> argparse.ArgumentParser:
    """A parser with the options that every benchmark has: `--quick`, `--rounds`, `--save`."""
    parser = argparse.ArgumentParser(description=question, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a small version, to see that it works; its figures mean little"
    )
    parser.add_argument(
        "--rounds", type=int, default=default_rounds, help="rounds to take medians of (default: %(default)s)"
    )
    parser.add_argument("--save", action="store_true", help="write the record into benchmarks/results/")
    return parser


@dataclass(frozen=True, slots=True)
class CommandRun:
    """One command, run to its end.

    Args:
        seconds: wall time.
        cpu_seconds: user plus system time of it and of what it waited for.
        peak_rss_bytes: largest resident set of any single process in it.
    """

    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    exit_code: int


def run_command(
    argv: Sequence[str],
    cwd: Path,
    *,
    stdin: Path | None = None,
    env: Mapping[str, str] | None = None,
    may_fail: bool = False,
    log: Path | None = None,
) -> CommandRun:
    """Run one command and measure it. Its output goes to `log`, else to /dev/null.

    Raises:
        RuntimeError: it ended with another code than 0 and `may_fail` is False.
    """
    with open(stdin or os.devnull, "rb") as source, open(log or os.devnull, "wb") as sink:
        started = time.perf_counter()
        process = subprocess.Popen(argv, cwd=cwd, stdin=source, stdout=sink, stderr=subprocess.STDOUT, env=env)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode and not may_fail:
        said = log.read_text(errors="replace")[-2000:] if log else "(not kept)"
        raise RuntimeError(f"{' '.join(argv)} ended with {process.returncode} in {cwd}; its output: {said}")
    return CommandRun(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, process.returncode)


def in_turns(contenders: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Measure every contender once a round, each round starting with the next one; figures in order of the rounds."""
    names = list(contenders)
    figures: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            figures[name].append(contenders[name]())
            print(f"  round {number + 1}/{rounds}  {name:28} {figures[name][-1]:12,.4g}", file=sys.stderr, flush=True)
    return figures


def only(contenders: Mapping[str, Callable[[], float]], name: str) -> None:
    """Measure one contender once and print its figure as JSON: what the files under experiments/ call."""
    if name not in contenders:
        sys.exit(f"no contender {name!r} here\n  expected: {', '.join(contenders)}")
    print(json.dumps({"contender": name, "rate": contenders[name]()}))


def medians(figures: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Median of each contender's figures."""
    return {name: statistics.median(values) for name, values in figures.items()}


def machine_facts() -> dict[str, object]:
    """What the figures depend on and a reader cannot guess."""
    cpu_info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.partition(":")[2].strip() for line in cpu_info.splitlines() if line.startswith("model name")]
    memory_kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory_kib / 1024**2, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
        "cgroups": "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "v1",
    }


@dataclass(frozen=True, slots=True)
class Bar:
    """One thing a benchmark was asked to reach.

    Args:
        says: in words, "tasks/s at least 3 x GNU parallel".
        reached: the figure that was measured.
        needed: the figure it is compared with.
        at_least: True when larger is better.
    """

    says: str
    reached: float
    needed: float
    at_least: bool = True

    @property
    def holds(self) -> bool:
        return self.reached >= self.needed if self.at_least else self.reached <= self.needed


def finish(
    name: str,
    options: argparse.Namespace,
    facts: Mapping[str, object],
    results: Mapping[str, object],
    bars: Sequence[Bar],
) -> None:
    """Print the bars; with `--save`, write `benchmarks/results/NAME.json`.

    Args:
        facts: `machine_facts()` taken before the first measurement.
        results: everything measured, as JSON values.
    """
    for bar in bars:
        sign = ">=" if bar.at_least else "<="
        print(f"{'holds ' if bar.holds else 'MISSED'}  {bar.says}: {bar.reached:.4g} (needed {sign} {bar.needed:.4g})")
    if not options.save:
        return
    record = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": _commit(),
        "machine": dict(facts),
        "options": {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()},
        "results": dict(results),
        "bars": [
            {
                "says": bar.says,
                "reached": bar.reached,
                "needed": bar.needed,
                "at_least": bar.at_least,
                "holds": bar.holds,
            }
            for bar in bars
        ],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}{'-quick' if options.quick else ''}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(f"saved {path.relative_to(ROOT)}")


def _commit() -> str:
    answer = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return answer.stdout.strip() or "unknown"
