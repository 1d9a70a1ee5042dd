"""`erg doctor`: is this machine fit to run work, and what would make it fitter?"""

from __future__ import annotations

from pathlib import Path

import click

from ergates.cli.doctor_checks import all_findings
from ergates.cli.doctor_cluster import cluster_findings
from ergates.cli.options import common_options, examples

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@click.command(
    epilog=examples(
        "erg doctor", "erg doctor --store store.toml    whether that store lets us in, too", "erg doctor --json"
    )
)
@common_options
def command(state_dir: str | None, as_json: bool) -> int:
    """Check what Ergates needs here, and say what to do about what is missing. Exit code 1 when it cannot run at all."""
    findings = [*all_findings(Path(state_dir or ".ergates").absolute()), *cluster_findings()]
    if as_json:
        from ergates.cli.json_output import print_json

        print_json([{"name": f.name, "level": f.level, "found": f.found, "advice": f.advice} for f in findings])
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            click.echo(f"{_MARKS[finding.level]}  {finding.name.ljust(width)}  {finding.found}")
            if finding.advice:
                click.echo(f"{' ' * (width + 8)}{finding.advice}")
    return 1 if any(finding.level == "fail" for finding in findings) else 0
