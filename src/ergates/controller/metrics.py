"""Metrics for Prometheus, as text over HTTP. Nobody is asked for a password here, so it listens only where it was told to.

Rates are Prometheus' own business: `rate(erg_attempts_total[5m])`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ergates.clock import Clock
from ergates.cluster.job import JobStatus
from ergates.controller.reap import CONTROLLER, Reaper
from ergates.controller.watch import Look, Watch
from ergates.drivers.ledgers.drain import Drainer
from ergates.errors import UsageError

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

JOBS_SHOWN = 100
"""Series of their own for so many unfinished jobs; more would be a burden for Prometheus and no help for people."""
LISTEN_EXPECTED = "HOST:PORT such as 127.0.0.1:9464, or [::1]:9464"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where the figures come from. All are only read, from the thread of a scrape."""

    queue: str
    watch: Watch
    drainer: Drainer | None
    reaper: Reaper
    clock: Clock


def collected(sources: Sources) -> Iterator[Metric]:
    """All families. Counters come from counters, nothing is scanned."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    def family(kind: Any, name: str, text: str, values: dict[tuple[str, ...], float], *labels: str) -> Metric:
        made: Metric = kind(name, text, labels=["queue", *labels])
        for key, value in values.items():
            made.add_metric([sources.queue, *key], value)  # type: ignore[attr-defined]
        return made

    def gauge(name: str, text: str, values: dict[tuple[str, ...], float], *labels: str) -> Metric:
        return family(GaugeMetricFamily, name, text, values, *labels)

    def counter(name: str, text: str, values: dict[tuple[str, ...], float], *labels: str) -> Metric:
        return family(CounterMetricFamily, name, text, values, *labels)

    now = sources.clock.now_ns()
    look = sources.watch.last
    yield gauge("erg_store_up", "1 while the store answers the controller.", {(): float(sources.watch.reached)})
    if look is not None:
        yield gauge(
            "erg_look_age_seconds", "Age of the figures about jobs and workers.", {(): (now - look.at_ns) / 1e9}
        )
        yield from _jobs(look, gauge, counter)
        yield from _workers(look, gauge)
        if look.memory is not None:
            used, limit = look.memory
            yield gauge("erg_store_memory_bytes", "Memory the store's server uses.", {(): used})
            yield gauge("erg_store_memory_limit_bytes", "Its limit; 0 for none.", {(): limit})
    yield counter(
        "erg_reaped_leases", "Leases of absent workers that this controller ended.", {(): sources.reaper.reaped}
    )
    if sources.drainer is not None:
        seen = sources.drainer.seen
        lag_s = 0.0 if seen.oldest_ns is None else max(0.0, (now - seen.oldest_ns) / 1e9)
        yield counter("erg_drained_attempts", "Attempts this controller moved into the ledger.", {(): seen.rows})
        yield counter(
            "erg_drain_failures", "Batches to be tried again: store or ledger away or full.", {(): seen.failures}
        )
        yield gauge("erg_drain_lag_seconds", "Age of the oldest attempt that is not in the ledger.", {(): lag_s})
        yield gauge("erg_ledger_up", "0 while attempts cannot be moved.", {(): float(not seen.trouble)})


Family = Callable[..., "Metric"]


def _jobs(look: Look, gauge: Family, counter: Family) -> Iterator[Metric]:
    phases: Counter[tuple[str, ...]] = Counter({(phase,): 0 for phase in ("active", "paused", "finished", "cancelled")})
    tasks: Counter[tuple[str, ...]] = Counter()
    outcomes: Counter[tuple[str, ...]] = Counter()
    for job in look.jobs:
        phases[(job.phase,)] += 1
        tasks.update({(state,): number for state, number in job.counts.items()})
        outcomes.update({(outcome,): number for outcome, number in job.outcomes.items()})
    yield gauge("erg_jobs", "Jobs in the store by phase.", phases, "phase")
    yield gauge("erg_tasks", "Tasks of these jobs by state.", tasks, "state")
    yield counter("erg_attempts", "Attempts of these jobs by outcome.", outcomes, "outcome")
    seconds: dict[str, Callable[[JobStatus], int]] = {
        "erg_wall_seconds": lambda job: job.wall_ns,
        "erg_cpu_seconds": lambda job: job.cpu_ns,
        "erg_wasted_wall_seconds": lambda job: job.wasted_wall_ns,
        "erg_wasted_cpu_seconds": lambda job: job.wasted_cpu_ns,
    }
    for name, of in seconds.items():
        text = f"Summed over all attempts of these jobs{', those without a result only' if 'wasted' in name else ''}."
        yield counter(name, text, {(): sum(of(job) for job in look.jobs) / 1e9})
    costs = [job.cost_usd_micros for job in look.jobs if job.cost_usd_micros is not None]
    if costs:
        yield counter("erg_cost_usd", "Of attempts on nodes that have a price.", {(): sum(costs) / 1e6})
    unfinished = [job for job in look.jobs if job.finished_ns is None][:JOBS_SHOWN]
    each = {(job.id, job.name, state): number for job in unfinished for state, number in job.counts.items()}
    yield gauge(
        "erg_job_tasks", f"Tasks by state of the newest {JOBS_SHOWN} unfinished jobs.", each, "job", "name", "state"
    )


def _workers(look: Look, gauge: Family) -> Iterator[Metric]:
    workers = [worker for worker in look.workers if worker.info.placed_by != CONTROLLER]
    standings: Counter[tuple[str, ...]] = Counter(
        {(name,): 0 for name in ("live", "silent", "condemned", "reaped", "left")}
    )
    standings.update((worker.standing,) for worker in workers)
    yield gauge("erg_workers", "Workers by standing.", standings, "standing")
    live = [worker for worker in workers if worker.standing == "live"]
    yield gauge(
        "erg_workers_cpus", "Cores of live workers.", {(): sum(w.info.capacity.cpus_milli for w in live) / 1000}
    )
    yield gauge(
        "erg_workers_cpus_held", "Of those, held by attempts.", {(): sum(w.load.cpus_milli_held for w in live) / 1000}
    )
    yield gauge(
        "erg_workers_running", "Attempts that run, as workers said last.", {(): sum(w.load.running for w in live)}
    )
    yield gauge(
        "erg_workers_memory_bytes", "Memory of live workers.", {(): sum(w.info.capacity.memory_bytes for w in live)}
    )
    yield gauge("erg_workers_memory_used_bytes", "Of that, in use.", {(): sum(w.load.used_bytes for w in live)})


class MetricsServer:
    """Answers GET with the metrics, in threads of its own."""

    def __init__(self, listen: str, sources: Sources) -> None:
        """Start to listen.

        Raises:
            UsageError: no address, or it is taken.
        """
        from prometheus_client import CollectorRegistry, start_http_server

        host, port = listen_address(listen)
        registry = CollectorRegistry()
        registry.register(_collector(sources))
        try:
            self._server, self._thread = start_http_server(port, host, registry)
        except OSError as error:
            raise UsageError(f"--metrics-listen {listen}: {error.strerror or error}") from error
        self.port = self._server.server_port

    def close(self) -> None:
        """Stop to listen."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def listen_address(text: str) -> tuple[str, int]:
    """`127.0.0.1:9464` and `[::1]:9464`; a port of 0 takes a free one. A host is always named.

    Raises:
        UsageError: it is none.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UsageError(f"--metrics-listen {text}: no address\n  expected: {LISTEN_EXPECTED}")
    return host, int(port)


def _collector(sources: Sources) -> Collector:
    from prometheus_client.registry import Collector

    class ClusterCollector(Collector):
        def collect(self) -> Iterator[Metric]:
            return collected(sources)

        def describe(self) -> Iterator[Metric]:
            """Nothing: so that registering reads nothing."""
            return iter(())

    return ClusterCollector()
