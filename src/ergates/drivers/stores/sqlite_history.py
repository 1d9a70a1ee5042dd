"""Peaks remembered between runs, the newest 256 of each command shape."""

from __future__ import annotations

from collections.abc import Sequence

from ergates.drivers.stores.sqlite_connection import StoreConnection
from ergates.taskqueue.store import PastPeak

KEPT_PER_SHAPE = 256


def remember_peaks(db: StoreConnection, peaks: Sequence[PastPeak]) -> None:
    """See History.remember_peaks."""
    if not peaks:
        return
    with db.write(0):
        db.raw.executemany(
            "INSERT INTO memory_history(shape, peak_bytes, input_bytes, wall_ns, at_ns) VALUES (?, ?, ?, ?, ?)",
            [(peak.shape, peak.peak_bytes, peak.input_bytes, peak.wall_ns, peak.at_ns) for peak in peaks],
        )
        db.raw.executemany(
            "DELETE FROM memory_history WHERE shape = ?1 AND id <= (SELECT id FROM memory_history"
            " WHERE shape = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
            [(shape, KEPT_PER_SHAPE) for shape in sorted({peak.shape for peak in peaks})],
        )


def recall_peaks(db: StoreConnection) -> tuple[PastPeak, ...]:
    """See History.recall_peaks."""
    with db.reading() as raw:
        rows = raw.execute(
            "SELECT shape, peak_bytes, input_bytes, wall_ns, at_ns FROM memory_history ORDER BY shape, id"
        ).fetchall()
    return tuple(
        PastPeak(shape=shape, peak_bytes=peak_bytes, input_bytes=input_bytes, wall_ns=wall_ns, at_ns=at_ns)
        for shape, peak_bytes, input_bytes, wall_ns, at_ns in rows
    )
