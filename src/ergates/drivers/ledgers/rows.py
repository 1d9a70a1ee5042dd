"""How records become columns of a ledger, and columns records again. The same for every kind of ledger.

Text is kept as any database can hold it: bytes that were no UTF-8 and the character 0 appear as `\\udcff` and `\\x00`. A job's
environment is left out: it often holds secrets, and a ledger outlives the job and has many readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ergates.cluster.attempt import Attempt, Kept, Outcome, Output
from ergates.cluster.job import JobSpec
from ergates.cluster.task import JobId, TaskId
from ergates.cluster.usage import Usage
from ergates.taskqueue.ledger import LedgerJob, LedgerRow
from ergates.units import Bytes, Microjoules, Nanoseconds, UsdMicros

SUCCEEDED = Outcome.SUCCEEDED.value
JOB_COLUMNS = "uid, queue, id, key, name, labels, spec, submitted_ns, total"
ATTEMPT_TYPES = {
    "job": "integer", "row": "bigint", "task": "bigint", "number": "integer", "outcome": "text", "worker": "text",
    "host": "text", "started_ns": "bigint", "ended_ns": "bigint", "exit_code": "integer", "signal": "integer",
    "reason": "text", "wall_ns": "bigint", "cpu_ns": "bigint", "peak_bytes": "bigint", "peak_label": "text",
    "peak_with_cache_bytes": "bigint", "predicted_bytes": "bigint", "energy_uj": "bigint", "energy_label": "text",
    "cost_usd_micros": "bigint", "pack": "text", "pack_offset": "bigint", "stdout_bytes": "bigint",
    "stderr_bytes": "bigint", "labels": "text", "stdout": "bytea", "stderr": "bytea", "result": "bytea",
}  # fmt: skip
"""Columns of an attempt in the order of `attempt_columns`, with PostgreSQL's types; labels are JSON."""
ATTEMPT_COLUMNS = ", ".join(ATTEMPT_TYPES)
FEW_TASKS = 20_000
_OUTPUT = ("stdout", "stderr", "result")


def job_columns(job: LedgerJob) -> tuple[Any, ...]:
    """A job in the order of JOB_COLUMNS."""
    spec = _clean_json(msgspec.to_builtins(msgspec.structs.replace(job.spec, env={})))
    return (
        job.uid,
        clean(job.queue),
        job.id,
        clean(job.spec.key),
        clean(job.spec.name),
        labels_text(job.spec.labels),
        msgspec.json.encode(spec).decode(),
        job.submitted_ns,
        job.total,
    )


def job_of(uid: str, queue: str, job: str, spec: str | bytes, submitted_ns: int, total: int) -> LedgerJob:
    """A job from its columns; `spec` as JSON."""
    return LedgerJob(
        uid=uid,
        queue=queue,
        id=JobId(job),
        spec=msgspec.json.decode(spec, type=JobSpec),
        submitted_ns=Nanoseconds(submitted_ns),
        total=total,
    )


def attempt_columns(job_number: int, row: LedgerRow) -> tuple[Any, ...]:
    """An attempt in the order of ATTEMPT_COLUMNS."""
    attempt, usage, output, kept = row.attempt, row.attempt.usage, row.attempt.output, row.kept
    return (
        job_number,
        row.row,
        row.task,
        attempt.number,
        attempt.outcome.value,
        clean(attempt.worker),
        clean(attempt.host),
        attempt.started_ns,
        attempt.ended_ns,
        attempt.exit_code,
        attempt.signal,
        clean(attempt.reason),
        usage.wall_ns,
        usage.cpu_ns,
        usage.peak_bytes,
        usage.peak_label,
        usage.peak_with_cache_bytes,
        attempt.predicted_bytes,
        usage.energy_uj,
        usage.energy_label,
        usage.cost_usd_micros,
        clean(output.pack),
        output.offset,
        output.stdout_bytes,
        output.stderr_bytes,
        labels_text(row.labels),
        None if kept is None else kept.stdout,
        None if kept is None else kept.stderr,
        None if kept is None else kept.result,
    )


def row_of(job_uid: str, columns: Sequence[Any]) -> LedgerRow:
    """An attempt from `read_columns`."""
    (
        row, task, number, outcome, worker, host, started_ns, ended_ns, exit_code, signal, reason, wall_ns, cpu_ns,
        peak_bytes, peak_label, peak_with_cache_bytes, predicted_bytes, energy_uj, energy_label, cost, pack, offset,
        stdout_bytes, stderr_bytes, labels, stdout, stderr, result,
    ) = columns  # fmt: skip
    usage = Usage(
        wall_ns=Nanoseconds(wall_ns),
        cpu_ns=Nanoseconds(cpu_ns),
        peak_bytes=Bytes(peak_bytes),
        peak_label=peak_label,
        peak_with_cache_bytes=Bytes(peak_with_cache_bytes),
        energy_uj=Microjoules(energy_uj),
        energy_label=energy_label,
        cost_usd_micros=None if cost is None else UsdMicros(cost),
    )
    attempt = Attempt(
        number=number,
        outcome=Outcome(outcome),
        worker=worker,
        host=host,
        started_ns=Nanoseconds(started_ns),
        ended_ns=Nanoseconds(ended_ns),
        exit_code=exit_code,
        signal=signal,
        reason=reason,
        usage=usage,
        output=Output(pack=pack, offset=offset, stdout_bytes=stdout_bytes, stderr_bytes=stderr_bytes),
        predicted_bytes=predicted_bytes,
    )
    return LedgerRow(
        job_uid=job_uid,
        row=row,
        task=TaskId(task),
        attempt=attempt,
        labels=msgspec.json.decode(labels, type=dict[str, str]),
        kept=None if stdout is None else Kept(stdout=stdout, stderr=stderr, result=result),
    )


def merged_ranges(ids: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Inclusive ranges of task ids, sorted and without overlaps, so that nothing is found twice."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted((first, last) for first, last in ids if first <= last):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return merged


def few_tasks(ranges: Sequence[tuple[int, int]]) -> bool:
    """Whether looking up these tasks one by one costs less than reading the job in order and leaving out the others."""
    return sum(last - first + 1 for first, last in ranges) <= FEW_TASKS


def read_columns(*, kept: bool) -> str:
    """What `row_of` takes, of a table called `a`; without `kept` nothing is read of what a task printed."""
    return ", ".join(f"a.{name}" if kept or name not in _OUTPUT else "NULL" for name in ATTEMPT_TYPES if name != "job")


def page_rows(*, kept: bool) -> int:
    """Rows to read at once: with outputs a row may take 128 KiB."""
    return 200 if kept else 2000


def clean(text: str) -> str:
    """Text that UTF-8 and PostgreSQL can hold. Lossy for what is no text; for messages and names only."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\0", "\\x00") if "\0" in text else text


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels as JSON."""
    if not labels:
        return "{}"
    return msgspec.json.encode({clean(name): clean(value) for name, value in labels.items()}).decode()


def _clean_json(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(name): _clean_json(item) for name, item in value.items()}
    return [_clean_json(item) for item in value] if isinstance(value, list | tuple) else value
