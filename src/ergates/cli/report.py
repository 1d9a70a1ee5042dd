"""`erg report`: sums over the ledger, wasted work included."""

from __future__ import annotations

import sys

import click

from ergates.cli.jobs import choose_job
from ergates.cli.opened import opened_store
from ergates.cli.options import common_options, examples
from ergates.cli.tables import Column, table_lines
from ergates.cli.terminal import width_of
from ergates.cli.wording import count, percent, usd
from ergates.drivers.stores.sqlite_report import LedgerSums, SqliteReport
from ergates.units import format_bytes, format_duration

_COLUMNS = (
    Column("attempts", "right"),
    Column("done", "right"),
    Column("wall", "right"),
    Column("cpu", "right"),
    Column("wasted cpu", "right"),
    Column("wasted", "right"),
    Column("largest", "right"),
    Column("cost", "right"),
)


@click.command(
    epilog=examples(
        "erg report                      all jobs",
        "erg report j3 --by outcome      where the time went",
        "erg report j3 --by label:size   by a parameter",
        "erg report --by host --json",
    )
)
@click.argument("job", required=False)
@click.option("--by", default="job", show_default=True, metavar="job|label:KEY|host|worker|outcome|priority")
@common_options
def command(job: str | None, by: str, state_dir: str | None, as_json: bool) -> None:
    """Sums over all attempts, wasted ones included, of JOB or of all jobs.

    Wall time is summed over attempts. "Wasted" is what attempts used that did not end in success.
    """
    with opened_store(state_dir) as (store, _):
        jobs = () if job is None else (choose_job(store, job).id,)
        sums = SqliteReport(store.connection()).sums(by, jobs)
    if as_json:
        from ergates.cli.json_output import print_json

        print_json(sums)
    else:
        click.echo("\n".join(report_lines(by, sums, width_of(sys.stdout, 120))))


def report_lines(by: str, sums: tuple[LedgerSums, ...], width: int) -> list[str]:
    """One row a group, and their total where there are several."""
    if not sums:
        return ["no attempts yet"]
    rows = [_row(row.group or "(none)", row) for row in sums]
    if len(sums) > 1:
        rows.append(_row("all", _total(sums)))
    return table_lines((Column(by.removeprefix("label:"), elastic=True), *_COLUMNS), rows, width)


def _row(name: str, row: LedgerSums) -> tuple[str, ...]:
    return (
        name,
        count(row.attempts),
        count(row.succeeded),
        format_duration(row.wall_ns),
        format_duration(row.cpu_ns),
        format_duration(row.wasted_cpu_ns) if row.wasted_cpu_ns else "",
        percent(row.wasted_cpu_ns, row.cpu_ns) if row.wasted_cpu_ns else "",
        format_bytes(row.peak_bytes) if row.peak_bytes else "",
        usd(row.cost_usd_micros) if row.cost_usd_micros is not None else "",
    )


def _total(sums: tuple[LedgerSums, ...]) -> LedgerSums:
    costs = [row.cost_usd_micros for row in sums if row.cost_usd_micros is not None]
    return LedgerSums(
        group="all",
        attempts=sum(row.attempts for row in sums),
        succeeded=sum(row.succeeded for row in sums),
        wall_ns=sum(row.wall_ns for row in sums),
        cpu_ns=sum(row.cpu_ns for row in sums),
        wasted_wall_ns=sum(row.wasted_wall_ns for row in sums),
        wasted_cpu_ns=sum(row.wasted_cpu_ns for row in sums),
        peak_bytes=max(row.peak_bytes for row in sums),
        cost_usd_micros=sum(costs) if costs else None,
    )
