"""The controller's parts: draining through failures, reaping a real store, metrics of what was seen, the loop around them."""

from __future__ import annotations

import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ergates.clock import ManualClock
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobSpec, JobStatus
from ergates.cluster.node import NodeCapacity, WorkerInfo, WorkerLoad, WorkerOrders, WorkerStatus
from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.controller.controller import Controller
from ergates.controller.metrics import MetricsServer, Sources, listen_address
from ergates.controller.reap import AFTER_TROUBLE_NS, REAP_NS, Reaper, reaping_member
from ergates.controller.watch import LOOK_NS, Watch
from ergates.drivers.ledgers.drain import SAY_AGAIN_NS, Drainer
from ergates.drivers.ledgers.sqlite_ledger import SqliteLedger
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.drivers.stores.sqlite_report import SqliteReport
from ergates.errors import StoreError, StoreFullError, StoreUnavailableError, UsageError
from ergates.taskqueue.ledger import DrainBatch, LedgerJob, LedgerRow
from ergates.taskqueue.store import Lease, Want
from ergates.units import SECOND_NS, Bytes, MilliCpus, Nanoseconds

START = 1_700_000_000 * SECOND_NS
JOB = LedgerJob(uid="u", queue="q", id=JobId("j1"), spec=JobSpec(key="k"), submitted_ns=Nanoseconds(START), total=9)


class Queue:
    """The store's side of draining; raises what it is told to."""

    def __init__(self, rows: int) -> None:
        self.rows = [
            LedgerRow(
                job_uid="u", row=number, task=TaskId(number),
                attempt=Attempt(number=1, outcome=Outcome.SUCCEEDED, ended_ns=Nanoseconds(START + number)),
            )
            for number in range(1, rows + 1)
        ]  # fmt: skip
        self.trouble: Exception | None = None

    def undrained(self, most: int) -> DrainBatch:
        if self.trouble is not None:
            raise self.trouble
        return DrainBatch(jobs=(JOB,), rows=tuple(self.rows[:most]), token=b"")

    def forget(self, batch: DrainBatch) -> None:
        self.rows = self.rows[len(batch.rows) :]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START + 100 * SECOND_NS)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / "l.db")
    yield ledger
    ledger.close()


# --- drain ----------------------------------------------------------------------------------------


def test_a_full_batch_is_followed_at_once(clock: ManualClock, ledger: SqliteLedger) -> None:
    queue, said = Queue(700), list[str]()
    drainer = Drainer(queue, ledger, clock, said.append)
    assert [drainer.step() for _ in range(3)] == [500, 200, 0]
    clock.advance(SECOND_NS)
    assert drainer.step() == 0 and drainer.seen.rows == 700 and drainer.seen.oldest_ns is None
    assert said == []


def test_failures_are_told_once_and_tried_again(clock: ManualClock, ledger: SqliteLedger) -> None:
    queue, said = Queue(3), list[str]()
    drainer = Drainer(queue, ledger, clock, said.append)
    queue.trouble = StoreUnavailableError("store: away")
    for _ in range(20):
        assert drainer.step() == 0
        clock.advance(drainer.due_ns - clock.now_ns())
    assert 1 < len(said) <= 3 and set(said) == {"drain: waiting, nothing is lost: store: away"}
    assert drainer.seen.failures == 20 and drainer.seen.trouble == "store: away"
    queue.trouble = StoreFullError("store: full")
    drainer.step()
    assert said[-1] == "drain: waiting, nothing is lost: store: full"
    queue.trouble = None
    clock.advance(60 * SECOND_NS)
    assert drainer.step() == 3 and said[-1] == "drain: goes on" and drainer.seen.trouble == ""
    assert SAY_AGAIN_NS > 60 * SECOND_NS


def test_what_waiting_does_not_mend_is_raised(clock: ManualClock, ledger: SqliteLedger) -> None:
    queue = Queue(3)
    queue.trouble = StoreError("a newer schema")
    with pytest.raises(StoreError, match="newer schema"):
        Drainer(queue, ledger, clock, print).step()


def test_the_oldest_is_known_while_the_ledger_is_away(clock: ManualClock, tmp_path: Path) -> None:
    class Away(SqliteLedger):
        def write(self, batch: DrainBatch) -> int:
            raise StoreUnavailableError("ledger: away")

    drainer = Drainer(Queue(3), Away(tmp_path / "l.db"), clock, lambda text: None)
    drainer.step()
    assert drainer.seen.oldest_ns == START + 1


def test_draining_all(clock: ManualClock, ledger: SqliteLedger) -> None:
    queue = Queue(1600)
    assert Drainer(queue, ledger, clock, print).drain_all() == 1600
    assert not queue.rows and len(list(ledger.attempts("u"))) == 1600


# --- reap -----------------------------------------------------------------------------------------


def member(worker: str) -> WorkerInfo:
    capacity = NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(2**30))
    return WorkerInfo(id=worker, host="h", capacity=capacity)


def test_tasks_of_a_silent_worker_go_back(clock: ManualClock, tmp_path: Path) -> None:
    store, said = SqliteStore(tmp_path / "e.db"), list[str]()
    job = store.submit(JobSpec(key="k"), [TaskSpec(command="c")] * 3, clock.now_ns()).id
    store.register(member("w"), clock.now_ns())
    (offer,) = store.exchange("w", [], [], clock.now_ns()).offers
    want = Want(job=job, class_id=offer.class_id, priority=offer.priority, count=2)
    store.exchange("w", [], [want], clock.now_ns())
    reaper = Reaper(store, clock, reaping_member("controller-1", clock), said.append)
    reaper.step()
    assert reaper.reaped == 0 and [view.info.id for view in SqliteReport(store.connection()).workers()] == ["w"]
    clock.advance(31 * SECOND_NS)
    reaper.step()
    assert reaper.reaped == 2 and said == ["reap: 2 of 2 leases of absent workers ended as lost"]
    assert [made.outcome for _, _, made in store.attempts(job)] == [Outcome.LOST, Outcome.LOST]
    assert store.status(job).counts["leased"] == 0
    standings = {view.info.id: view.standing for view in SqliteReport(store.connection()).workers()}
    assert standings == {"w": "reaped", "controller-1": "left"}
    assert reaper.due_ns == clock.now_ns() + REAP_NS
    assert reaper.reap() == 0
    store.close()


def test_what_a_late_answer_says_of_the_absent_is_not_believed(clock: ManualClock, tmp_path: Path) -> None:
    """The server stood still: beats of workers that live may have waited behind our question."""

    class Slow(SqliteStore):
        takes_ns = 2 * SECOND_NS

        def expired(self, now_ns: Nanoseconds, live_boot_id: str = "") -> tuple[Lease, ...]:
            clock.advance(self.takes_ns)
            return super().expired(now_ns, live_boot_id)

    store, said = Slow(tmp_path / "queue.sqlite"), list[str]()
    job = store.submit(JobSpec(key="k"), [TaskSpec(command="echo")], clock.now_ns()).id
    store.register(member("w1"), clock.now_ns())
    (offer,) = store.exchange("w1", [], [], clock.now_ns()).offers
    want = Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=1)
    assert len(store.exchange("w1", [], [want], clock.now_ns()).leases) == 1
    clock.advance(3600 * SECOND_NS)
    reaper = Reaper(store, clock, reaping_member("c", clock), said.append)
    assert reaper.reap() == 0 and "answer was late" in said[0]
    assert store.status(job).counts["leased"] == 1
    assert reaper.due_ns - clock.now_ns() == AFTER_TROUBLE_NS
    store.takes_ns = 0
    assert reaper.reap() == 1
    store.close()


def test_an_absent_store_is_looked_at_again(clock: ManualClock) -> None:
    class Away:
        def expired(self, now_ns: int, live_boot_id: str = "") -> tuple[()]:
            raise StoreUnavailableError("store: away")

    said = list[str]()
    reaper = Reaper(Away(), clock, reaping_member("c", clock), said.append)  # type: ignore[arg-type]
    reaper.step()
    reaper.step()
    assert said == ["reap: looking again in 15 s: store: away"]


# --- metrics --------------------------------------------------------------------------------------


def status(number: int, phase: str, **counts: int) -> JobStatus:
    return JobStatus(
        id=JobId(f"j{number}"), key="k", name='na"me', phase=phase,  # type: ignore[arg-type]
        submitted_ns=Nanoseconds(START), finished_ns=Nanoseconds(START) if phase == "finished" else None,
        total=sum(counts.values()), counts=dict.fromkeys(TaskState, 0) | counts, outcomes={"succeeded": 4, "failed": 1},
        wall_ns=10 * SECOND_NS, cpu_ns=8 * SECOND_NS, wasted_cpu_ns=2 * SECOND_NS, wasted_wall_ns=3 * SECOND_NS,
        peak_bytes=5, cost_usd_micros=1_500_000 if number == 1 else None,
    )  # fmt: skip


class Cluster:
    """Jobs and workers to look at; `away` for a store that does not answer."""

    def __init__(self) -> None:
        self.away, self.looks = False, 0

    def jobs(self) -> tuple[JobStatus, ...]:
        if self.away:
            raise StoreUnavailableError("away")
        self.looks += 1
        return (status(2, "active", ready=7, done=4), status(1, "finished", done=4, failed=1))

    def workers(self) -> tuple[WorkerStatus, ...]:
        load = WorkerLoad(running=3, used_bytes=Bytes(100), cpus_milli_held=MilliCpus(1500))
        capacity = NodeCapacity(cpus_milli=MilliCpus(0), memory_bytes=Bytes(0))
        reaping = WorkerInfo(id="c", host="h", capacity=capacity, placed_by="controller")
        return tuple(
            WorkerStatus(
                info=info, standing=standing, beat_age_ns=Nanoseconds(0), leases=0, orders=WorkerOrders(), load=load
            )
            for info, standing in (
                (member("a"), "live"),
                (member("b"), "live"),
                (member("d"), "silent"),
                (reaping, "live"),
            )
        )


def scraped(port: int) -> dict[str, float]:
    """Values by name and labels; all have the label of the queue, which is left out here."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line[0] != "#"]
    assert all('queue="q"' in line for line in lines)
    short = (line.replace('queue="q",', "").replace(',queue="q"', "").replace('queue="q"', "") for line in lines)
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in short)}


@pytest.fixture
def scrape(clock: ManualClock, ledger: SqliteLedger) -> Iterator[Callable[[], tuple[dict[str, float], Any]]]:
    cluster, queue = Cluster(), Queue(3)
    drainer = Drainer(queue, ledger, clock, lambda text: None)
    watch = Watch(cluster, lambda: (10, 20), clock)  # type: ignore[arg-type]
    reaper = Reaper(cluster, clock, member("r"), print)  # type: ignore[arg-type]
    server = MetricsServer("127.0.0.1:0", Sources(queue="q", watch=watch, drainer=drainer, reaper=reaper, clock=clock))

    yield lambda: (scraped(server.port), (cluster, watch, drainer, queue))
    server.close()


def test_metrics(scrape: Callable[[], tuple[dict[str, float], Any]], clock: ManualClock) -> None:
    before, (cluster, watch, drainer, queue) = scrape()
    assert before["erg_store_up{}"] == 0 and cluster.looks == 0
    watch.step()
    queue.trouble = StoreUnavailableError("away")
    drainer.step()
    clock.advance(2 * SECOND_NS)
    seen, _ = scrape()
    for name, value in {
        "erg_store_up{}": 1,
        "erg_look_age_seconds{}": 2,
        'erg_jobs{phase="active"}': 1,
        'erg_jobs{phase="finished"}': 1,
        'erg_jobs{phase="paused"}': 0,
        'erg_tasks{state="done"}': 8,
        'erg_tasks{state="ready"}': 7,
        'erg_attempts_total{outcome="succeeded"}': 8,
        "erg_wall_seconds_total{}": 20,
        "erg_wasted_cpu_seconds_total{}": 4,
        "erg_cost_usd_total{}": 1.5,
        'erg_job_tasks{job="j2",name="na\\"me",state="ready"}': 7,
        'erg_workers{standing="live"}': 2,
        'erg_workers{standing="silent"}': 1,
        "erg_workers_cpus{}": 4,
        "erg_workers_cpus_held{}": 3,
        "erg_workers_running{}": 6,
        "erg_store_memory_bytes{}": 10,
        "erg_store_memory_limit_bytes{}": 20,
        "erg_reaped_leases_total{}": 0,
        "erg_drained_attempts_total{}": 0,
        "erg_drain_failures_total{}": 1,
        "erg_ledger_up{}": 0,
    }.items():
        assert seen[name] == value, name
    assert not any('job="j1"' in name for name in seen), "a finished job has no series of its own"


def test_a_scrape_asks_the_store_nothing(
    scrape: Callable[[], tuple[dict[str, float], Any]], clock: ManualClock
) -> None:
    _, (cluster, watch, _, _) = scrape()
    watch.step()
    for _ in range(5):
        scrape()
    watch.step()
    assert cluster.looks == 1
    clock.advance(LOOK_NS)
    cluster.away = True
    watch.step()
    seen, _ = scrape()
    assert seen["erg_store_up{}"] == 0 and seen['erg_workers{standing="live"}'] == 2


def test_the_lag_of_the_drain(
    scrape: Callable[[], tuple[dict[str, float], Any]], clock: ManualClock, ledger: SqliteLedger
) -> None:
    _, (_, _, drainer, _) = scrape()
    drainer.seen.oldest_ns = clock.now_ns() - 30 * SECOND_NS
    assert scrape()[0]["erg_drain_lag_seconds{}"] == 30
    drainer.step()
    seen, _ = scrape()
    assert seen["erg_drain_lag_seconds{}"] == 0 and seen["erg_drained_attempts_total{}"] == 3


def test_addresses_to_listen_at() -> None:
    assert listen_address("127.0.0.1:9464") == ("127.0.0.1", 9464)
    assert listen_address("[::1]:0") == ("::1", 0)
    for text in ("9464", ":9464", "localhost", "h:99999", "h:x", ""):
        with pytest.raises(UsageError, match=r"--metrics-listen .*: no address\n  expected: HOST:PORT"):
            listen_address(text)


def test_an_address_that_is_taken(clock: ManualClock) -> None:
    watch = Watch(Cluster(), None, clock)  # type: ignore[arg-type]
    reaper = Reaper(Cluster(), clock, member("r"), print)  # type: ignore[arg-type]
    sources = Sources(queue="q", watch=watch, drainer=None, reaper=reaper, clock=clock)
    server = MetricsServer("127.0.0.1:0", sources)
    with pytest.raises(UsageError, match="Address already in use"):
        MetricsServer(f"127.0.0.1:{server.port}", sources)
    server.close()


# --- the loop -------------------------------------------------------------------------------------


class Part:
    """Due every second; stops the loop at its fifth step."""

    def __init__(self, clock: ManualClock, stop: threading.Event) -> None:
        self._clock, self._stop = clock, stop
        self.due_ns, self.steps = 0, 0

    def step(self) -> None:
        self.steps += 1
        self.due_ns = self._clock.now_ns()
        if self.steps == 5:
            self._stop.set()


def test_the_loop_ends_after_the_step_at_hand(clock: ManualClock) -> None:
    stop = threading.Event()
    drainer, reaper = Part(clock, stop), Part(clock, threading.Event())
    Controller(drainer=drainer, reaper=reaper, watch=None, clock=clock).run(stop)  # type: ignore[arg-type]
    assert (drainer.steps, reaper.steps) == (5, 4)
