"""Runs as tasks of a store: which are there, which are left out, what becomes of attempts that no store knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ergates.clock import SystemClock
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.node import NamedResource, NodeCapacity, WorkerInfo
from ergates.cluster.task import JobId
from ergates.cluster.task_state import TaskState
from ergates.conductor.experiment_folder import ExperimentFolder
from ergates.conductor.leftovers import give_back
from ergates.conductor.submission import earlier_attempts, ranges, submit_runs
from ergates.conductor.watching import Watch
from ergates.drivers import machine
from ergates.drivers.hosts.local_workers import Place
from ergates.drivers.stores.sqlite import SqliteStore
from ergates.experiment.plan import plan_runs
from ergates.experiment.reading.read_experiment import parse_experiment
from ergates.experiment.records import Manifest
from ergates.taskqueue.store import Commit, Done, Failed, Lease, Returned, Want
from ergates.units import Bytes, MilliCpus

FILE = """
[experiment]
name = "x"
order = "listed"
[programs.p]
command = "echo {a}"
[sweep]
a = [1, 2, 3, 4]
"""
EXPERIMENT = parse_experiment(FILE, "x.toml", Path("/nowhere"))
RUNS = plan_runs(EXPERIMENT)
CLOCK = SystemClock()


@pytest.fixture
def folder(tmp_path: Path) -> ExperimentFolder:
    found = ExperimentFolder(tmp_path / "x.experiment")
    found.write_plan(EXPERIMENT, FILE, RUNS)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "ergates.db")) as opened:
        yield opened


def submitted(store: SqliteStore, folder: ExperimentFolder, *wanted: int, again: tuple[int, ...] = ()) -> JobId:
    place = Place(folder=folder.path, here=Path("/nowhere"))
    return submit_runs(store, EXPERIMENT, folder, place, RUNS, wanted, CLOCK, again=again)


def finish(folder: ExperimentFolder, number: int, *, ok: bool = True) -> None:
    run = RUNS[number - 1]
    folder.run_folder(run).mkdir(parents=True, exist_ok=True)
    folder.finish(run, Manifest(experiment="x", run=run, ok=ok))


def states(store: SqliteStore, job: JobId) -> list[str]:
    return [view.state.value for view in store.tasks(job)]


def leased(store: SqliteStore, job: JobId, *, pid: int = 0) -> tuple[str, Lease]:
    """A worker that has room for one run, and the run it got."""
    capacity = NodeCapacity(
        cpus_milli=MilliCpus(1000),
        memory_bytes=Bytes(1 << 30),
        resources=(NamedResource(name="host", amount=1),),
        labels={"experiment": "x", "group": "here"},
    )
    info = WorkerInfo(
        id=f"worker-{pid}", host=machine.host_name(), pid=pid, boot_id=machine.boot_id(), capacity=capacity
    )
    store.register(info, CLOCK.now_ns())
    offers = store.exchange(info.id, [], [], CLOCK.now_ns(), (job,)).offers
    want = Want(job=job, class_id=offers[0].class_id, priority=offers[0].priority, count=1)
    (lease,) = store.exchange(info.id, [], [want], CLOCK.now_ns(), (job,)).leases
    return info.id, lease


def test_what_is_not_asked_for_and_what_is_finished_waits_for_nobody(
    store: SqliteStore, folder: ExperimentFolder
) -> None:
    finish(folder, 2)
    job = submitted(store, folder, 1, 2, 3)
    assert states(store, job) == ["ready", "cancelled", "ready", "cancelled"]
    assert submitted(store, folder, 1, 2, 3) == job, "the same runs go on with the same job"
    finish(folder, 1)
    assert submitted(store, folder, 1, 2, 3) == job
    assert states(store, job) == ["cancelled", "cancelled", "ready", "cancelled"]
    other = submitted(store, folder, 1, 2, 3, 4)
    assert states(store, other) == ["cancelled", "cancelled", "ready", "ready"]
    assert set(states(store, job)) == {"cancelled"}, "nobody makes a run of an older job"


def test_attempts_of_a_store_that_is_lost_are_set_aside(store: SqliteStore, folder: ExperimentFolder) -> None:
    attempt = folder.run_folder(RUNS[0]) / "attempt-1"
    (attempt / "0-main").mkdir(parents=True)
    (attempt / "0-main" / "stdout").write_text("half")
    forgotten: list[int] = []

    def submit() -> None:
        place = Place(folder=folder.path, here=Path("/nowhere"))
        submit_runs(
            store, EXPERIMENT, folder, place, RUNS, (1, 2), CLOCK,
            forget=lambda runs: forgotten.extend(run.number for run in runs),
        )  # fmt: skip

    submit()
    assert not attempt.exists() and forgotten == [1, 2]
    assert (folder.run_folder(RUNS[0]) / "earlier-1" / "0-main" / "stdout").read_text() == "half"
    assert earlier_attempts(folder, RUNS[0]) == ("earlier-1: cut off",)
    attempt.mkdir()
    submit()
    assert attempt.exists() and forgotten == [1, 2], "this store knows it"


def test_ended_runs_are_told_once_and_only_when_they_are_not_tried_again(
    store: SqliteStore, folder: ExperimentFolder
) -> None:
    job = submitted(store, folder, 1, 2)
    watch = Watch(store, job)
    assert watch.ended({1, 2}) == []
    worker, lease = leased(store, job)
    tried = Attempt(number=1, outcome=Outcome.FAILED, reason="exit code 1")
    back = Commit(job=job, task=lease.task, fence=lease.fence, attempt=tried, verdict=Returned(past=lease.past))
    store.exchange(worker, [back], [], CLOCK.now_ns())
    assert watch.ended({1, 2}) == [], "it is tried again"
    _, lease = leased(store, job)
    assert (lease.task, lease.attempt) == (1, 2)
    last = Commit(
        job=job,
        task=lease.task,
        fence=lease.fence,
        attempt=Attempt(number=2, outcome=Outcome.FAILED, reason="exit code 1"),
        verdict=Failed(reason="exit code 1 (tried twice)"),
    )
    store.exchange(worker, [last], [], CLOCK.now_ns())
    (ended,) = watch.ended({1, 2})
    assert (ended.number, ended.state, ended.tries) == (1, TaskState.FAILED, 2)
    assert [attempt.number for attempt in ended.attempts] == [1, 2]
    assert watch.ended({2}) == [] and watch.ended({1, 2}) == []
    assert [each.number for each in watch.ended({1, 2}, all_of_them=True)] == [1], "asked for all, it is told again"
    job_again = submitted(store, folder, 1, 2, again=(1,))
    assert job_again == job and states(store, job)[0] == "ready"


def test_runs_of_dead_workers_are_given_back_uncounted(store: SqliteStore, folder: ExperimentFolder) -> None:
    job = submitted(store, folder, 1, 2)
    dead = 1 << 22  # above every number the kernel gives by default
    _, lease = leased(store, job, pid=dead)
    assert states(store, job)[0] == "leased"
    assert give_back(store, job, CLOCK) == 1
    assert give_back(store, job, CLOCK) == 0
    assert states(store, job)[0] == "ready"
    (view,) = store.tasks(job, ids=[(lease.task, lease.task)])
    assert view.past == lease.past
    worker, again = leased(store, job, pid=1)
    assert (again.task, again.attempt) == (lease.task, 2)
    done = Commit(
        job=job,
        task=again.task,
        fence=again.fence,
        attempt=Attempt(number=2, outcome=Outcome.SUCCEEDED),
        verdict=Done(),
    )
    store.exchange(worker, [done], [], CLOCK.now_ns())
    (ended,) = Watch(store, job).ended({1, 2})
    assert [attempt.outcome for attempt in ended.attempts] == [Outcome.RETURNED, Outcome.SUCCEEDED]


def test_ranges() -> None:
    assert ranges([3, 1, 2, 7, 9, 8]) == [(1, 3), (7, 9)]
    assert ranges([]) == []
