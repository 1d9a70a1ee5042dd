"""What a worker knows of the others of its store: enough to tell its own limits and troubles from everybody's.

Looked at while something runs here, and then once a minute: two hundred idle workers must not read two hundred rows each.
"""

from __future__ import annotations

from collections.abc import Callable

from ergates.cluster.node import WorkerStatus
from ergates.units import SECOND_NS

REFRESH_NS = 60 * SECOND_NS


class Peers:
    """The other live workers.

    Args:
        own_id, own_host: who we are.
        ask: `Roster.workers`, called wherever the store may be waited for.
    """

    def __init__(self, own_id: str, own_host: str, ask: Callable[[], tuple[WorkerStatus, ...]]) -> None:
        self._own_id, self._own_host, self.ask = own_id, own_host, ask
        self._due_ns = 0
        self.largest_bytes = 0
        """Memory of the largest of the others; 0 when there are none, or none is known."""
        self.on_other_hosts = 0
        """How many of them are on other hosts."""
        self.ended = self.failed = 0
        """Attempts on other hosts, and how many of them failed, as their workers count them."""

    def due(self, now_ns: int, *, idle: bool) -> bool:
        """Whether to look again now; then the caller does."""
        if idle or now_ns < self._due_ns:
            return False
        self._due_ns = now_ns + REFRESH_NS
        return True

    def heard(self, workers: tuple[WorkerStatus, ...]) -> None:
        """What `ask` returned."""
        others = [each for each in workers if each.standing == "live" and each.info.id != self._own_id]
        staying = [each for each in others if not each.orders.drain]
        elsewhere = [each for each in staying if each.info.host != self._own_host]
        self.largest_bytes = max((_memory_of(each) for each in staying), default=0)
        self.on_other_hosts = len(elsewhere)
        self.ended = sum(each.load.ended for each in elsewhere)
        self.failed = sum(each.load.failed for each in elsewhere)


def _memory_of(worker: WorkerStatus) -> int:
    ordered = worker.orders.memory_bytes
    return worker.info.capacity.memory_bytes if ordered is None else ordered
