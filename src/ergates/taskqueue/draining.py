"""Moving attempts from a cluster's store into the ledger, and how soon to try again.

Peek, write, forget: whoever dies in between leaves rows that the next one writes again, which changes nothing. So nothing
is lost, nothing is there twice, and any number of drainers may work at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ergates.taskqueue.ledger import Drainable, DrainBatch, Ledger
from ergates.units import MIB, SECOND_NS

ROWS_FIRST = 500
ROWS_MOST = 5000
"""More make a transaction hardly cheaper for each row."""
BATCH_BYTES = 32 * MIB
"""Rows carry the ends of outputs, up to 128 KiB each: a batch must fit into memory wherever it is drained."""
ROW_BYTES = 600
"""About what a row takes besides its output."""
IDLE_NS = SECOND_NS
"""Pause when the store had little: few large transactions cost less than many small ones."""
LITTLE = 4
"""A batch is little below this part of what was asked for. Exchanges come whole, so a batch is seldom quite full."""
RETRY_FIRST_NS, RETRY_MOST_NS = 1 * SECOND_NS, 60 * SECOND_NS


def move(batch: DrainBatch, store: Drainable, ledger: Ledger) -> int:
    """Write what was peeked, then let the store forget it, never the other way round; returns how many rows.

    Raises:
        StoreError: either of both is away or full. Nothing is lost: peek again later.
    """
    if batch.rows:
        ledger.write(batch)
        store.forget(batch)
    return len(batch.rows)


def output_bytes(batch: DrainBatch) -> int:
    """How much output a batch carries."""
    kept = [row.kept for row in batch.rows if row.kept is not None]
    return sum(len(one.stdout) + len(one.stderr) + len(one.result or b"") for one in kept)


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPace:
    """When to drain next, and how much.

    Args:
        due_ns: not before this.
        most: rows of the next batch.
        failures: since the last success.
    """

    due_ns: int = 0
    most: int = ROWS_FIRST
    failures: int = 0

    def after(self, rows: int, carried_bytes: int, now_ns: int) -> DrainPace:
        """After `rows` were moved that carried so many bytes of output."""
        most = self.most
        if rows:
            most = max(1, min(ROWS_MOST, 2 * self.most, BATCH_BYTES * rows // (carried_bytes + ROW_BYTES * rows)))
        little = rows * LITTLE < self.most or not rows
        return DrainPace(due_ns=now_ns + IDLE_NS if little else now_ns, most=most)

    def after_failure(self, now_ns: int) -> DrainPace:
        """Store or ledger was away or full: wait twice as long each time, a minute at most."""
        wait_ns = min(RETRY_MOST_NS, RETRY_FIRST_NS * 2 ** min(self.failures, 10))
        return replace(self, due_ns=now_ns + wait_ns, failures=self.failures + 1)
