"""`erg worker slurm join`: inside an allocation, become its worker. The batch script of `up` and `auto` does this."""

from __future__ import annotations

import os
import subprocess
import sys

import click

from ergates.cli.options import examples


@click.command(epilog=examples("erg worker slurm join --walltime 3600 --store /shared/store.toml -- --idle-timeout 5m"))
@click.option(
    "--walltime", "walltime_s", type=click.IntRange(1), required=True, metavar="SECONDS", help="That was asked for."
)
@click.option("--store", required=True, metavar="FILE", help="The store file.")
@click.option("--json", "as_json", is_flag=True, help="As of `erg worker start`.")
@click.argument("start_options", nargs=-1, type=click.UNPROCESSED, metavar="[-- OPTIONS OF `erg worker start`]")
def command(walltime_s: int, store: str, as_json: bool, start_options: tuple[str, ...]) -> None:
    """Become the worker of this allocation: its cores and memory, its end, its place for labels."""
    from ergates.clock import SystemClock
    from ergates.drivers.machine import cpu_ids
    from ergates.drivers.placers.slurm_join import worker_arguments
    from ergates.units import SECOND_NS

    arguments = worker_arguments(
        os.environ,
        walltime_s=walltime_s,
        now_s=SystemClock().now_ns() // SECOND_NS,
        time_left=_time_left,
        cores=len(cpu_ids()),
        options=(*start_options, "--json") if as_json else start_options,
    )
    os.execv(sys.executable, [sys.executable, "-m", "ergates", "worker", "start", f"--store={store}", *arguments])


def _time_left(job: str) -> str:
    """What squeue says; empty where nodes may not ask."""
    try:
        asked = subprocess.run(
            ["squeue", "--noheader", f"--jobs={job}", "--format=%L"], capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip()
