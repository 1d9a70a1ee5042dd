"""How jobs look in `erg status`. Pure: counters in, lines out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ergates.cli.tables import Column, clean, table_lines
from ergates.cli.wording import coarse_duration, core_hours, count, percent, plural, rate, shortened, usd
from ergates.cluster.attempt import Outcome
from ergates.cluster.job import JobStatus
from ergates.units import format_bytes, format_duration

if TYPE_CHECKING:
    from ergates.taskqueue.eta import Pace

_STATE_WORDS = {
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "leased": "running or about to",
    "ready": "ready",
    "delayed": "waiting to be tried again",
    "blocked": "waiting for others",
}
_OUTCOME_WORDS = {
    Outcome.FAILED: "with an exit code other than 0",
    Outcome.SIGNALLED: "ended by a signal",
    Outcome.NOT_STARTED: "could not be started",
    Outcome.TIMED_OUT: "out of time",
    Outcome.OOM_KILLED: "killed by the kernel for memory",
    Outcome.EVICTED: "given back for memory",
    Outcome.TOO_BIG: "too big for this machine",
    Outcome.LOST: "lost with a worker",
    Outcome.DISK_FULL: "disk full",
    Outcome.RETURNED: "given back unharmed",
    Outcome.CANCELLED: "cancelled",
}
_REASONS_SHOWN = 5


def jobs_lines(statuses: Sequence[JobStatus], phases: Sequence[str], now_ns: int, width: int) -> list[str]:
    """One row a job, newest first."""
    if not statuses:
        return ["no jobs here yet; erg run commands.txt"]
    columns = (
        Column("job"),
        Column("name", elastic=True),
        Column("state"),
        Column("done", "right"),
        Column("of", "right"),
        Column("failed", "right"),
        Column("cpu", "right"),
        Column("largest", "right"),
        Column("cost", "right"),
        Column("submitted", "right"),
    )
    rows = [
        (
            str(status.id),
            status.name,
            phase,
            count(status.counts.get("done", 0)),
            count(status.total),
            count(failed) if (failed := status.counts.get("failed", 0)) else "",
            format_duration(status.cpu_ns) if status.cpu_ns else "",
            format_bytes(status.peak_bytes) if status.peak_bytes else "",
            usd(status.cost_usd_micros) if status.cost_usd_micros is not None else "",
            ago(status.submitted_ns, now_ns),
        )
        for status, phase in zip(statuses, phases, strict=True)
    ]
    return table_lines(columns, rows, width)


def job_lines(
    status: JobStatus,
    phase: str,
    reasons: Sequence[tuple[str, int]],
    now_ns: int,
    width: int,
    how_to_run: str,
    pace: Pace | None = None,
) -> list[str]:
    """Everything the counters know of one job.

    Args:
        status: of the job.
        phase: as people see it, see jobs.shown_phase.
        reasons: why tasks failed, with how many (perhaps not of all of them).
        now_ns: for "ago".
        width: of the terminal.
        how_to_run: what to type when nobody works on it.
        pace: of late, where it was watched; else the mean since submission counts.
    """
    name = f" {clean(status.name)}" if status.name else ""
    lines = [f"{status.id}{name}: {phase}, submitted {ago(status.submitted_ns, now_ns)}"]
    states = [(word, status.counts.get(state, 0)) for state, word in _STATE_WORDS.items()]
    shown = ", ".join(f"{count(number)} {word}" for word, number in states if number)
    lines.append(f"  {plural(status.total, 'task')}: {shown}")
    speed = _speed(status, now_ns)
    if speed:
        lines.append(f"  {speed}")
    left = _time_left(status, now_ns, pace) if phase == "running" else ""
    if left:
        lines.append(f"  {left}")
    if status.cpu_ns:
        wasted = f", {percent(status.wasted_cpu_ns, status.cpu_ns)} of it wasted" if status.wasted_cpu_ns else ""
        lines.append(f"  {core_hours(status.cpu_ns)} used{wasted}")
    if status.peak_bytes:
        lines.append(f"  largest task {format_bytes(status.peak_bytes)}")
    if status.cost_usd_micros is not None:
        lines.append(f"  cost {usd(status.cost_usd_micros)}")
    bad = [(word, status.outcomes.get(outcome, 0)) for outcome, word in _OUTCOME_WORDS.items()]
    if any(number for _, number in bad):
        lines.append("  attempts that did not succeed: " + ", ".join(f"{count(n)} {word}" for word, n in bad if n))
    lines += [
        shortened(f"  {plural(number, 'task')} failed: {clean(reason)}", width)
        for reason, number in reasons[:_REASONS_SHOWN]
    ]
    if reasons:
        lines.append(f"  what they printed: erg logs --failed {status.id}")
    if status.takes_more:
        lines.append(f"  open for more: erg submit --to {status.id} ...; no more will come: erg close {status.id}")
    if phase == "stopped":
        lines.append(f"  nobody runs it now; go on with: {how_to_run}")
    elif phase == "paused":
        lines.append(f"  go on with: erg resume {status.id}")
    return lines


def ago(at_ns: int, now_ns: int) -> str:
    """`just now`, `12 s ago`, `4 min ago`."""
    past_ns = now_ns - at_ns
    return "just now" if past_ns < 10**9 else f"{coarse_duration(past_ns)} ago"


def _speed(status: JobStatus, now_ns: int) -> str:
    """The mean since submission, named as such: stops and waits count."""
    ended = sum(status.counts.get(state, 0) for state in ("done", "failed"))
    until_ns = now_ns if status.finished_ns is None else status.finished_ns
    elapsed_ns = until_ns - status.submitted_ns
    if not ended or elapsed_ns <= 0:
        return ""
    text = f"{rate(ended / elapsed_ns * 1e9)} on average since it was submitted"
    return text if status.finished_ns is None else f"{text}, finished after {format_duration(elapsed_ns)}"


def _time_left(status: JobStatus, now_ns: int, pace: Pace | None) -> str:
    from ergates.taskqueue.eta import Rate, job_eta

    ended = sum(status.counts.get(state, 0) for state in ("done", "failed"))
    rate_of_late = None if pace is None else pace.rate()
    since = Rate(ends=ended, span_ns=now_ns - status.submitted_ns, basis="all the time since it was submitted")
    eta = job_eta(status, rate_of_late or since)
    return "" if eta is None else eta.words()
