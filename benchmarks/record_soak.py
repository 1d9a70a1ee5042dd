"""Runs the tests with full counts (marker `soak`) and records what each one counted, and how long it took.

A soak test says what it counted with pytest's `record_property("kills", 500)`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime
from pathlib import Path

from _record import ROOT, finish, machine_facts

Row = dict[str, object]


def rows_of(report: Path) -> list[Row]:
    """One row for each test of a JUnit report: name, seconds, outcome, and the properties it recorded."""
    rows: list[Row] = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        outcome = next((name for name in ("failure", "error", "skipped") if case.find(name) is not None), "passed")
        recorded = {str(item.get("name")): str(item.get("value")) for item in case.iter("property")}
        rows.append(
            {
                "test": f"{case.get('classname')}::{case.get('name')}",
                "seconds": round(float(case.get("time", "0")), 1),
                "outcome": outcome,
                **({"counted": recorded} if recorded else {}),
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tests", nargs="*", default=["tests"], help="files or folders (default: all)")
    parser.add_argument("--timeout", type=int, default=3600, help="seconds for each test (default: %(default)s)")
    options = parser.parse_args()
    facts = machine_facts()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        pytest = [sys.executable, "-m", "pytest", "-m", "soak", f"--timeout={options.timeout}"]
        # xunit1 is the form of report in which tests may record properties of their own.
        reporting = [f"--junitxml={report}", "-o", "junit_family=xunit1"]
        answer = subprocess.run([*pytest, *reporting, *options.tests], cwd=ROOT)
        rows = rows_of(report) if report.exists() else []
    options.save, options.quick = bool(rows), False
    finish(
        f"soak-{datetime.now(UTC):%Y-%m-%d-%H%M}", options, facts, {"exit_code": answer.returncode, "tests": rows}, []
    )
    return answer.returncode


if __name__ == "__main__":
    sys.exit(main())
