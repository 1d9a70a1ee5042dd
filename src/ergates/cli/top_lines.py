"""How `erg top` puts things: cells of its tables, bars, and the plain frame of `--once`. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from ergates.cli.tables import Column, table_lines
from ergates.cli.top_state import Frame, JobRow, TaskRow
from ergates.cli.wording import count, percent, plural, rate, shortened
from ergates.cluster.node import WorkerStatus
from ergates.taskqueue.eta import Eta
from ergates.units import format_bytes, format_duration

JOB_COLUMNS = ("job", "name", "state", "progress", "done", "of", "failed", "running", "rate", "left (an estimate)")
WORKER_COLUMNS = ("worker", "host", "state", "tasks", "cores", "memory", "ended", "note")
TASK_COLUMNS = ("task", "host", "for", "command")
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_SPARKS = "▁▂▃▄▅▆▇█"


def bar(part: float, whole: float, width: int = 10) -> str:
    """`████▌     `: a share as a bar of `width` characters."""
    eighths = round(8 * width * min(1.0, max(0.0, part / whole))) if whole > 0 else 0
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def sparkline(bars: Sequence[float], width: int) -> str:
    """The last `width` values, the highest of them as the full height."""
    shown = bars[-width:]
    highest = max(shown, default=0.0)
    if highest <= 0:
        return _SPARKS[0] * len(shown)
    return "".join(_SPARKS[min(7, int(8 * value / highest))] for value in shown)


def job_cells(row: JobRow) -> tuple[str, ...]:
    """In the order of JOB_COLUMNS."""
    return (
        row.id,
        row.name,
        row.phase,
        bar(row.settled, row.total),
        count(row.settled - row.failed),
        count(row.total),
        count(row.failed) if row.failed else "",
        count(row.running) if row.running else "",
        "" if row.finished or row.rate_per_s is None else rate(row.rate_per_s),
        "" if row.eta is None else eta_words(row.eta),
    )


def eta_words(eta: Eta) -> str:
    """`12 min 05 s (10 min 02 s - 15 min 00 s)`."""
    return f"{format_duration(eta.likely_ns)} ({format_duration(eta.low_ns)} - {format_duration(eta.high_ns)})"


def worker_cells(worker: WorkerStatus) -> tuple[str, ...]:
    """In the order of WORKER_COLUMNS."""
    load, capacity = worker.load, worker.info.capacity
    known = load.running or load.cpus_milli_held or load.used_bytes or load.ended
    frozen = f" ({load.frozen} frozen)" if load.frozen else ""
    failed = f" ({count(load.failed)} failed)" if load.failed else ""
    cores = f"{capacity.cpus_milli / 1000:g}"
    note = load.note or ("draining" if worker.orders.drain else "")
    if worker.standing != "live":
        note = f"no beat for {format_duration(worker.beat_age_ns)}" + (f"; {note}" if note else "")
    return (
        worker.info.id[:8],
        worker.info.host,
        worker.standing,
        f"{count(load.running or worker.leases)}{frozen}",
        f"{bar(load.cpus_milli_held, capacity.cpus_milli, 6)} {load.cpus_milli_held / 1000:g}/{cores}"
        if known
        else cores,
        _memory(load.used_bytes, capacity.memory_bytes) if known else format_bytes(capacity.memory_bytes),
        f"{count(load.ended)}{failed}" if load.ended else "",
        note,
    )


def task_cells(row: TaskRow) -> tuple[str, ...]:
    """In the order of TASK_COLUMNS."""
    if row.for_ns is None:
        time = ""
    else:
        time = (">= " if row.at_least else "") + format_duration(row.for_ns)
    return row.name, row.host, time, row.command


def summary(frame: Frame) -> str:
    """One line: how many, how fast, where."""
    settled = sum(row.settled for row in frame.jobs)
    total = sum(row.total for row in frame.jobs)
    running = sum(row.running for row in frame.jobs)
    live = sum(worker.standing == "live" for worker in frame.workers)
    parts = [plural(len(frame.jobs), "job"), f"{count(settled)} of {plural(total, 'task')} settled"]
    parts += [f"{count(running)} running", plural(live, "worker") + " live"]
    if frame.rate_per_s is not None:
        parts.append(rate(frame.rate_per_s) if frame.rate_per_s else "nothing ends just now")
    if frame.machine is not None:
        used, whole = frame.machine
        parts.append(f"memory {_memory(used, whole)}")
    return "  ".join([*parts, frame.store])


def plain_lines(frame: Frame, width: int) -> list[str]:
    """The frame of `--once`."""
    lines = [shortened(summary(frame), width), ""]
    jobs = [Column(name, "right" if name in ("done", "of", "failed", "running", "rate") else "left", elastic=name == "name")
            for name in JOB_COLUMNS]  # fmt: skip
    workers = [Column(name, "right" if name == "ended" else "left", elastic=name == "note") for name in WORKER_COLUMNS]
    tasks = [Column(name, "right" if name == "for" else "left", elastic=name == "command") for name in TASK_COLUMNS]
    for columns, rows, nothing in (
        (jobs, [job_cells(row) for row in frame.jobs], "no jobs"),
        (workers, [worker_cells(worker) for worker in frame.workers], "no workers"),
        (tasks, [task_cells(row) for row in frame.tasks], "nothing runs"),
    ):
        lines += [*(table_lines(columns, rows, width) if rows else [nothing]), ""]
    return lines[:-1]


def facts(frame: Frame) -> dict[str, object]:
    """The record of `--json`: numbers with their units in the names; what is not known is None."""
    return {
        "at_unix_s": frame.at_ns / 1e9,
        "store": frame.store,
        "rate_per_s": frame.rate_per_s,
        "memory_used_bytes": None if frame.machine is None else frame.machine[0],
        "memory_total_bytes": None if frame.machine is None else frame.machine[1],
        "jobs": [
            {
                "job": row.id, "name": row.name, "state": row.phase, "settled": row.settled, "failed": row.failed,
                "running": row.running, "total": row.total, "rate_per_s": row.rate_per_s, "left": _eta_facts(row.eta),
            }
            for row in frame.jobs
        ],
        "workers": [
            {
                "worker": worker.info.id, "host": worker.info.host, "standing": worker.standing,
                "beat_age_s": worker.beat_age_ns / 1e9, "leases": worker.leases, "running": worker.load.running,
                "frozen": worker.load.frozen, "cpus": worker.info.capacity.cpus_milli / 1000,
                "cpus_held": worker.load.cpus_milli_held / 1000, "memory_bytes": worker.info.capacity.memory_bytes,
                "memory_used_bytes": worker.load.used_bytes, "ended": worker.load.ended, "failed": worker.load.failed,
                "note": worker.load.note, "draining": worker.orders.drain,
            }
            for worker in frame.workers
        ],
        "tasks": [
            {
                "task": row.name, "host": row.host, "for_s": None if row.for_ns is None else row.for_ns / 1e9,
                "at_least": row.at_least, "command": row.command,
            }
            for row in frame.tasks
        ],
    }  # fmt: skip


def _eta_facts(eta: Eta | None) -> dict[str, object] | None:
    if eta is None:
        return None
    return {
        "low_s": eta.low_ns / 1e9,
        "likely_s": eta.likely_ns / 1e9,
        "high_s": eta.high_ns / 1e9,
        "basis": eta.basis,
    }


def _memory(used: int, whole: int) -> str:
    return f"{bar(used, whole, 6)} {format_bytes(used)} ({percent(used, whole)})"
