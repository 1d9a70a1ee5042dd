"""Peaks remembered between runs, the newest 256 of each command shape: one list for each shape."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ergates.drivers.stores.redis.connection import Arg
from ergates.drivers.stores.redis.session import Session
from ergates.taskqueue.store import PastPeak

KEPT_PER_SHAPE = 256


class _Row(msgspec.Struct, array_like=True, omit_defaults=True):
    peak_bytes: int
    input_bytes: int
    wall_ns: int
    at_ns: int
    host: str = ""


_rows = msgspec.msgpack.Decoder(_Row)


def remember_peaks(session: Session, peaks: Sequence[PastPeak]) -> None:
    """See History.remember_peaks."""
    by_shape: dict[bytes, list[Arg]] = {}
    for peak in peaks:
        row = msgspec.msgpack.encode(_Row(peak.peak_bytes, peak.input_bytes, peak.wall_ns, peak.at_ns, peak.host))
        by_shape.setdefault(peak.shape.encode("utf-8", "surrogateescape"), []).append(row)
    commands: list[list[Arg]] = []
    for shape, rows in by_shape.items():
        key = _key(session, shape)
        commands.append(["SADD", session.prefix + "shapes", shape])
        commands.append(["RPUSH", key, *rows])
        commands.append(["LTRIM", key, -KEPT_PER_SHAPE, -1])
    session.connection().pipeline(commands)


def recall_peaks(session: Session) -> tuple[PastPeak, ...]:
    """See History.recall_peaks."""
    connection = session.connection()
    shapes = sorted(connection.command("SMEMBERS", session.prefix + "shapes"))
    lists = connection.pipeline([["LRANGE", _key(session, shape), 0, -1] for shape in shapes])
    found = []
    for shape, rows in zip(shapes, lists, strict=True):
        name = shape.decode("utf-8", "surrogateescape")
        for row in rows:
            found.append(PastPeak(shape=name, **msgspec.structs.asdict(_rows.decode(row))))
    return tuple(found)


def _key(session: Session, shape: bytes) -> bytes:
    return f"{session.prefix}peaks:".encode() + shape
