"""When the controller lets finished jobs go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ergates.clock import ManualClock
from ergates.cluster.job import JobSpec
from ergates.cluster.task import JobId, TaskSpec
from ergates.controller.forget import AFTER_TROUBLE_NS, LOOK_NS, Forgetter
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.errors import StoreUnavailableError
from ergates.taskqueue.retention import Forgetting
from ergates.units import SECOND_NS, Nanoseconds

START = 1_700_000_000 * SECOND_NS
DAY_NS = Nanoseconds(86_400 * SECOND_NS)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "e.db")
    yield store
    store.close()


def ended_job(store: SqliteStore, clock: ManualClock, key: str) -> JobId:
    """Cancelled before anything was tried: nothing of it has to be drained."""
    job = store.submit(JobSpec(key=key), [TaskSpec(command="c")], clock.now_ns()).id
    store.set_phase(job, "cancelled", clock.now_ns())
    return job


def test_a_job_goes_when_its_time_has_come(store: SqliteStore, clock: ManualClock) -> None:
    said: list[str] = []
    forgetter = Forgetter(store, DAY_NS, clock, said.append)
    old = ended_job(store, clock, "old")
    clock.advance(DAY_NS // 2)
    young = ended_job(store, clock, "young")
    forgetter.step()
    assert (forgetter.forgotten, forgetter.due_ns) == (0, clock.now_ns() + LOOK_NS)
    clock.advance(DAY_NS // 2)
    forgetter.step()
    assert [job.id for job in store.jobs()] == [young]
    assert said == [f"forget: {old}: finished, and all attempts drained"]
    forgetter.step()  # not due again
    assert forgetter.forgotten == 1


def test_short_ages_are_looked_at_more_often(store: SqliteStore, clock: ManualClock) -> None:
    forgetter = Forgetter(store, Nanoseconds(5 * SECOND_NS), clock, print)
    forgetter.step()
    assert forgetter.due_ns == clock.now_ns() + 5 * SECOND_NS


def test_many_jobs_go_in_several_steps(store: SqliteStore, clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ergates.controller.forget.AT_ONCE", 3)
    said: list[str] = []
    forgetter = Forgetter(store, Nanoseconds(0), clock, said.append)
    names = [ended_job(store, clock, f"k{number}") for number in range(7)]
    forgetter.step()
    assert forgetter.forgotten == 3 and forgetter.due_ns == clock.now_ns()
    assert said == [f"forget: {', '.join(names[:3])}: finished, and all attempts drained"]
    forgetter.step()
    forgetter.step()
    assert store.jobs() == () and forgetter.due_ns > clock.now_ns()


def test_an_absent_store_is_looked_at_later(tmp_path: Path, clock: ManualClock) -> None:
    class Away(SqliteStore):
        def with_history(self) -> frozenset[JobId]:
            raise StoreUnavailableError("away")

        def forget_job(self, job: JobId, *, history: bool = False) -> Forgetting:
            raise AssertionError("nothing may be forgotten without looking")

    store = Away(tmp_path / "e.db")
    ended_job(store, clock, "k")
    forgetter = Forgetter(store, Nanoseconds(0), clock, print)
    forgetter.step()
    assert forgetter.due_ns == clock.now_ns() + AFTER_TROUBLE_NS
    store.close()
