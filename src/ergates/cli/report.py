"""`erg report`: sums over the ledger, wasted work included."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing

import click

from ergates.cli.drained import tell_drained
from ergates.cli.jobs import choose_job
from ergates.cli.ledger_option import NamedLedger, ledger_option
from ergates.cli.opened import named_store, opened_store
from ergates.cli.options import common_options, examples
from ergates.cli.tables import Column, table_lines
from ergates.cli.terminal import width_of
from ergates.cli.wording import count, joules, percent, plural, usd
from ergates.errors import UsageError
from ergates.taskqueue.ledger_sums import LedgerSums, total_of
from ergates.units import format_bytes, format_duration

_COLUMNS = (
    Column("attempts", "right"),
    Column("done", "right"),
    Column("wall", "right"),
    Column("wasted wall", "right"),
    Column("cpu", "right"),
    Column("wasted cpu", "right"),
    Column("wasted", "right"),
    Column("largest", "right"),
    Column("cost", "right"),
    Column("wasted cost", "right"),
    Column("energy", "right"),
    Column("wasted energy", "right"),
    Column("energy is"),
)


@click.command(
    epilog=examples(
        "erg report                      all jobs",
        "erg report j3 --by outcome      where the time went",
        "erg report j3 --by label:size   by a parameter",
        "erg report --by host --json",
        "erg report --by reason --ledger postgresql://db1/ergates   everything that ever ran",
    )
)
@click.argument("job", required=False)
@click.option(
    "--by", default="job", show_default=True, metavar="job|label:KEY|host|worker|outcome|reason|priority|queue"
)
@ledger_option
@common_options
def command(job: str | None, by: str, ledger: NamedLedger | None, state_dir: str | None, as_json: bool) -> None:
    """Sums over all attempts, wasted ones included, of JOB or of all jobs.

    Of this directory's store, of a cluster's (--store), of a ledger, or of a cluster and its ledger together: then what is not in
    the ledger yet is added, each attempt once. Wall time is summed over attempts. "Wasted" is what attempts used that gave no
    result. `priority` is known of this directory's jobs only, `queue` of a cluster's.
    """
    by = "host" if by == "node" else by
    sums = _cluster_sums(job, by, ledger) if _of_cluster(ledger, state_dir) else _own(job, by, state_dir)
    if as_json:
        from ergates.cli.json_output import print_json

        print_json(sums)
    else:
        click.echo("\n".join(report_lines(by, sums, width_of(sys.stdout, 140))))


def _of_cluster(ledger: NamedLedger | None, state_dir: str | None) -> bool:
    """A ledger that is only in the environment belongs to the cluster, not to the jobs of this directory."""
    if named_store() is not None or (ledger is not None and not ledger.from_environment):
        return True
    if ledger is None:
        return False
    try:
        with opened_store(state_dir):
            return False
    except UsageError:
        return True


def _own(job: str | None, by: str, state_dir: str | None) -> tuple[LedgerSums, ...]:
    from ergates.drivers.stores.sqlite import SqliteStore
    from ergates.drivers.stores.sqlite_report import SqliteReport

    with opened_store(state_dir) as (store, _):
        assert isinstance(store, SqliteStore)
        jobs = () if job is None else (choose_job(store, job).id,)
        return SqliteReport(store.connection()).sums(by, jobs)


def _cluster_sums(job: str | None, by: str, named: NamedLedger | None) -> tuple[LedgerSums, ...]:
    from ergates.drivers.ledgers.joined_sums import UNDRAINED_MOST, chosen_jobs, cluster_sums, report_jobs
    from ergates.drivers.ledgers.open_ledger import open_ledger
    from ergates.drivers.stores.open_cluster import open_cluster_store

    address = named_store()
    with ExitStack() as stack:
        store = None if address is None else stack.enter_context(closing(open_cluster_store(address)))
        where = None if named is None else named.to_read()
        ledger = None if where is None else stack.enter_context(closing(open_ledger(where)))
        jobs = report_jobs(store, ledger)
        chosen = jobs if job is None else chosen_jobs(jobs, job)
        ended, place = 0, None
        if store is not None and ledger is None:
            place = store.ledger_noted()
            ids = {each.id for each in chosen}
            ended = sum(sum(status.outcomes.values()) for status in store.jobs() if status.id in ids)
        report = cluster_sums(store, ledger, by, chosen, all_jobs=job is None)
    if report.left_out:
        click.echo(
            f"erg: more than {count(UNDRAINED_MOST)} attempts are not in the ledger yet; the later ones are not counted"
            "\n  hint: erg controller --once",
            err=True,
        )
    elif (missing := ended - sum(each.attempts for each in report.sums)) > 0:
        tell_drained(plural(missing, "attempt"), place)
    return report.sums


def report_lines(by: str, sums: Sequence[LedgerSums], width: int) -> list[str]:
    """One row a group, and their total where there are several; in a narrow terminal sums of waste give way to names."""
    total = total_of(sums)
    if total is None:
        return ["no attempts yet"]
    rows = [_row(row.group or "(none)", row) for row in sums]
    if len(sums) > 1:
        rows.append(_row("all", total))
    columns = (Column(by.removeprefix("label:"), elastic=True), *_COLUMNS)
    for narrow in ((), ("wasted wall",), ("wasted wall", "wasted cpu")):
        kept = [i for i, column in enumerate(columns) if column.heading not in narrow]
        shown = [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]
        if max(map(len, table_lines(*shown))) <= width:
            break
    return table_lines(*shown, width)


def _row(name: str, row: LedgerSums) -> tuple[str, ...]:
    return (
        name,
        count(row.attempts),
        count(row.succeeded),
        format_duration(row.wall_ns),
        format_duration(row.wasted_wall_ns) if row.wasted_wall_ns else "",
        format_duration(row.cpu_ns),
        format_duration(row.wasted_cpu_ns) if row.wasted_cpu_ns else "",
        percent(row.wasted_cpu_ns, row.cpu_ns) if row.wasted_cpu_ns else "",
        format_bytes(row.peak_bytes) if row.peak_bytes else "",
        usd(row.cost_usd_micros) if row.cost_usd_micros is not None else "",
        usd(row.wasted_cost_usd_micros) if row.wasted_cost_usd_micros else "",
        joules(row.energy_uj) if row.energy_uj is not None else "",
        joules(row.wasted_energy_uj) if row.wasted_energy_uj else "",
        row.energy_label if row.energy_uj is not None else "",
    )
