"""`erg status JOB --where EXPR`: the tasks a condition holds for, as a look before `erg edit`. Reads tasks, not counters."""

from __future__ import annotations

from itertools import islice

from ergates.cli.chosen import Row, chosen_rows
from ergates.cli.export_rows import record_of
from ergates.cli.joblog import shown_command
from ergates.cli.tables import Column, table_lines
from ergates.cli.wording import plural
from ergates.cluster.job import JobStatus
from ergates.taskqueue.store import Reader
from ergates.taskqueue.where import Where
from ergates.units import format_bytes, format_duration

SHOWN = 20
_COLUMNS = (
    Column("task", "right"),
    Column("state"),
    Column("priority", "right"),
    Column("memory", "right"),
    Column("tries", "right"),
    Column("outcome"),
    Column("wall", "right"),
    Column("host"),
    Column("reason", elastic=True),
    Column("command", elastic=True),
)


def matching_lines(store: Reader, status: JobStatus, where: Where, width: int) -> list[str]:
    """A table of the first few, and how many there are."""
    rows = chosen_rows(store, status, (), where=where)
    first = list(islice(rows, SHOWN))
    total = len(first) + sum(1 for _ in rows)
    lines = table_lines(_COLUMNS, [_cells(row) for row in first], width) if first else []
    more = f", the first {SHOWN} are shown" if total > SHOWN else ""
    return [*lines, f"{status.id}: {plural(total, 'task')} of {status.total:,}{more}"]


def matching_facts(store: Reader, status: JobStatus, where: Where) -> dict[str, object]:
    """All of them, as `erg export` has them."""
    tasks = [record_of(view, last, view.spec.labels) for view, last in chosen_rows(store, status, (), where=where)]
    return {"job": status.id, "total": status.total, "matched": len(tasks), "tasks": tasks}


def _cells(row: Row) -> tuple[str, ...]:
    view, last = row
    floor = view.spec.requirement.memory_bytes
    return (
        str(view.task),
        view.state.value,
        str(view.spec.priority),
        format_bytes(floor) if floor else "",
        str(view.attempts),
        "" if last is None else last.outcome.value,
        "" if last is None else format_duration(last.usage.wall_ns),
        "" if last is None else last.host,
        view.reason,
        shown_command(view.spec),
    )
