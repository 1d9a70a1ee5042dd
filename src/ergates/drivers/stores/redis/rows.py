"""Attempts as rows of a job's log: an array of numbers and text, some eighty bytes for a usual one.

One entry of the log is what one exchange added to one job: the worker and its host once, then for each attempt the task and
its row. The worker's name is left out of its own rows. The id of an entry is the number of its last row.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from ergates.cluster.attempt import Attempt, Kept, Outcome, Output
from ergates.cluster.task import TaskId
from ergates.cluster.usage import EnergyLabel, MemoryLabel, Usage
from ergates.units import Bytes, Microjoules, Nanoseconds, UsdMicros

COMPRESS_ABOVE_BYTES = 512


class _Row(msgspec.Struct, array_like=True, omit_defaults=True):
    """`worker` and `host` None: of the worker that wrote the entry; empty: of whoever held the lease."""

    number: int
    outcome: Outcome
    started_ns: int
    ended_ns: int
    exit_code: int | None
    worker: str | None = None
    host: str | None = None
    wall_ns: int = 0
    cpu_ns: int = 0
    peak_bytes: int = 0
    peak_label: MemoryLabel = "unknown"
    pack: str = ""
    offset: int = 0
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    signal: int | None = None
    reason: str = ""
    cost_usd_micros: int | None = None
    predicted_bytes: int = 0
    peak_with_cache_bytes: int = 0
    energy_uj: int = 0
    energy_label: EnergyLabel = "unknown"
    kept: bytes | None = None


_encode_row = msgspec.msgpack.Encoder().encode
_row_decoder = msgspec.msgpack.Decoder(_Row)
_kept_decoder = msgspec.msgpack.Decoder(Kept)


class KeptRow(NamedTuple):
    """A row as it is read back. `kept` is still packed; see `unpack_kept`."""

    row: int
    task: TaskId
    attempt: Attempt
    kept: bytes | None


def clean_text(text: str) -> str:
    """Text that UTF-8 can hold: bytes that were no text appear as `\\udcff`. For messages only."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def pack_attempt(attempt: Attempt, kept: Kept | None, worker: str, host: str) -> bytes:
    """`worker` and `host` are those of who commits."""
    usage, output = attempt.usage, attempt.output
    return _encode_row(
        _Row(
            attempt.number, attempt.outcome, attempt.started_ns, attempt.ended_ns, attempt.exit_code,
            None if attempt.worker == worker else attempt.worker, None if attempt.host == host else attempt.host,
            usage.wall_ns, usage.cpu_ns, usage.peak_bytes, usage.peak_label, output.pack, output.offset,
            output.stdout_bytes, output.stderr_bytes, attempt.signal, clean_text(attempt.reason), usage.cost_usd_micros,
            attempt.predicted_bytes, usage.peak_with_cache_bytes, usage.energy_uj, usage.energy_label,
            None if kept is None else _pack_kept(kept),
        )
    )  # fmt: skip


def unpack_entry(entry: Any) -> Iterator[KeptRow]:
    """The rows of one entry of the log as XRANGE gives it."""
    name, fields = entry
    last = int(name.partition(b"-")[0])
    worker, _, host = fields[1].decode().partition(" ")
    first = last - len(fields) // 2 + 2
    for place, index in enumerate(range(2, len(fields), 2)):
        task, _, holder = fields[index].decode().partition(" ")
        row = _row_decoder.decode(fields[index + 1])
        attempt = _attempt(row, (worker, host), tuple(holder.split(" ", 1)) if holder else (worker, host))
        yield KeptRow(first + place, TaskId(int(task)), attempt, row.kept)


def entry_rows(entry: Any) -> int:
    return len(entry[1]) // 2 - 1


def _attempt(row: _Row, writer: tuple[str, ...], holder: tuple[str, ...]) -> Attempt:
    return Attempt(
        number=row.number,
        outcome=row.outcome,
        worker=writer[0] if row.worker is None else row.worker or holder[0],
        host=writer[1] if row.host is None else row.host or holder[1],
        started_ns=Nanoseconds(row.started_ns),
        ended_ns=Nanoseconds(row.ended_ns),
        exit_code=row.exit_code,
        signal=row.signal,
        reason=row.reason,
        usage=Usage(
            wall_ns=Nanoseconds(row.wall_ns),
            cpu_ns=Nanoseconds(row.cpu_ns),
            peak_bytes=Bytes(row.peak_bytes),
            peak_label=row.peak_label,
            peak_with_cache_bytes=Bytes(row.peak_with_cache_bytes),
            energy_uj=Microjoules(row.energy_uj),
            energy_label=row.energy_label,
            cost_usd_micros=None if row.cost_usd_micros is None else UsdMicros(row.cost_usd_micros),
        ),
        output=Output(pack=row.pack, offset=row.offset, stdout_bytes=row.stdout_bytes, stderr_bytes=row.stderr_bytes),
        predicted_bytes=row.predicted_bytes,
    )


def _pack_kept(kept: Kept) -> bytes:
    plain = msgspec.msgpack.encode(kept)
    return b"Z" + zlib.compress(plain, 1) if len(plain) > COMPRESS_ABOVE_BYTES else b"P" + plain


def unpack_kept(packed: bytes) -> Kept:
    return _kept_decoder.decode(zlib.decompress(packed[1:]) if packed[:1] == b"Z" else packed[1:])
