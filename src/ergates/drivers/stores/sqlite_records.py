"""How records become columns and columns become records.

What tasks share is a `Profile`, written once; what is the task's own goes into `extra` (MessagePack, so bytes stay
bytes), empty for a plain line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ergates.cluster.attempt import Attempt, Outcome, Output
from ergates.cluster.job import JobPhase, JobStatus
from ergates.cluster.task import JobId, Kind, Requirement, Stdin, TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.cluster.usage import Usage
from ergates.drivers.stores.sqlite_connection import StoreConnection
from ergates.errors import UnknownJobError, UsageError
from ergates.taskqueue.store import PastFailures
from ergates.units import Bytes, Microjoules, Nanoseconds, UsdMicros

BLOCKED, READY, DELAYED, LEASED, DONE, FAILED, CANCELLED = range(2, 9)
"""State codes. From 2 up each takes one byte in SQLite's record, so a change of state never makes a row grow."""

STATES: dict[int, TaskState] = {
    BLOCKED: TaskState.BLOCKED,
    READY: TaskState.READY,
    DELAYED: TaskState.DELAYED,
    LEASED: TaskState.LEASED,
    DONE: TaskState.DONE,
    FAILED: TaskState.FAILED,
    CANCELLED: TaskState.CANCELLED,
}
CODES: dict[TaskState, int] = {state: code for code, state in STATES.items()}

ID_BITS = 32
ID_MASK = (1 << ID_BITS) - 1

JOB_COLUMNS = (
    "j.id, j.key, j.spec, j.phase, j.submitted_ns, j.finished_ns, j.total, "
    "j.open, j.blocked, j.ready, j.delayed, j.leased, j.done, j.failed, j.cancelled"
)
ATTEMPT_COLUMNS = (
    "task, number, outcome, worker, host, started_ns, ended_ns, exit_code, signal, reason, wall_ns, cpu_ns, peak_bytes, "
    "peak_label, peak_with_cache_bytes, energy_uj, energy_label, cost_usd_micros, pack, pack_offset, stdout_bytes, "
    "stderr_bytes, predicted_bytes"
)


class Profile(msgspec.Struct, frozen=True, omit_defaults=True):
    """What many tasks have in common besides their requirement and priority."""

    kind: Kind = "command"
    time_limit_ns: int | None = None
    retries: int | None = None
    env: dict[str, str] = {}
    cwd: str | None = None
    labels: dict[str, str] = {}
    image: str | None = None
    mounts: tuple[str, ...] = ()


class Extra(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is one task's own besides its command. `profile` only where the job has too many different ones."""

    payload: bytes | None = None
    stdin: Stdin | None = None
    input_bytes: int | None = None
    after: tuple[tuple[int, int], ...] = ()
    profile: Profile | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    role_commands: tuple[tuple[str, str | tuple[str, ...]], ...] = ()


def job_number(job: str) -> int:
    """`j12` is 12. Raises UnknownJobError."""
    if job[:1] == "j" and job[1:].isascii() and job[1:].isdecimal() and len(job) < 10:
        return int(job[1:])
    raise unknown_job(job)


def job_name(number: int) -> JobId:
    return JobId(f"j{number}")


def unknown_job(job: str) -> UnknownJobError:
    return UnknownJobError(f"no job {job!r} in this store\n  hint: `erg status` lists the jobs of this directory")


def task_row(job: int, task: int) -> int:
    return job << ID_BITS | task


def split_row(row: int) -> tuple[JobId, TaskId]:
    return job_name(row >> ID_BITS), TaskId(row & ID_MASK)


def row_ranges(job: int, ids: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Inclusive id ranges as ranges of rows, sorted, without overlaps, inside the job."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted((max(1, first), min(ID_MASK, last)) for first, last in ids):
        if first > last:
            continue
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return [(task_row(job, first), task_row(job, last)) for first, last in merged]


def clean_text(text: str) -> str:
    """Text that UTF-8 can hold: bytes that were no text appear as `\\udcff`. For messages only."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


# --- tasks ----------------------------------------------------------------------------------------


def encode_command(command: str | tuple[str, ...]) -> str | bytes:
    """A clean line stays text; an argument vector, or a line with bytes that are no text, becomes MessagePack."""
    if isinstance(command, str):
        if command.isascii():
            return command
        try:
            command.encode()
        except UnicodeEncodeError:
            return msgspec.msgpack.encode(command.encode("utf-8", "surrogateescape"))
        return command
    return msgspec.msgpack.encode([word.encode("utf-8", "surrogateescape") for word in command])


def decode_command(stored: str | bytes) -> str | tuple[str, ...]:
    if isinstance(stored, str):
        return stored
    value = msgspec.msgpack.decode(stored, type=bytes | list[bytes])
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return tuple(word.decode("utf-8", "surrogateescape") for word in value)


def to_json(record: msgspec.Struct, what: str) -> str:
    """JSON text. Raises UsageError for text that UTF-8 cannot hold."""
    try:
        return msgspec.json.encode(record).decode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{what}: {clean_text(error.object)!r} is not valid UTF-8 text") from error


class SpecDecoder:
    """Puts TaskSpecs together again; remembers the profiles and classes it has met. For one job or one call."""

    def __init__(self, db: StoreConnection) -> None:
        self._db = db
        self._profiles: dict[int, dict[str, Any]] = {}
        self._classes: dict[int, Requirement] = {}
        self._extra = msgspec.msgpack.Decoder(Extra)

    def spec(self, command: str | bytes, profile: int, extra: bytes | None, class_id: int, priority: int) -> TaskSpec:
        fields = self._profile(profile)
        if extra is not None:
            own = self._extra.decode(extra)
            if own.profile is not None:
                fields = _fields(own.profile)
            fields = {
                **fields,
                "payload": own.payload,
                "stdin": own.stdin,
                "input_bytes": None if own.input_bytes is None else Bytes(own.input_bytes),
                "after": own.after,
                "inputs": own.inputs,
                "outputs": own.outputs,
                "role_commands": own.role_commands,
            }
        requirement = self.requirement(class_id)
        return TaskSpec(command=decode_command(command), priority=priority, requirement=requirement, **fields)

    def labels(self, profile: int, extra: bytes | None) -> dict[str, str]:
        """Only the labels of a task."""
        if profile == 0 and extra is not None:
            own = self._extra.decode(extra).profile
            return {} if own is None else own.labels
        found: dict[str, str] = self._profile(profile).get("labels", {})
        return found

    def requirement(self, class_id: int) -> Requirement:
        requirement = self._classes.get(class_id)
        if requirement is None:
            body = self._db.raw.execute("SELECT body FROM classes WHERE id = ?", (class_id,)).fetchone()[0]
            requirement = self._classes[class_id] = msgspec.json.decode(body, type=Requirement)
        return requirement

    def _profile(self, number: int) -> dict[str, Any]:
        if number == 0:
            return {}
        fields = self._profiles.get(number)
        if fields is None:
            body = self._db.raw.execute("SELECT body FROM profiles WHERE id = ?", (number,)).fetchone()[0]
            fields = self._profiles[number] = _fields(msgspec.json.decode(body, type=Profile))
        return fields


def _fields(profile: Profile) -> dict[str, Any]:
    fields = msgspec.structs.asdict(profile)
    defaults = msgspec.structs.asdict(Profile())
    return {name: value for name, value in fields.items() if value != defaults[name]}


def past_of(columns: Sequence[Any]) -> PastFailures:
    """From (failures, memory, losses, timeouts, last_peak_bytes), None where the task has no setback."""
    if columns[0] is None:
        return PastFailures()
    failures, memory, losses, timeouts, last_peak_bytes = columns
    return PastFailures(
        failures=failures, memory=memory, losses=losses, timeouts=timeouts, last_peak_bytes=last_peak_bytes
    )


# --- the ledger -----------------------------------------------------------------------------------


def attempt_columns(db: StoreConnection, row: int, attempt: Attempt, worker: str, host: str) -> tuple[Any, ...]:
    """In the order of ATTEMPT_COLUMNS. `worker` and `host` stand in where the attempt names none."""
    usage, output, name = attempt.usage, attempt.output, db.name_id
    return (
        row, attempt.number, name(attempt.outcome.value), name(attempt.worker or worker), name(attempt.host or host),
        attempt.started_ns, attempt.ended_ns, attempt.exit_code, attempt.signal, clean_text(attempt.reason),
        usage.wall_ns, usage.cpu_ns, usage.peak_bytes, name(usage.peak_label), usage.peak_with_cache_bytes,
        usage.energy_uj, name(usage.energy_label), usage.cost_usd_micros, name(output.pack), output.offset,
        output.stdout_bytes, output.stderr_bytes, attempt.predicted_bytes,
    )  # fmt: skip


def attempt_of(db: StoreConnection, columns: Sequence[Any]) -> Attempt:
    """From columns in the order of ATTEMPT_COLUMNS, without `task`."""
    (
        number, outcome, worker, host, started_ns, ended_ns, exit_code, signal, reason, wall_ns, cpu_ns, peak_bytes,
        peak_label, peak_with_cache_bytes, energy_uj, energy_label, cost, pack, offset, stdout_bytes, stderr_bytes,
        predicted_bytes,
    ) = columns  # fmt: skip
    text: Any = db.name_text
    return Attempt(
        number=number,
        outcome=Outcome(text(outcome)),
        worker=text(worker),
        host=text(host),
        started_ns=Nanoseconds(started_ns),
        ended_ns=Nanoseconds(ended_ns),
        exit_code=exit_code,
        signal=signal,
        reason=reason,
        usage=Usage(
            wall_ns=Nanoseconds(wall_ns),
            cpu_ns=Nanoseconds(cpu_ns),
            peak_bytes=Bytes(peak_bytes),
            peak_label=text(peak_label),
            peak_with_cache_bytes=Bytes(peak_with_cache_bytes),
            energy_uj=Microjoules(energy_uj),
            energy_label=text(energy_label),
            cost_usd_micros=None if cost is None else UsdMicros(cost),
        ),
        output=Output(pack=text(pack), offset=offset, stdout_bytes=stdout_bytes, stderr_bytes=stderr_bytes),
        predicted_bytes=predicted_bytes,
    )


# --- jobs -----------------------------------------------------------------------------------------


class _Named(msgspec.Struct):
    name: str = ""


def job_status(columns: Sequence[Any], sums: Sequence[Sequence[Any]]) -> JobStatus:
    """From JOB_COLUMNS and the job's rows of `sums`: (outcome, attempts, wall_ns, cpu_ns, peak_bytes, cost)."""
    number, key, spec, phase, submitted_ns, finished_ns, total, is_open, *counts = columns
    wasted = [row for row in sums if row[0] != Outcome.SUCCEEDED]
    costs = [row[5] for row in sums if row[5] is not None]
    shown: JobPhase = "finished" if finished_ns is not None and phase != "cancelled" else phase
    return JobStatus(
        id=job_name(number),
        key=key,
        name=msgspec.json.decode(spec, type=_Named).name,
        phase=shown,
        submitted_ns=Nanoseconds(submitted_ns),
        finished_ns=None if finished_ns is None else Nanoseconds(finished_ns),
        total=total,
        counts=dict(zip((state.value for state in STATES.values()), counts, strict=True)),
        outcomes={row[0]: row[1] for row in sums},
        wall_ns=sum(row[2] for row in sums),
        cpu_ns=sum(row[3] for row in sums),
        wasted_cpu_ns=sum(row[3] for row in wasted),
        wasted_wall_ns=sum(row[2] for row in wasted),
        peak_bytes=max((row[4] for row in sums), default=0),
        cost_usd_micros=sum(costs) if costs else None,
        takes_more=bool(is_open),
    )
