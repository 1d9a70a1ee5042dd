"""From what `erg export` wrote to a table and a figure: collect.py RESULTS.jsonl FIGURE.png

Each line of the export is one task: what it cost is in Ergates' own columns, what it found out is the line it printed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from figure import STYLES, Result, draw
from rich.console import Console
from rich.table import Table

TABLE_FRACTION = 0.1
"""The table shows caches of a tenth of the objects; the figure shows all."""


def read_results(path: Path) -> list[Result]:
    """Every finished run; fails when a task did not print the line it should have."""
    results: list[Result] = []
    for line in path.read_text().splitlines():
        task = json.loads(line)
        if task["state"] != "done":
            continue
        printed = json.loads(task["stdout"])
        results.append(
            Result(
                policy=printed["policy"],
                size=printed["size"],
                requests=printed["requests"],
                objects=printed["objects"],
                alpha=printed["alpha"],
                miss_ratio=printed["miss_ratio"],
                wall_s=task["wall_s"],
                peak_bytes=task["peak_bytes"],
            )
        )
    return results


def miss_ratio_table(results: Sequence[Result]) -> Table:
    """One row for each trace, one column for each policy, and what the trace's runs cost."""
    table = Table(
        title=f"Miss ratio of a cache that holds {TABLE_FRACTION:.0%} of all objects, and what finding out cost"
    )
    for heading in (
        "α",
        "requests",
        *(label.split(" ")[0] for label, _, _ in STYLES.values()),
        "runs",
        "seconds",
        "largest",
    ):
        table.add_column(heading, justify="right")
    for trace in sorted({result.trace for result in results}, key=lambda trace: (trace[1], trace[0])):
        runs = [result for result in results if result.trace == trace]
        shown = {run.policy: run.miss_ratio for run in runs if run.size == max(1, round(trace[2] * TABLE_FRACTION))}
        table.add_row(
            f"{trace[1]:g}",
            f"{trace[0]:,}",
            *(f"{shown[policy]:.1%}" if policy in shown else "-" for policy in STYLES),
            str(len(runs)),
            f"{sum(run.wall_s for run in runs):.1f}",
            f"{max(run.peak_bytes for run in runs) / 2**20:.0f} MiB",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="written by: erg export --format jsonl --with-output")
    parser.add_argument("figure", type=Path, help="PNG to write")
    chosen = parser.parse_args()
    results = read_results(chosen.results)
    if not results:
        parser.error(f"{chosen.results}: no finished run in it")
    Console(width=max(Console().width, 118)).print(miss_ratio_table(results))
    draw(results, chosen.figure)
    print(f"figure: {chosen.figure}")


if __name__ == "__main__":
    main()
