"""Sums over the ledger, against sums made by hand from the attempts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import JobId, TaskSpec
from ergates.cluster.usage import Usage
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.drivers.stores.sqlite_report import SqliteReport
from ergates.errors import UnknownJobError, UsageError
from ergates.taskqueue.ledger_sums import LedgerSums
from ergates.taskqueue.store import Commit, Done, Failed, Want
from ergates.units import Bytes, Microjoules, MilliCpus, Nanoseconds, UsdMicros

NOW = Nanoseconds(10**18)
MANY = 4200
"""More different labels than a job writes as profiles, so that some tasks carry their own."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "e.db")
    tasks = [
        TaskSpec(command="c", priority=n % 11, labels={"size": str(n % 3), "n": str(n)} if n % 5 else {})
        for n in range(MANY)
    ]
    store.submit(JobSpec(key="a"), tasks, NOW)
    store.submit(JobSpec(key="b"), [TaskSpec(command="c", labels={"size": "9"})], NOW)
    capacity = NodeCapacity(cpus_milli=MilliCpus(1000), memory_bytes=Bytes(1))
    store.register(WorkerInfo(id="w", host="alpha", capacity=capacity), NOW)
    while offers := store.exchange("w", [], [], NOW).offers:
        wants = [Want(job=o.job, class_id=o.class_id, priority=o.priority, count=1000) for o in offers]
        leases = store.exchange("w", [], wants, NOW).leases
        commits = []
        for lease in leases:
            failed = lease.task % 7 == 0
            made = Attempt(
                number=1,
                outcome=Outcome.FAILED if failed else Outcome.SUCCEEDED,
                host=f"h{lease.task % 2}",
                usage=Usage(
                    wall_ns=Nanoseconds(lease.task),
                    cpu_ns=Nanoseconds(2 * lease.task),
                    peak_bytes=Bytes(lease.task * 10),
                    cost_usd_micros=UsdMicros(3) if lease.task % 2 else None,
                    energy_uj=Microjoules(5 if lease.task % 4 == 1 else 0),
                    energy_label="modelled" if lease.task % 4 == 1 else "unknown",
                ),
                reason="x" if failed else "",
            )
            verdict = Failed(reason="x") if failed else Done()
            commits.append(Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=made, verdict=verdict))
        store.exchange("w", commits, [], NOW)
    yield store
    store.close()


def by_hand(store: SqliteStore, group: Callable[[JobId, TaskSpec, Attempt], str]) -> dict[str, list[int]]:
    sums: dict[str, list[int]] = {}
    for job in store.jobs():
        specs = {view.task: view.spec for view in store.tasks(job.id)}
        for _, task, made in store.attempts(job.id):
            row = sums.setdefault(group(job.id, specs[task], made), [0] * 11)
            wasted = made.outcome != Outcome.SUCCEEDED
            row[0] += 1
            row[1] += not wasted
            row[2] += made.usage.wall_ns
            row[3] += made.usage.cpu_ns
            row[4] += made.usage.wall_ns * wasted
            row[5] += made.usage.cpu_ns * wasted
            row[6] = max(row[6], made.usage.peak_bytes)
            row[7] += made.usage.cost_usd_micros or 0
            row[8] += (made.usage.cost_usd_micros or 0) * wasted
            row[9] += made.usage.energy_uj
            row[10] += made.usage.energy_uj * wasted
    return sums


def columns(row: LedgerSums) -> list[int]:
    return [
        row.attempts, row.succeeded, row.wall_ns, row.cpu_ns, row.wasted_wall_ns, row.wasted_cpu_ns, row.peak_bytes,
        row.cost_usd_micros or 0, row.wasted_cost_usd_micros or 0, row.energy_uj or 0, row.wasted_energy_uj or 0,
    ]  # fmt: skip


GROUPS: dict[str, Callable[[JobId, TaskSpec, Attempt], str]] = {
    "job": lambda job, spec, made: job,
    "host": lambda job, spec, made: made.host,
    "worker": lambda job, spec, made: made.worker,
    "outcome": lambda job, spec, made: made.outcome.value,
    "reason": lambda job, spec, made: made.reason,
    "priority": lambda job, spec, made: str(spec.priority),
    "label:size": lambda job, spec, made: spec.labels.get("size", ""),
    "label:n": lambda job, spec, made: spec.labels.get("n", ""),
    "label:none": lambda job, spec, made: "",
}


def test_sums_by_everything(store: SqliteStore) -> None:
    report = SqliteReport(store.connection())
    for by, group in GROUPS.items():
        rows = report.sums(by)
        assert {row.group: columns(row) for row in rows} == by_hand(store, group), by
        assert len({row.group for row in rows}) == len(rows)
    assert [row.group for row in report.sums("priority")] == [str(number) for number in range(11)]


def test_sums_of_some_jobs(store: SqliteStore) -> None:
    report = SqliteReport(store.connection())
    assert [row.group for row in report.sums("job", [JobId("j2")])] == ["j2"]
    assert [row.group for row in report.sums("label:size", [JobId("j2")])] == ["9"]
    assert sum(row.attempts for row in report.sums("host", [JobId("j1"), JobId("j2")])) == MANY + 1


def test_no_price_is_not_zero(store: SqliteStore) -> None:
    rows = {row.group: row for row in SqliteReport(store.connection()).sums("host")}
    assert rows["h0"].cost_usd_micros is rows["h0"].wasted_cost_usd_micros is None
    assert rows["h0"].energy_uj is rows["h0"].wasted_energy_uj is None
    assert rows["h0"].energy_label == "unknown" and rows["h1"].energy_label == "modelled"
    assert rows["h1"].cost_usd_micros == 3 * rows["h1"].attempts


@pytest.mark.parametrize("by", ["", "label:", "colour", "label"])
def test_a_group_that_does_not_exist(store: SqliteStore, by: str) -> None:
    with pytest.raises(UsageError, match="expected job, host, worker, outcome, reason, priority or label:KEY"):
        SqliteReport(store.connection()).sums(by)


def test_a_job_that_does_not_exist(store: SqliteStore) -> None:
    with pytest.raises(UnknownJobError):
        SqliteReport(store.connection()).sums("job", [JobId("x")])


def test_workers(store: SqliteStore) -> None:
    (worker,) = SqliteReport(store.connection()).workers()
    assert (worker.info.id, worker.standing, worker.leases, worker.beat_ns) == ("w", "live", 0, NOW)


def test_the_ledger_can_be_read_with_plain_sql(store: SqliteStore) -> None:
    rows = store.connection().raw.execute(
        "SELECT job, task, outcome, host, wall_ns FROM ledger WHERE job = 'j1' AND task IN (7, 8) ORDER BY task"
    )
    assert rows.fetchall() == [("j1", 7, "failed", "h1", 7), ("j1", 8, "succeeded", "h0", 8)]
