"""Writes the table of all runs: seven policies, seven cache sizes, six traces. 294 rows, one task each."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

from policies import POLICIES

TRACES = (
    # alpha, requests, objects: short traces take some 30 MB, the longest several hundred
    (0.7, 60_000, 6_000),
    (0.9, 120_000, 12_000),
    (1.1, 240_000, 24_000),
    (0.7, 500_000, 50_000),
    (0.9, 1_000_000, 100_000),
    (1.1, 2_000_000, 200_000),
)
SIZE_FRACTIONS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4)
"""Cache sizes as shares of the objects there are."""


def rows() -> list[dict[str, object]]:
    """Short traces first, so that the first results are there at once."""
    return [
        {
            "policy": policy,
            "size": max(1, round(objects * fraction)),
            "requests": requests,
            "objects": objects,
            "alpha": alpha,
            "seed": seed,
        }
        for seed, (alpha, requests, objects) in enumerate(TRACES, start=1)
        for policy in POLICIES
        for fraction in SIZE_FRACTIONS
    ]


def write(path: Path) -> int:
    """Write the table as CSV; returns the number of rows."""
    table = rows()
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return len(table)


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "grid.csv"))
