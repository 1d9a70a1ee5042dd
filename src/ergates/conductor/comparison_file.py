"""`comparison.json`: every finding as a record, with its sentence, for programs and for later."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ergates import __version__
from ergates.drivers.whole_file import write_whole
from ergates.experiment.spec import Comparison, Experiment
from ergates.experiment.statistics.findings import Finding
from ergates.experiment.table import Table, failed_rows

COMPARISON = "comparison.json"


def comparison_json(experiment: Experiment, comparison: Comparison, table: Table, findings: Sequence[Finding]) -> str:
    """One document: what was compared and how, which runs failed, every finding."""
    failed = failed_rows(table)
    document = {
        "experiment": experiment.name,
        "ergates": __version__,
        "axis": comparison.axis,
        "baseline": comparison.baseline,
        "statistic": comparison.statistic,
        "confidence": comparison.confidence,
        "paired": comparison.paired,
        "runs": len(table.rows),
        "failed": [{"run": row["run"], "folder": row["folder"], "problem": row["problem"]} for row in failed],
        "findings": [_record(finding) for finding in findings],
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _record(finding: Finding) -> dict[str, object]:
    record: dict[str, object] = msgspec.to_builtins(finding)
    return {"words": finding.words, **record, "point": dict(finding.point)}


def write_comparison(
    folder: Path, experiment: Experiment, comparison: Comparison, table: Table, findings: Sequence[Finding]
) -> Path:
    """Into the experiment's folder, whole or not at all.

    Raises:
        OSError: no room, no right.
    """
    path = folder / COMPARISON
    write_whole(path, comparison_json(experiment, comparison, table, findings).encode("utf-8", "surrogateescape"))
    return path
