"""One flat record for each task: what it was, how it ended, what it used. Pure: views and attempts in, records out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ergates.cli.joblog import shown_command
from ergates.cluster.attempt import Attempt
from ergates.taskqueue.store import TaskView

COLUMNS = (
    "task", "state", "outcome", "exit_code", "signal", "attempts", "wall_s", "cpu_s", "peak_bytes", "peak_label",
    "peak_with_cache_bytes", "cost_usd", "energy_j", "energy_label", "host", "started_unix_s", "ended_unix_s", "reason",
    "command",
)  # fmt: skip
OUTPUT_COLUMNS = ("stdout", "stderr")
Record = dict[str, object]


def label_columns(names: Iterable[str], taken: Sequence[str] = (*COLUMNS, *OUTPUT_COLUMNS)) -> dict[str, str]:
    """Column of each label: its name, or `label:NAME` where a column of ours has that name."""
    return {name: f"label:{name}" if name in taken else name for name in names}


def record_of(view: TaskView, last: Attempt | None, labels: Mapping[str, str]) -> Record:
    """The record of one task; what is not known is None, never 0.

    Args:
        view: the task.
        last: its newest attempt, None when there was none.
        labels: the task's and the job's, by column.
    """
    record: Record = dict.fromkeys(COLUMNS)
    record |= {"task": int(view.task), "state": view.state.value, "attempts": view.attempts}
    record |= {"reason": view.reason, "command": shown_command(view.spec)}
    if last is not None:
        usage = last.usage
        measured = usage.energy_label != "unknown"
        record |= {
            "outcome": last.outcome.value,
            "exit_code": last.exit_code,
            "signal": last.signal,
            "wall_s": usage.wall_ns / 1e9,
            "cpu_s": usage.cpu_ns / 1e9,
            "peak_bytes": int(usage.peak_bytes) if usage.peak_label != "unknown" else None,
            "peak_label": usage.peak_label,
            "peak_with_cache_bytes": int(usage.peak_with_cache_bytes) or None,
            "cost_usd": None if usage.cost_usd_micros is None else usage.cost_usd_micros / 1e6,
            "energy_j": usage.energy_uj / 1e6 if measured else None,
            "energy_label": usage.energy_label if measured else None,
            "host": last.host,
            "started_unix_s": last.started_ns / 1e9 if last.started_ns else None,
            "ended_unix_s": last.ended_ns / 1e9 if last.ended_ns else None,
            "reason": view.reason or last.reason,
        }
    return record | dict(labels)


def last_attempts(attempts: Iterable[tuple[int, int, Attempt]]) -> dict[int, Attempt]:
    """The newest attempt of each task; rows come in the order they were committed."""
    return {int(task): attempt for _, task, attempt in attempts}
