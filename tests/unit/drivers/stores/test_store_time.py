"""Store time moves with its callers' clocks, and only with them."""

from __future__ import annotations

from pathlib import Path

from ergates.drivers.stores.sqlite import SqliteStore
from ergates.taskqueue.store import PastPeak

NOW_NS = 1_800_000_000_000_000_000


def test_a_call_that_brings_no_time_leaves_store_time_alone(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "ergates.db")
    peak = PastPeak(shape="sim", peak_bytes=1, input_bytes=-1, wall_ns=1, at_ns=NOW_NS)
    times = []
    for _ in range(6):
        store.remember_peaks([peak])
        with store.connection().write(NOW_NS) as store_ns:
            times.append(store_ns)
    assert times == [NOW_NS] * 6
    store.close()
