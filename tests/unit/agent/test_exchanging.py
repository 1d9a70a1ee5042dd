"""What a worker and its store say to each other, with a store in memory that can go away, fill up or forget us."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from ergates.agent.exchanging import FAR, NEAR, NEVER_NS, Exchanging
from ergates.agent.store_link import NearStore
from ergates.clock import ManualClock
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.node import NodeCapacity, WorkerInfo
from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.errors import StoreError, StoreFullError, StoreUnavailableError
from ergates.simulation.memory_store import MemoryStore
from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.store import Commit, Done, Exchanged, Lease, Verdict, Want
from ergates.units import GIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

CAPACITY = NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(4 * GIB))
AWAY = StoreUnavailableError("the server does not answer")
J1 = JobId("j1")


class UnsteadyStore(MemoryStore):
    """Raises what it is told to."""

    error: StoreError | None = None
    no_specs = False
    exchanges = 0

    def exchange(self, *args: Any, **kwargs: Any) -> Exchanged:
        self.exchanges += 1
        if self.error is not None:
            raise self.error
        return super().exchange(*args, **kwargs)

    def spec(self, job: JobId) -> JobSpec:
        if self.no_specs:
            raise AWAY
        return super().spec(job)


@dataclass
class Listening:
    """Writes down what it hears."""

    leases: list[Lease] = field(default_factory=list)
    held: set[AttemptKey] = field(default_factory=set)
    said: list[str] = field(default_factory=list)
    ended: list[tuple[TaskId, Verdict]] = field(default_factory=list)

    def holds(self, key: AttemptKey) -> bool:
        return key in self.held

    def answered(self, answer: Exchanged, leases: tuple[Lease, ...]) -> None:
        self.leases += leases

    def expelled(self) -> None:
        self.said.append("expelled")

    def store_is_full(self, error: StoreFullError) -> None:
        self.said.append(f"full: {error}")

    def store_has_room(self) -> None:
        self.said.append("room")

    def store_is_away(self, words: str) -> None:
        self.said.append("away" if words else "back")

    def attempt_started(self, lease: Lease, at_ns: Nanoseconds) -> None: ...

    def attempt_ended(self, lease: Lease, attempt: Attempt, verdict: Verdict, result: bytes | None) -> None:
        self.ended.append((lease.task, verdict))


class Side:
    """One worker's side of the talk."""

    def __init__(self, store: UnsteadyStore, clock: ManualClock, name: str = "w1", rhythm: Any = FAR) -> None:
        self.store, self.clock, self.heard = store, clock, Listening()
        self.info = WorkerInfo(id=name, host=f"host-of-{name}", capacity=CAPACITY)
        self.talk = Exchanging(
            self.heard, self.info, store, NearStore(), clock, rhythm=rhythm, jobs=(), observers=(self.heard,),
            load=None, load_changed=lambda: False, unfit=lambda: (), learned=list, peers=None,
        )  # fmt: skip

    def turn(self, after_ns: int = 0, *, idle: bool = False) -> None:
        self.clock.advance(after_ns)
        self.talk.turn(self.clock.now_ns(), idle=idle)

    def wants(self, count: int) -> None:
        self.talk.wants = (Want(job=J1, class_id=1, priority=0, count=count),)

    def commit(self, lease: Lease) -> None:
        attempt = Attempt(number=lease.attempt, outcome=Outcome.SUCCEEDED)
        commit = Commit(job=lease.job, task=lease.task, fence=lease.fence, attempt=attempt, verdict=Done())
        self.talk.commit(commit, lease)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(10**18)


@pytest.fixture
def store(clock: ManualClock) -> UnsteadyStore:
    store = UnsteadyStore(lease_ns=30 * SECOND_NS)
    store.submit(JobSpec(key="k"), [TaskSpec(command=f"echo {n}") for n in range(10)], clock.now_ns())
    return store


@pytest.fixture
def side(store: UnsteadyStore, clock: ManualClock) -> Side:
    side = Side(store, clock)
    side.talk.register()
    side.turn()
    return side


def leased(side: Side, count: int) -> list[Lease]:
    side.wants(count)
    side.turn()
    return side.heard.leases[-count:]


def test_a_commit_waits_a_moment_for_others_and_a_want_for_nothing(side: Side, clock: ManualClock) -> None:
    first, second = leased(side, 2)
    seen = side.store.exchanges
    side.commit(first)
    side.turn(10_000_000)
    side.commit(second)
    side.turn()
    assert side.store.exchanges == seen
    assert side.talk.due_ns(idle=False) - clock.now_ns() == 10_000_000
    side.turn(10_000_000)
    assert side.store.exchanges == seen + 1
    assert side.store.status(J1).counts["done"] == 2
    assert side.heard.ended == [(1, Done()), (2, Done())]
    side.wants(1)
    assert side.talk.due_ns(idle=False) <= clock.now_ns()


def test_while_the_store_is_away_commits_and_wants_are_kept_and_offered_with_growing_pauses(
    side: Side, clock: ManualClock
) -> None:
    (lease,) = leased(side, 1)
    side.commit(lease)
    side.wants(2)
    side.store.error = AWAY
    pauses = []
    for _ in range(8):
        side.turn()
        pauses.append((side.talk.due_ns(idle=False) - clock.now_ns()) / 1e9)
        clock.advance(side.talk.due_ns(idle=False) - clock.now_ns())
    for pause, most in zip(pauses, (0.5, 1, 2, 4, 5, 5, 5, 5), strict=True):
        assert 0.8 * most <= pause <= most
    assert side.talk.undelivered == 1
    assert side.talk.refused
    side.store.error = None
    side.turn()
    assert side.heard.said == ["away"] * 8 + ["back"]
    assert side.store.status(J1).counts | {"done": 1, "leased": 2} == side.store.status(J1).counts
    assert not side.talk.refused


def test_what_ends_while_an_answer_is_awaited_is_not_forgotten(side: Side) -> None:
    first, second = leased(side, 2)
    side.commit(first)
    side.store.error = AWAY
    side.turn(SECOND_NS)
    side.commit(second)
    side.store.error = None
    side.turn(SECOND_NS)
    assert [task for task, _ in side.heard.ended] == [1, 2], "in the order they ended"


def test_a_full_store_is_asked_again_after_a_second(side: Side, clock: ManualClock) -> None:
    (lease,) = leased(side, 1)
    side.commit(lease)
    side.store.error = StoreFullError("no room")
    side.turn(SECOND_NS)
    assert side.heard.said == ["full: no room"]
    assert side.talk.due_ns(idle=False) - clock.now_ns() == SECOND_NS
    side.store.error = None
    side.turn(SECOND_NS)
    assert side.store.status(J1).counts["done"] == 1
    assert side.heard.said == ["full: no room", "room"]


def test_other_errors_of_the_store_end_the_worker(side: Side) -> None:
    side.store.error = StoreError("wrong password")
    with pytest.raises(StoreError, match="wrong password"):
        side.turn(60 * SECOND_NS)


def test_who_is_expelled_commits_nothing_of_the_old_epoch_and_waits_to_be_readmitted(
    side: Side, store: UnsteadyStore, clock: ManualClock
) -> None:
    first, second = leased(side, 2)
    other = Side(store, clock, "w2")
    other.talk.register()
    clock.advance(31 * SECOND_NS)
    other.turn()  # beats
    other.talk.reap(clock.now_ns())
    other.turn(SECOND_NS)
    side.commit(first)
    side.turn(SECOND_NS)
    assert side.heard.said == ["expelled"]
    assert side.heard.ended == []
    side.commit(second)
    assert side.talk.due_ns(idle=False) == NEVER_NS
    seen = store.exchanges
    side.turn(20 * SECOND_NS)
    assert store.exchanges == seen, "it is silent until nothing of its old life runs any more"
    side.talk.readmit()
    side.turn()
    assert side.talk.registered


def test_lost_leases_are_judged_with_the_host_that_lost_them(
    side: Side, store: UnsteadyStore, clock: ManualClock
) -> None:
    leased(side, 2)
    other = Side(store, clock, "w2")
    other.talk.register()
    clock.advance(31 * SECOND_NS)
    other.turn()
    other.talk.reap(clock.now_ns())
    other.turn(SECOND_NS)
    assert [attempt.host for _, _, attempt in store.attempts(J1)] == ["host-of-w1"] * 2
    assert store.status(J1).counts["delayed"] == 2


def test_nobody_reaps_itself(side: Side, clock: ManualClock) -> None:
    """A worker that slept finds its own leases expired; whether they are is for its next exchange to say."""
    (lease,) = leased(side, 1)
    side.heard.held.add((lease.job, lease.task, lease.fence))
    clock.advance(31 * SECOND_NS)
    side.talk.reap(clock.now_ns())
    assert side.talk.undelivered == 0


def test_after_an_outage_others_get_time_to_find_the_store_again(side: Side, clock: ManualClock) -> None:
    side.store.error = AWAY
    side.turn(20 * SECOND_NS)
    side.store.error = None
    side.turn(20 * SECOND_NS)
    assert side.heard.said == ["away", "back"]
    asked: list[int] = []
    side.store.expired = lambda now_ns, boot_id="": asked.append(now_ns) or ()  # type: ignore[method-assign,assignment,func-returns-value]
    side.turn()
    assert asked == []
    for _ in range(4):
        side.turn(5 * SECOND_NS)
    assert asked


def test_a_lease_whose_job_cannot_be_read_yet_is_kept_and_handed_on_later(side: Side) -> None:
    side.store.no_specs = True
    side.wants(2)
    side.turn()
    assert side.heard.leases == []
    assert side.talk.undelivered == 2
    side.store.no_specs = False
    side.turn(SECOND_NS)
    assert [lease.task for lease in side.heard.leases] == [1, 2]
    assert side.talk.undelivered == 0


def test_an_idle_worker_of_a_far_store_is_silent_until_it_rings(side: Side, clock: ManualClock) -> None:
    assert side.talk.due_ns(idle=True) - clock.now_ns() == 10 * SECOND_NS
    side.talk.look = True
    assert side.talk.due_ns(idle=True) - clock.now_ns() == 20_000_000, (
        "and a bell that rings all the time is not obeyed"
    )
    seen = side.store.exchanges
    side.turn(20_000_000, idle=True)
    assert side.store.exchanges == seen + 1
    assert not side.talk.look


def test_a_delayed_task_is_looked_for_when_it_becomes_ready(
    side: Side, store: UnsteadyStore, clock: ManualClock
) -> None:
    (lease,) = leased(side, 1)
    from ergates.taskqueue.store import PastFailures, Returned

    at_ns = Nanoseconds(clock.now_ns() + 3 * SECOND_NS)
    commit = Commit(
        job=lease.job, task=lease.task, fence=lease.fence,
        attempt=Attempt(number=1, outcome=Outcome.FAILED),
        verdict=Returned(past=PastFailures(failures=1), not_before_ns=at_ns),
    )  # fmt: skip
    side.talk.commit(commit, lease)
    side.turn(SECOND_NS)
    assert side.talk.due_ns(idle=True) == at_ns


def test_a_near_store_is_looked_at_often(store: UnsteadyStore, clock: ManualClock) -> None:
    side = Side(store, clock, rhythm=NEAR)
    side.talk.register()
    side.turn()
    side.turn()
    assert side.talk.due_ns(idle=True) - clock.now_ns() == 200_000_000


def test_another_server_process_may_have_given_a_job_number_anew(side: Side, store: UnsteadyStore) -> None:
    """It forgot `j1`, and the `j1` of now is another job: its tasks must not run in the old one's directory."""
    leased(side, 1)
    assert side.talk.specs[J1].cwd == ""
    store._jobs[J1].spec = JobSpec(key="other", cwd="/elsewhere")
    leased(side, 1)
    assert side.talk.specs[J1].cwd == "", "what was submitted is read once from one server process"
    store._shared.fence = 1 << 32
    leased(side, 1)
    assert side.talk.specs[J1].cwd == "/elsewhere"
