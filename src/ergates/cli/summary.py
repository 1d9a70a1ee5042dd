"""What `erg run` says at its end: what was done, what it cost, what was wasted, where to look. Pure: facts in, lines out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ergates.cli.jobs import open_count
from ergates.cli.tables import clean
from ergates.cli.wording import core_hours, count, percent, plural, shortened, usd
from ergates.cluster.attempt import Outcome
from ergates.cluster.job import JobStatus
from ergates.units import format_bytes, format_duration

_OWN_FAILURES = (Outcome.FAILED, Outcome.SIGNALLED, Outcome.NOT_STARTED, Outcome.TIMED_OUT, Outcome.LOST)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownFailure:
    """One failed task: why, and the last lines it wrote on standard error."""

    task: int
    reason: str
    command: str
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How this run ended.

    Args:
        elapsed_ns: wall time of this run.
        stopped: why it stopped early, in words; empty when all tasks are settled.
        resume_command: what to type to go on; shown when something is left.
        together_bytes, capacity_bytes: highest memory in use in this run, and what there was.
        confined: whether that is of our tasks alone (`--memory`), or of the whole machine.
    """

    elapsed_ns: int
    stopped: str = ""
    resume_command: str = ""
    together_bytes: int = 0
    capacity_bytes: int = 0
    confined: bool = False
    failures: tuple[ShownFailure, ...] = ()


def summary_lines(status: JobStatus, ending: Ending, width: int = 100) -> list[str]:
    """Some five lines for a job that went well, more when there is something to act on."""
    lines = [f"{status.id} {clean(status.name)}: {_counts(status)} in {format_duration(ending.elapsed_ns)}"]
    if ending.stopped:
        lines.append(f"  {ending.stopped}")
    lines += [f"  {text}" for text in (_returns(status), _work(status), _memory(status, ending)) if text]
    if status.cost_usd_micros is not None:
        lines.append(f"  cost {usd(status.cost_usd_micros)}")
    lines += _failures(status, ending.failures, width)
    left = open_count(status)
    if left and ending.resume_command:
        lines.append(f"  {plural(left, 'task')} left; go on with: {ending.resume_command}")
    lines.append(f"  results: erg export {status.id}   output: erg logs {status.id}")
    return lines


def _counts(status: JobStatus) -> str:
    parts = [f"{count(status.counts.get('done', 0))} done"]
    parts += [f"{count(n)} {state}" for state in ("failed", "cancelled") if (n := status.counts.get(state, 0))]
    left = open_count(status)
    if left:
        parts.append(f"{count(left)} left")
    return ", ".join(parts)


def _returns(status: JobStatus) -> str:
    outcomes = status.outcomes
    failures = sum(outcomes.get(outcome, 0) for outcome in _OWN_FAILURES)
    retried = max(0, failures - status.counts.get("failed", 0))
    named = (
        (retried, "retried"),
        (outcomes.get(Outcome.EVICTED, 0), "evicted for memory"),
        (outcomes.get(Outcome.OOM_KILLED, 0), "killed by the kernel for memory"),
        (outcomes.get(Outcome.TIMED_OUT, 0), "out of time"),
        (outcomes.get(Outcome.LOST, 0), "lost with a worker"),
    )
    return ", ".join(f"{count(number)} {word}" for number, word in named if number)


def _work(status: JobStatus) -> str:
    text = f"{core_hours(status.cpu_ns)} used"
    if status.wasted_cpu_ns:
        share = percent(status.wasted_cpu_ns, status.cpu_ns)
        text += f", {share} of it wasted on attempts that did not succeed"
    return text


def _memory(status: JobStatus, ending: Ending) -> str:
    parts = []
    if status.peak_bytes:
        parts.append(f"largest task {format_bytes(status.peak_bytes)}")
    if ending.together_bytes:
        whose = "all together" if ending.confined else "the whole machine"
        parts.append(f"{whose} at most {format_bytes(ending.together_bytes)} of {format_bytes(ending.capacity_bytes)}")
    return "memory: " + ", ".join(parts) if parts else ""


def _failures(status: JobStatus, failures: Sequence[ShownFailure], width: int) -> list[str]:
    failed = status.counts.get("failed", 0)
    if not failed:
        return []
    lines = []
    for failure in sorted(failures, key=lambda each: each.task):
        lines.append(shortened(f"  task {failure.task} failed: {clean(failure.reason)}", width))
        lines.append(shortened(f"    {clean(failure.command)}", width))
        lines += [shortened(f"    | {clean(line)}", width) for line in failure.last_lines]
    more = "all of them" if failed > len(failures) else "in full"
    lines.append(f"  {more}: erg logs --failed {status.id}   run them again: erg retry {status.id}")
    return lines


def last_lines(stderr: bytes, most: int = 3) -> tuple[str, ...]:
    """The last lines that say something."""
    lines = [line.decode("utf-8", "replace") for line in stderr[-8192:].split(b"\n") if line.strip()]
    return tuple(lines[-most:])
