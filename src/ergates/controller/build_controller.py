"""Puts a controller together: the only place that knows all its parts."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from ergates.clock import SystemClock
from ergates.controller.controller import Controller
from ergates.controller.forget import Forgetter
from ergates.controller.reap import Reaper, reaping_member
from ergates.controller.watch import Watch
from ergates.drivers.ledgers.drain import Drainer
from ergates.taskqueue.ledger import Drainable, Ledger
from ergates.taskqueue.retention import Retention
from ergates.taskqueue.store import Exchanger, Reader, Roster
from ergates.units import Nanoseconds


class Store(Exchanger, Reader, Roster, Drainable, Retention, Protocol):
    """The sides of a cluster's store that a controller uses."""

    @property
    def queue(self) -> str: ...


@contextmanager
def built_controller(
    store: Store,
    ledger: Ledger | None,
    *,
    say: Callable[[str], None],
    metrics_listen: str | None = None,
    memory: Callable[[], tuple[int, int]] | None = None,
    forget_after_ns: Nanoseconds | None = None,
) -> Iterator[Controller]:
    """A controller, and with `metrics_listen` (`host:port`) the server of its metrics around it.

    Args:
        store: the cluster's.
        ledger: None: nothing is drained.
        say: told of what people should know, one line each.
        metrics_listen: None: nobody is served.
        memory: asks the store's server for its (used, limit) bytes; only metrics need it.
        forget_after_ns: how long after its end a drained job leaves the store; None: never.

    Raises:
        UsageError: nothing can listen there.
    """
    clock = SystemClock()
    drainer = None if ledger is None else Drainer(store, ledger, clock, say)
    reaper = Reaper(store, clock, reaping_member(str(uuid.uuid4()), clock), say)
    forgetter = None if forget_after_ns is None else Forgetter(store, forget_after_ns, clock, say)
    if metrics_listen is None:
        yield Controller(drainer=drainer, reaper=reaper, forgetter=forgetter, watch=None, clock=clock)
        return
    from ergates.controller.metrics import MetricsServer, Sources

    watch = Watch(store, memory, clock)
    sources = Sources(queue=store.queue, watch=watch, drainer=drainer, reaper=reaper, clock=clock)
    server = MetricsServer(metrics_listen, sources)
    say(f"metrics at http://{metrics_listen.rpartition(':')[0]}:{server.port}/metrics")
    try:
        yield Controller(drainer=drainer, reaper=reaper, forgetter=forgetter, watch=watch, clock=clock)
    finally:
        server.close()
