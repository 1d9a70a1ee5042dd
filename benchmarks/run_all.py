"""Runs every benchmark, one after another, and says at the end which bars were missed.

What comes after the options here goes to each: `run_all.py --quick`, `run_all.py --save`, `run_all.py --only packing`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOT_BENCHMARKS = {"run_all", "record_soak"}


def benchmark_files() -> dict[str, Path]:
    """Every script of this folder that asks a question, by name."""
    return {
        path.stem: path
        for path in sorted(HERE.glob("*.py"))
        if not path.stem.startswith("_") and path.stem not in NOT_BENCHMARKS
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small versions, to see that they work")
    parser.add_argument("--save", action="store_true", help="write the records into benchmarks/results/")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=sorted(benchmark_files()), help="only these")
    options = parser.parse_args()
    missed: list[str] = []
    for name, path in benchmark_files().items():
        if options.only and name not in options.only:
            continue
        print(f"== {name}", flush=True)
        passed_on = [flag for flag in ("--quick", "--save") if getattr(options, flag[2:])]
        answer = subprocess.run([sys.executable, path, *passed_on], stdout=subprocess.PIPE, text=True)
        print(answer.stdout, end="", flush=True)
        missed += [f"{name}: {line}" for line in answer.stdout.splitlines() if line.startswith("MISSED")]
        if answer.returncode:
            missed.append(f"{name}: ended with exit code {answer.returncode}")
    print("\n".join(["", "not reached:", *missed] if missed else ["", "every bar holds"]))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
