"""The node's policy: one state, one event, the exact actions."""

from __future__ import annotations

from typing import TypeVar

from ergates.cluster.node import NamedResource, NodeCapacity
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.node_events import (
    AskForTasks,
    AttemptEnded,
    DrainStarted,
    EndAttempt,
    FreezeAttempt,
    GiveBack,
    HandBack,
    LeasesRevoked,
    NodeAction,
    NodeSampled,
    OffersSeen,
    RefuseTask,
    RestEnded,
    RestStarted,
    SetOomOrder,
    StartAttempt,
    TasksLeased,
    WakeAt,
)
from ergates.taskqueue.node_policy import NodePolicy
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.store import Lease, Offer, PastFailures, PastPeak, Want
from ergates.units import GIB, MIB, Bytes, MilliCpus, Nanoseconds

T0 = 1_000_000_000_000
SECOND = 1_000_000_000
Action = TypeVar("Action", bound=NodeAction)


def capacity(cpus: float = 2, memory: int = 4 * GIB) -> NodeCapacity:
    return NodeCapacity(
        cpus_milli=MilliCpus(int(cpus * 1000)),
        cpu_ids=tuple(range(int(cpus))),
        memory_bytes=Bytes(memory),
        confined=True,
        resources=(NamedResource(name="gpus", amount=1, indices=(7,)),),
    )


def lease(task: int, command: str = "sim --seed 1", *, priority: int = 0, **requirement: object) -> Lease:
    spec = TaskSpec(command=command, priority=priority, requirement=Requirement(**requirement))  # type: ignore[arg-type]
    return Lease(job=JobId("j"), task=TaskId(task), fence=task, attempt=1, spec=spec, past=PastFailures())


def key(task: int) -> AttemptKey:
    return ("j", task, task)


def leased(*leases: Lease) -> TasksLeased:
    return TasksLeased(leases=leases)


def offer(waiting: int, *, priority: int = 0, class_id: int = 0, **requirement: object) -> Offer:
    need = Requirement(**requirement)  # type: ignore[arg-type]
    return Offer(job=JobId("j"), class_id=class_id, requirement=need, priority=priority, waiting=waiting)


def ended(task: int, *, peak: int = 50 * MIB, wall_s: float = 1.0, gave_back: bool = False) -> AttemptEnded:
    return AttemptEnded(
        key=key(task),
        wall_ns=Nanoseconds(int(wall_s * 1e9)),
        peak_bytes=Bytes(peak),
        succeeded=not gave_back,
        gave_back=gave_back,
    )


def sampled(used: int, *attempts: tuple[int, int]) -> NodeSampled:
    return NodeSampled(used_bytes=Bytes(used), attempts=tuple((key(task), Bytes(size)) for task, size in attempts))


def of(kind: type[Action], actions: list[NodeAction]) -> list[Action]:
    return [action for action in actions if isinstance(action, kind)]


def started(actions: list[NodeAction]) -> list[int]:
    return [action.key[1] for action in of(StartAttempt, actions)]


def knows(command_shape: str, peak: int, wall_s: float, runs: int = 20) -> list[PastPeak]:
    wall_ns = int(wall_s * 1e9)
    return [
        PastPeak(shape=command_shape, peak_bytes=peak + at, input_bytes=-1, wall_ns=wall_ns, at_ns=1)
        for at in range(runs)
    ]


# --- asking ------------------------------------------------------------------------------------------


def test_asks_for_what_could_start_and_a_little_more() -> None:
    policy = NodePolicy(capacity(), NodeSettings())
    actions = policy.handle(OffersSeen(offers=(offer(100),)), Nanoseconds(T0))
    assert actions == [AskForTasks(wants=(Want(job=JobId("j"), class_id=0, priority=0, count=4),))]


def test_does_not_ask_again_before_the_answer() -> None:
    policy = NodePolicy(capacity(), NodeSettings())
    policy.handle(OffersSeen(offers=(offer(100),)), Nanoseconds(T0))
    assert not of(AskForTasks, policy.handle(leased(lease(1)), Nanoseconds(T0 + 1)))
    assert of(AskForTasks, policy.handle(OffersSeen(offers=(offer(99),)), Nanoseconds(T0 + 2)))


def test_asks_for_the_highest_priority_first() -> None:
    policy = NodePolicy(capacity(), NodeSettings())
    actions = policy.handle(
        OffersSeen(offers=(offer(3, priority=1), offer(9, priority=5, class_id=2))), Nanoseconds(T0)
    )
    (ask,) = of(AskForTasks, actions)
    assert [(want.priority, want.count) for want in ask.wants] == [(5, 4)]


def test_leases_short_tasks_by_the_hundred() -> None:
    policy = NodePolicy(capacity(), NodeSettings(), knows("true", MIB, 0.001))
    policy.handle(leased(lease(1, "/bin/true")), Nanoseconds(T0))
    (ask,) = of(AskForTasks, policy.handle(OffersSeen(offers=(offer(5000),)), Nanoseconds(T0)))
    assert 100 <= ask.wants[0].count <= 400


def test_leaves_to_other_nodes_what_cannot_fit_here() -> None:
    policy = NodePolicy(capacity(), NodeSettings(refuse_unfit=False))
    assert policy.handle(OffersSeen(offers=(offer(5, cpus_milli=8000),)), Nanoseconds(T0)) == []


def test_refuses_what_cannot_fit_on_the_only_machine() -> None:
    policy = NodePolicy(capacity(), NodeSettings())
    assert of(AskForTasks, policy.handle(OffersSeen(offers=(offer(5, memory_bytes=8 * GIB),)), Nanoseconds(T0)))
    actions = policy.handle(leased(lease(1, memory_bytes=8 * GIB), lease(2, cpus_milli=9000)), Nanoseconds(T0))
    assert {action.reason for action in of(RefuseTask, actions)} == {
        "needs 8 GiB of memory; this node has 4 GiB",
        "needs 9 cores; this node has 2",
    }


# --- starting ----------------------------------------------------------------------------------------


def test_starts_as_many_as_cores_admit() -> None:
    policy = NodePolicy(capacity(), NodeSettings())
    actions = policy.handle(leased(lease(1), lease(2), lease(3)), Nanoseconds(T0))
    assert started(actions) == [1, 2]
    assert started(policy.handle(ended(1), Nanoseconds(T0 + SECOND))) == [3]


def test_a_start_says_what_was_predicted_and_why() -> None:
    policy = NodePolicy(capacity(), NodeSettings(), knows("sim --seed #", 100 * MIB, 5))
    (start,) = of(StartAttempt, policy.handle(leased(lease(1)), Nanoseconds(T0)))
    assert abs(start.predicted_bytes - 100 * MIB) < MIB
    assert start.basis == "90 % of the last 20 runs of `sim --seed #` stayed under it"


def test_probes_an_unknown_shape_with_few() -> None:
    policy = NodePolicy(capacity(), NodeSettings())
    actions = policy.handle(leased(*(lease(task, cpus_milli=50) for task in range(40))), Nanoseconds(T0))
    assert 3 <= len(started(actions)) <= 9


def test_probing_ends_by_itself_when_long_tasks_turn_out_small() -> None:
    policy = NodePolicy(capacity(), NodeSettings())
    running = started(policy.handle(leased(*(lease(task, cpus_milli=50) for task in range(40))), Nanoseconds(T0)))
    for tick in range(1, 200):
        sample = sampled(len(running) * 10 * MIB, *((task, 10 * MIB) for task in running))
        running += started(policy.handle(sample, Nanoseconds(T0 + tick * SECOND // 10)))
    assert len(running) == 40


def test_packs_by_what_was_learned() -> None:
    policy = NodePolicy(capacity(), NodeSettings(), knows("sim --seed #", 1000 * MIB, 5))
    actions = policy.handle(leased(*(lease(task, cpus_milli=50) for task in range(40))), Nanoseconds(T0))
    assert len(started(actions)) == 3


def test_a_declared_memory_is_a_floor() -> None:
    policy = NodePolicy(capacity(), NodeSettings(), knows("sim --seed #", 10 * MIB, 5))
    need = 2 * GIB
    actions = policy.handle(
        leased(*(lease(task, cpus_milli=50, memory_bytes=need) for task in range(9))), Nanoseconds(T0)
    )
    assert len(started(actions)) == 1


def test_something_always_runs() -> None:
    policy = NodePolicy(capacity(), NodeSettings(), knows("sim --seed #", 40 * GIB, 5))
    assert started(policy.handle(leased(lease(1), lease(2)), Nanoseconds(T0))) == [1]


def test_short_tasks_queue_behind_each_other_on_their_slots() -> None:
    policy = NodePolicy(capacity(), NodeSettings(), knows("true", MIB, 0.001))
    starts = of(
        StartAttempt,
        policy.handle(leased(*(lease(task, "/bin/true") for task in range(6))), Nanoseconds(T0)),
    )
    assert [start.after for start in starts] == [None, None, key(0), key(1), key(2), key(3)]
    policy.check_invariants()


def test_a_short_task_that_turns_out_long_holds_up_nobody() -> None:
    policy = NodePolicy(capacity(), NodeSettings(), knows("true", MIB, 0.001))
    policy.handle(leased(*(lease(task, "/bin/true") for task in range(6))), Nanoseconds(T0))
    actions = policy.handle(sampled(2 * MIB, (0, MIB), (1, MIB)), Nanoseconds(T0 + SECOND))
    assert [action.key[1] for action in of(HandBack, actions)] == [2, 4, 3, 5]


def test_higher_priority_starts_first_and_smaller_ones_fill_in() -> None:
    policy = NodePolicy(capacity(), NodeSettings())
    policy.handle(leased(lease(1, cpus_milli=1500)), Nanoseconds(T0))
    actions = policy.handle(
        leased(lease(2, "tiny 1", cpus_milli=500), lease(3, "big 1", cpus_milli=2000, priority=9)), Nanoseconds(T0)
    )
    assert started(actions) == [2]  # 3 does not fit beside 1 anyway


def test_who_waited_long_gets_its_room_reserved() -> None:
    policy = NodePolicy(capacity(), NodeSettings(patience_ns=Nanoseconds(60 * SECOND)))
    policy.handle(leased(lease(1, cpus_milli=1000), lease(2, cpus_milli=1000)), Nanoseconds(T0))
    policy.handle(leased(lease(3, cpus_milli=2000, priority=9), lease(4, cpus_milli=1000)), Nanoseconds(T0))
    assert started(policy.handle(ended(1), Nanoseconds(T0 + 61 * SECOND))) == []
    assert started(policy.handle(ended(2), Nanoseconds(T0 + 62 * SECOND))) == [3]


def test_gpus_are_handed_out_by_index() -> None:
    policy = NodePolicy(capacity(), NodeSettings())
    need = (("gpus", 1),)
    actions = policy.handle(leased(lease(1, resources=need), lease(2, resources=need)), Nanoseconds(T0))
    (start,) = of(StartAttempt, actions)
    assert start.indices == (("gpus", (7,)),)


# --- memory ------------------------------------------------------------------------------------------


def test_gives_back_with_a_larger_floor_and_says_why() -> None:
    policy = NodePolicy(capacity(), NodeSettings(), knows("sim --seed #", 10 * MIB, 5))
    policy.handle(leased(lease(1), lease(2)), Nanoseconds(T0))
    policy.handle(sampled(3 * GIB, (1, 2 * GIB), (2, GIB)), Nanoseconds(T0 + SECOND))
    actions = policy.handle(
        sampled(int(3.9 * GIB), (1, int(2.7 * GIB)), (2, int(1.2 * GIB))), Nanoseconds(T0 + 2 * SECOND)
    )
    (back,) = of(GiveBack, actions)
    assert back == GiveBack(
        key=key(2),
        reason="given back at 1.2 GiB: the node was at 97% of its memory",
        memory_floor_bytes=Bytes(int(int(1.2 * GIB) * 1.5)),
        peak_bytes=Bytes(int(1.2 * GIB)),
    )


def test_refuses_a_task_that_fills_the_node_alone() -> None:
    policy = NodePolicy(capacity(), NodeSettings())
    policy.handle(leased(lease(1)), Nanoseconds(T0))
    policy.handle(sampled(3 * GIB, (1, 3 * GIB)), Nanoseconds(T0 + SECOND))
    actions = policy.handle(sampled(int(3.9 * GIB), (1, int(3.9 * GIB))), Nanoseconds(T0 + 2 * SECOND))
    (refused,) = of(RefuseTask, actions)
    assert refused.reason == "needs more than 3.9 GiB"


def test_tells_the_kernel_who_dies_first_only_when_that_changed() -> None:
    policy = NodePolicy(capacity(), NodeSettings(), knows("sim --seed #", MIB, 5))
    policy.handle(leased(lease(1), lease(2)), Nanoseconds(T0))
    sample = sampled(2 * MIB, (1, MIB), (2, MIB))
    actions = policy.handle(sample, Nanoseconds(T0 + SECOND))
    assert of(SetOomOrder, actions) == [SetOomOrder(oldest_first=(key(1), key(2)))]
    assert not of(SetOomOrder, policy.handle(sample, Nanoseconds(T0 + 2 * SECOND)))


def test_looks_more_often_as_memory_fills() -> None:
    policy = NodePolicy(capacity(), NodeSettings(), knows("sim --seed #", MIB, 5))
    policy.handle(leased(lease(1)), Nanoseconds(T0))

    def wait_ns(used: int, at_s: int) -> int:
        actions = policy.handle(sampled(used, (1, 100 * MIB)), Nanoseconds(T0 + at_s * SECOND))
        return of(WakeAt, actions)[0].at_ns - T0 - at_s * SECOND

    assert wait_ns(100 * MIB, 1) == 100_000_000
    assert 10_000_000 <= wait_ns(int(3.7 * GIB), 2) <= 30_000_000


def test_the_first_pages_of_a_process_are_no_ramp() -> None:
    policy = NodePolicy(capacity(), NodeSettings(), knows("sim --seed #", MIB, 5))
    policy.handle(leased(lease(1), lease(2)), Nanoseconds(T0))
    actions = policy.handle(sampled(8 * MIB, (1, 4 * MIB), (2, 4 * MIB)), Nanoseconds(T0 + 10_000))
    assert not of(FreezeAttempt, actions)


# --- ends --------------------------------------------------------------------------------------------


def test_a_cancelled_task_is_ended_wherever_it_is() -> None:
    policy = NodePolicy(capacity(1), NodeSettings())
    policy.handle(leased(lease(1), lease(2)), Nanoseconds(T0))
    actions = policy.handle(LeasesRevoked(keys=(key(1), key(2), key(99))), Nanoseconds(T0))
    assert [action.key[1] for action in of(EndAttempt, actions)] == [1, 2]
    assert started(policy.handle(ended(1, gave_back=True), Nanoseconds(T0))) == []


def test_a_drain_starts_nothing_and_hands_back_what_is_staged() -> None:
    policy = NodePolicy(capacity(1), NodeSettings())
    policy.handle(leased(lease(1), lease(2)), Nanoseconds(T0))
    assert policy.handle(DrainStarted(), Nanoseconds(T0)) == [HandBack(key=key(2), reason="the worker stops")]
    assert policy.handle(leased(lease(3)), Nanoseconds(T0)) == [HandBack(key=key(3), reason="the worker stops")]
    assert policy.handle(ended(1), Nanoseconds(T0)) == []


def test_a_drain_at_once_returns_what_runs_too() -> None:
    policy = NodePolicy(capacity(2), NodeSettings(), knows("true", MIB, 0.001))
    policy.handle(leased(*(lease(task, "/bin/true") for task in (1, 2, 3))), Nanoseconds(T0))
    actions = policy.handle(DrainStarted(give_back=True), Nanoseconds(T0))
    assert sorted(action.key[1] for action in of(HandBack, actions)) == [1, 2, 3]


def test_a_staged_task_that_finds_no_room_goes_back_on_a_cluster() -> None:
    settings = NodeSettings(hand_back_after_ns=Nanoseconds(5 * SECOND))
    policy = NodePolicy(capacity(1), settings)
    policy.handle(leased(lease(1), lease(2)), Nanoseconds(T0))
    actions = policy.handle(sampled(MIB, (1, MIB)), Nanoseconds(T0 + 6 * SECOND))
    assert of(HandBack, actions) == [HandBack(key=key(2), reason="this node has had no room for it")]


def test_what_was_learned_can_be_remembered() -> None:
    policy = NodePolicy(capacity(), NodeSettings())
    policy.handle(leased(lease(1, "sim --seed 3")), Nanoseconds(T0))
    policy.handle(ended(1, peak=70 * MIB, wall_s=2), Nanoseconds(T0 + 2 * SECOND))
    assert policy.learned() == [
        PastPeak(shape="sim --seed #", peak_bytes=70 * MIB, input_bytes=-1, wall_ns=2 * SECOND, at_ns=T0 + 2 * SECOND)
    ]
    assert policy.learned() == []


def test_unknown_keys_are_ignored() -> None:
    policy = NodePolicy(capacity(), NodeSettings())
    assert policy.handle(ended(42), Nanoseconds(T0)) == []
    assert not of(GiveBack, policy.handle(sampled(4 * GIB, (42, 4 * GIB)), Nanoseconds(T0)))


# --- on a cluster -----------------------------------------------------------------------------------


def test_what_another_node_could_run_is_not_held_ready() -> None:
    """Of tasks that are unknown or take long, no more are leased than can start; of quick ones a few, for the round trip."""
    cluster = NodeSettings(refuse_unfit=False, ahead_wall_ns=Nanoseconds(SECOND))
    assert wants_of(NodePolicy(capacity(), cluster)) == [2]
    for wall_s, expected in ((100.0, 2), (0.2, 4)):
        policy = NodePolicy(capacity(), cluster, knows("sim --seed #", 10 * MIB, wall_s))
        policy.handle(leased(lease(99)), Nanoseconds(T0))
        policy.handle(ended(99, peak=10 * MIB, wall_s=wall_s), Nanoseconds(T0))
        assert wants_of(policy) == [expected]


def wants_of(policy: NodePolicy) -> list[int]:
    asked = of(AskForTasks, policy.handle(OffersSeen(offers=(offer(100),)), Nanoseconds(T0 + SECOND)))
    return [want.count for action in asked for want in action.wants]


def test_a_node_that_rests_hands_back_what_waits_and_works_again_later() -> None:
    policy = NodePolicy(capacity(), NodeSettings())
    assert started(policy.handle(leased(lease(1), lease(2), lease(3)), Nanoseconds(T0))) == [1, 2]
    back = policy.handle(RestStarted(reason="sick"), Nanoseconds(T0 + 1))
    assert [(action.key, action.reason) for action in of(HandBack, back)] == [(key(3), "sick")]
    assert wants_of(policy) == []
    assert of(HandBack, policy.handle(leased(lease(4)), Nanoseconds(T0 + 2))) == [
        HandBack(key=key(4), reason="the node rests")
    ]
    policy.handle(ended(1), Nanoseconds(T0 + 3))
    policy.handle(ended(2), Nanoseconds(T0 + 3))
    policy.handle(RestEnded(), Nanoseconds(T0 + 4))
    assert started(policy.handle(leased(lease(5)), Nanoseconds(T0 + 5))) == [5]
