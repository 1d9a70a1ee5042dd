"""What does a run of an experiment cost beyond its programs: a server and two clients in three network namespaces?

Measured between runs, from the end of the last program of one to the start of the first program of the next: gathering, manifest,
store and the coming together of the next run's hosts. The programs are those of examples/experiments/key-value.toml. Needs root.
"""

from __future__ import annotations

import json
import shutil
import statistics
import tempfile
from itertools import pairwise
from pathlib import Path

from _record import ERG, ROOT, Bar, argument_parser, finish, machine_facts, run_command

BAR_S = 0.5


def gaps_s(folder: Path) -> list[float]:
    """Between the runs of a finished experiment, in the order in which they were made."""
    spans = []
    for path in folder.glob("runs/*/manifest.json"):
        programs = [each for member in json.loads(path.read_text())["members"] for each in member["programs"]]
        spans.append((min(each["started_ns"] for each in programs), max(each["ended_ns"] for each in programs)))
    spans.sort()
    return [(later[0] - earlier[1]) / 1e9 for earlier, later in pairwise(spans)]


def main() -> None:
    parser = argument_parser(__doc__ or "")
    options = parser.parse_args()
    repetitions = 1 if options.quick else options.rounds
    facts = machine_facts()
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "experiments"
        shutil.copytree(
            ROOT / "examples" / "experiments", place, ignore=shutil.ignore_patterns("*.experiment", "__pycache__")
        )
        words = [ERG, "experiment", "run", "key-value.toml", "--repetitions", str(repetitions), "-q"]
        whole = run_command(words, place, log=Path(name) / "log")
        gaps = gaps_s(place / "key-value.experiment")
    results = {
        "runs": len(gaps) + 1,
        "seconds": whole.seconds,
        "gap_s_median": statistics.median(gaps),
        "gap_s_max": max(gaps),
        "gaps_s": gaps,
    }
    for key in ("runs", "seconds", "gap_s_median", "gap_s_max"):
        print(f"{key:14} {results[key]:10.4g}")
    bars = [Bar("most seconds between two runs", max(gaps), BAR_S, at_least=False)]
    finish("experiment_overhead", options, facts, results, bars)


if __name__ == "__main__":
    main()
