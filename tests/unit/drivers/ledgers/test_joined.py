"""A store that forgets and a ledger that keeps, read and summed as one; and while a drain happens in between."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ergates.cluster.attempt import Attempt, Kept, Outcome
from ergates.cluster.job import JobSpec, JobStatus
from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.cluster.usage import Usage
from ergates.drivers.ledgers import joined
from ergates.drivers.ledgers.joined import JoinedReader, ledger_uids
from ergates.drivers.ledgers.joined_sums import ReportJob, chosen_jobs, cluster_sums, job_names, report_jobs
from ergates.drivers.ledgers.sqlite_ledger import SqliteLedger
from ergates.errors import UnknownJobError
from ergates.taskqueue.draining import move
from ergates.taskqueue.ledger import DrainBatch, LedgerJob, LedgerRow
from ergates.taskqueue.ledger_sums import merged_sums, sums_of
from ergates.taskqueue.store import PastFailures, TaskView
from ergates.units import Nanoseconds, UsdMicros

ONE, TWO = JobId("j1"), JobId("j2")


class Store:
    """A cluster's store as far as it is read here; pages of two rows, so that a drain can come between them."""

    queue = "default"

    def __init__(self, rows: dict[JobId, int]) -> None:
        self.ledger_jobs = {
            job: LedgerJob(
                uid=f"uid-{job}", queue="default", id=job, spec=self.spec(job), submitted_ns=self._at(job), total=9
            )
            for job in rows
        }
        self.rows = [self._row(job, number) for job, many in rows.items() for number in range(1, many + 1)]
        self.disturb: Callable[[], object] = lambda: None
        """Called before each page is read: what others do meanwhile."""

    def _row(self, job: JobId, number: int) -> LedgerRow:
        outcome = list(Outcome)[number % 5]
        usage = Usage(wall_ns=Nanoseconds(number), cpu_ns=Nanoseconds(2 * number), cost_usd_micros=UsdMicros(3))
        made = Attempt(number=1, outcome=outcome, host=f"h{number % 3}", usage=usage, reason=outcome.value)
        labels = {"size": str(number % 4)} if number % 3 else {}
        kept = Kept(stdout=f"{job}/{number}".encode()) if number % 2 else None
        return LedgerRow(job_uid=f"uid-{job}", row=number, task=TaskId(number), attempt=made, labels=labels, kept=kept)

    def _at(self, job: JobId) -> Nanoseconds:
        return Nanoseconds(1000 * int(job[1:]))

    def spec(self, job: JobId) -> JobSpec:
        return JobSpec(key=f"key {job}", name=f"name {job}", labels={"size": "of job"})

    def status(self, job: JobId) -> JobStatus:
        return JobStatus(
            id=job, key=f"key {job}", name=f"name {job}", phase="active", submitted_ns=self._at(job), finished_ns=None,
            total=9, counts={}, outcomes={}, wall_ns=0, cpu_ns=0, wasted_cpu_ns=0, wasted_wall_ns=0, peak_bytes=0,
            cost_usd_micros=None,
        )  # fmt: skip

    def jobs(self) -> tuple[JobStatus, ...]:
        return tuple(self.status(job) for job in reversed(self.ledger_jobs))

    def tasks(self, job: JobId, *, states: Any = (), ids: Any = (), limit: Any = None) -> Iterator[TaskView]:
        for first, last in ids:
            for task in range(first, last + 1):
                spec = TaskSpec(command="c", labels=self._row(job, task).labels)
                yield TaskView(
                    job=job, task=TaskId(task), state=TaskState.DONE, spec=spec, past=PastFailures(), attempts=1,
                    not_before_ns=Nanoseconds(0), reason="", worker="", blocked_by=0,
                )  # fmt: skip

    def attempts(
        self, job: JobId, *, ids: Sequence[tuple[int, int]] = (), since_row: int = 0
    ) -> Iterator[tuple[int, TaskId, Attempt]]:
        while page := self._page(job, ids, since_row):
            for one in page:
                yield one.row, one.task, one.attempt
            since_row = page[-1].row

    def _page(self, job: JobId, ids: Sequence[tuple[int, int]], since_row: int) -> list[LedgerRow]:
        self.disturb()
        return [
            one
            for one in self.rows
            if one.job_uid == f"uid-{job}" and one.row > since_row
            and (not ids or any(first <= one.task <= last for first, last in ids))
        ][:2]  # fmt: skip

    def kept(self, job: JobId, ids: Sequence[tuple[int, int]] = ()) -> Iterator[tuple[int, int, Kept]]:
        for one in self.rows:
            inside = not ids or any(first <= one.task <= last for first, last in ids)
            if one.job_uid == f"uid-{job}" and inside and one.kept is not None:
                yield one.task, one.attempt.number, one.kept

    def undrained(self, most: int) -> DrainBatch:
        rows = tuple(self.rows[:most])
        return DrainBatch(jobs=tuple(self.ledger_jobs.values()), rows=rows, token=str(len(rows)).encode())

    def forget(self, batch: DrainBatch) -> None:
        gone = {(one.job_uid, one.row) for one in batch.rows}
        self.rows = [one for one in self.rows if (one.job_uid, one.row) not in gone]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqliteLedger]:
    ledger = SqliteLedger(tmp_path / "l.db")
    yield ledger
    ledger.close()


@pytest.mark.parametrize("drained", [0, 1, 7, 20, 30])
def test_all_attempts_in_order_wherever_they_are(ledger: SqliteLedger, drained: int) -> None:
    store = Store({ONE: 20, TWO: 10})
    reader = JoinedReader(store, ledger)
    if drained:
        move(store.undrained(drained), store, ledger)
    for job, many in ((ONE, 20), (TWO, 10)):
        found = list(reader.attempts(job))
        assert [row for row, _, _ in found] == [task for _, task, _ in found] == list(range(1, many + 1))
        assert [row for row, _, _ in reader.attempts(job, since_row=4)] == list(range(5, many + 1))
        ids = ((2, 3), (8, 8))
        assert [row for row, _, _ in reader.attempts(job, ids=ids, since_row=2)] == [3, 8]
        outputs = {task: kept.stdout for task, _, kept in reader.kept(job)}
        assert outputs == {number: f"{job}/{number}".encode() for number in range(1, many + 1, 2)}
        assert [task for task, _, _ in reader.kept(job, ((4, 7),))] == [5, 7]


def test_written_but_not_forgotten_is_there_once(ledger: SqliteLedger) -> None:
    store = Store({ONE: 9})
    ledger.write(store.undrained(6))
    reader = JoinedReader(store, ledger)
    assert [row for row, _, _ in reader.attempts(ONE)] == list(range(1, 10))
    assert sorted(task for task, _, _ in reader.kept(ONE)) == [1, 3, 5, 7, 9]


@pytest.mark.parametrize("seed", range(30))
def test_a_drain_in_the_middle_of_a_listing(ledger: SqliteLedger, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joined, "ROWS_AT_ONCE", 3)
    chance = random.Random(f"{seed}/listing")
    store = Store({ONE: 25})
    reader = JoinedReader(store, ledger)

    def drain_perhaps() -> None:
        if chance.random() < 0.4:
            move(store.undrained(chance.randrange(1, 8)), store, ledger)

    store.disturb = drain_perhaps
    seen = []
    for row, _, _ in reader.attempts(ONE):
        seen.append(row)
        drain_perhaps()
    assert seen == list(range(1, 26))


def test_a_job_of_the_same_id_from_before_is_another(ledger: SqliteLedger) -> None:
    """The queue was thrown away and made anew: `j1` is not that `j1`."""
    store = Store({ONE: 4})
    move(store.undrained(10), store, ledger)
    store._at = lambda job: Nanoseconds(77)  # type: ignore[method-assign]
    assert list(JoinedReader(store, ledger).attempts(ONE)) == []
    assert ledger_uids("other", [Store({ONE: 1}).status(ONE)], ledger.jobs()) == {}
    assert ledger_uids("default", [Store({ONE: 1}).status(ONE)], ledger.jobs()) == {ONE: "uid-j1"}


# --- sums -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["job", "host", "outcome", "reason", "queue", "label:size"])
@pytest.mark.parametrize("drained", [None, 0, 9, 30])
@pytest.mark.parametrize("word", [None, "j1"])
def test_sums_count_each_attempt_once(ledger: SqliteLedger, by: str, drained: int | None, word: str | None) -> None:
    store = Store({ONE: 20, TWO: 10})
    every = list(store.rows)
    if drained:
        move(store.undrained(drained), store, ledger)
        ledger.write(store.undrained(3))  # and some that are in both
    used = None if drained is None else ledger
    jobs = report_jobs(store, used)
    chosen = jobs if word is None else chosen_jobs(jobs, word)
    report = cluster_sums(store, used, by, chosen, all_jobs=word is None)
    counted = [one for one in every if word is None or one.job_uid == "uid-j1"]
    assert report.sums == merged_sums(sums_of(one.attempt, _group(by, one)) for one in counted)
    assert not report.left_out


def _group(by: str, one: LedgerRow) -> str:
    match by:
        case "job":
            return one.job_uid.removeprefix("uid-")
        case "queue":
            return "default"
        case "label:size":
            return one.labels.get("size", "of job")
        case _:
            return str(getattr(one.attempt, by))


def test_a_ledger_alone(ledger: SqliteLedger) -> None:
    store = Store({ONE: 20, TWO: 10})
    move(store.undrained(30), store, ledger)
    jobs = report_jobs(None, ledger)
    report = cluster_sums(None, ledger, "job", jobs, all_jobs=True)
    assert [(entry.group, entry.attempts) for entry in report.sums] == [("j1", 20), ("j2", 10)]


def test_choosing_a_job() -> None:
    jobs = report_jobs(Store({ONE: 1, TWO: 1}), None)
    for word in ("j2", "2", "key j2", "name j2"):
        assert [job.id for job in chosen_jobs(jobs, word)] == [TWO]
    with pytest.raises(UnknownJobError, match=r"no job 'j7'.*\n.*expected: one of j2 \(name j2\), j1"):
        chosen_jobs(jobs, "j7")


def test_names_tell_jobs_apart() -> None:
    def job(uid: str, queue: str, number: int) -> ReportJob:
        at = Nanoseconds(number)
        return ReportJob(uid=uid, queue=queue, id=JobId(f"j{number}"), key="", name="", submitted_ns=at)

    assert job_names([job("a", "q", 1), job("b", "q", 2)]) == {"a": "j1", "b": "j2"}
    assert job_names([job("a", "q", 1), job("b", "r", 1)]) == {"a": "q/j1", "b": "r/j1"}
    again = [job("a" * 32, "q", 1), job("b" * 32, "q", 1)]
    assert list(job_names(again).values()) == ["j1 (aaaaaaaa)", "j1 (bbbbbbbb)"]
