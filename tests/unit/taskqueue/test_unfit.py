"""What a node lacks, which classes it never asks for, and the policy that acts on it."""

from __future__ import annotations

from dataclasses import replace as with_settings

import pytest
from msgspec.structs import replace

from ergates.cluster.node import NamedResource, NodeCapacity, WorkerOrders
from ergates.cluster.task import Alternative, JobId, Requirement, TaskId, TaskSpec
from ergates.taskqueue.node_events import (
    AskForTasks,
    CheckPaths,
    HandBack,
    NodeAction,
    NodeChanged,
    OffersSeen,
    PathsChecked,
    RefuseTask,
    StartAttempt,
    TasksLeased,
)
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.orders import ordered
from ergates.taskqueue.policies import Policy, make_policy
from ergates.taskqueue.slots import Slots
from ergates.taskqueue.store import Lease, Offer, PastFailures
from ergates.taskqueue.unfit import CHECK_PATHS_EVERY_NS, lacks
from ergates.units import GIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

NODE = NodeCapacity(
    cpus_milli=MilliCpus(2000),
    memory_bytes=Bytes(4 * GIB),
    confined=True,
    resources=(NamedResource(name="gpus", amount=1, indices=(0,)),),
    labels={"arch": "arm", "zone": "a"},
)
CLUSTER = NodeSettings(refuse_unfit=False)
NOW = Nanoseconds(1000 * SECOND_NS)
POLICIES = ["ours", "fixed"]


def offer(class_id: int, requirement: Requirement, waiting: int = 5) -> Offer:
    return Offer(job=JobId("j1"), class_id=class_id, requirement=requirement, priority=0, waiting=waiting)


def lease(task: int, requirement: Requirement) -> Lease:
    spec = TaskSpec(command="sim", requirement=requirement)
    return Lease(job=JobId("j1"), task=TaskId(task), fence=task, attempt=1, spec=spec, past=PastFailures())


def asked(actions: list[NodeAction]) -> list[int]:
    return [want.class_id for action in actions if isinstance(action, AskForTasks) for want in action.wants]


def saw(policy: Policy, *offers: Offer, now: int = NOW) -> list[NodeAction]:
    return policy.handle(OffersSeen(offers=offers), Nanoseconds(now))


@pytest.mark.parametrize(
    ("requirement", "resource", "words"),
    [
        (Requirement(memory_bytes=Bytes(8 * GIB)), "memory", "needs 8 GiB of memory; this node has 4 GiB"),
        (Requirement(cpus_milli=MilliCpus(8000)), "cpus", "needs 8 cores; this node has 2"),
        (Requirement(resources=(("gpus", 2),)), "gpus", "needs gpus=2; this node has 1"),
        (Requirement(labels=(("arch", "x86"),)), "label arch", "needs the label arch=x86; this node has arch=arm"),
        (Requirement(labels=(("os", "bsd"),)), "label os", "needs the label os=bsd; this node has no label os"),
        (Requirement(paths=("/data", "/there")), "path /data", "needs /data, which is not on this node"),
        (Requirement(min_time_ns=Nanoseconds(90 * SECOND_NS)), "time", "needs 1 min 30 s; this worker ends in 1 min 00 s"),
        (
            Requirement(cpus_milli=MilliCpus(4000), alternatives=(Alternative(resources=(("gpus", 2),)),)),
            "cpus or gpus",
            "needs 4 cores, or 1 core and gpus=2; this node has 2 cores and gpus=1",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(requirement: Requirement, resource: str, words: str) -> None:
    (lack,) = lacks(requirement, Slots(NODE), missing_paths=["/data"], left_ns=60 * SECOND_NS)
    assert (lack.resource, lack.words) == (resource, words)


def test_a_node_that_has_all_of_it_lacks_nothing() -> None:
    requirement = Requirement(
        labels=(("arch", "arm"), ("zone", "a")),
        paths=("/there",),
        min_time_ns=Nanoseconds(60 * SECOND_NS),
        nodes=3,
        alternatives=(Alternative(cpus_milli=MilliCpus(99_000)),),
    )
    assert lacks(requirement, Slots(NODE), missing_paths=["/data"], left_ns=60 * SECOND_NS) == []
    assert lacks(requirement, Slots(NODE)) == [], "nobody knows when it ends"
    assert [lack.resource for lack in lacks(requirement, Slots(NODE), gangs=False)] == ["nodes"]


@pytest.mark.parametrize("name", POLICIES)
def test_a_worker_asks_only_for_what_it_can_serve_and_names_the_rest(name: str) -> None:
    policy = make_policy(name, NODE, CLUSTER)
    arm, x86 = Requirement(labels=(("arch", "arm"),)), Requirement(labels=(("arch", "x86"),))
    large = Requirement(memory_bytes=Bytes(64 * GIB))
    actions = saw(policy, offer(1, x86), offer(2, arm), offer(3, large))
    assert asked(actions) == [2]
    assert policy.unfit_classes(NOW) == (1, 3)
    saw(policy, offer(4, x86))  # what is hidden now is still unfit
    assert policy.unfit_classes(NOW) == (1, 3, 4)


@pytest.mark.parametrize("name", POLICIES)
def test_a_new_label_makes_a_class_fit(name: str) -> None:
    policy = make_policy(name, NODE, CLUSTER)
    x86 = Requirement(labels=(("arch", "x86"),))
    assert asked(saw(policy, offer(1, x86))) == []
    now_x86 = ordered(NODE, WorkerOrders(labels={"arch": "x86", "zone": ""}))
    assert now_x86.labels == {"arch": "x86"}
    assert asked(policy.handle(NodeChanged(capacity=now_x86), NOW)) == [1]
    assert policy.unfit_classes(NOW) == ()


@pytest.mark.parametrize("name", POLICIES)
def test_a_worker_near_its_end_leaves_long_tasks_to_others(name: str) -> None:
    ends = Nanoseconds(NOW + 100 * SECOND_NS)
    policy = make_policy(name, NODE, CLUSTER, ends_ns=ends)
    long = Requirement(min_time_ns=Nanoseconds(60 * SECOND_NS))
    assert asked(saw(policy, offer(1, long))) == [1]
    later = NOW + 50 * SECOND_NS
    assert asked(saw(policy, offer(1, long), offer(2, Requirement()), now=later)) == [2]
    assert policy.unfit_classes(Nanoseconds(later)) == (1,)
    assert asked(policy.handle(NodeChanged(capacity=NODE), Nanoseconds(later))) in ([], [1]), "Slurm gave it more time"
    assert policy.unfit_classes(Nanoseconds(later)) == ()


@pytest.mark.parametrize("name", POLICIES)
def test_files_are_looked_for_before_a_task_that_needs_them_is_taken(name: str) -> None:
    policy = make_policy(name, NODE, CLUSTER)
    here, gone = Requirement(paths=("/here",)), Requirement(paths=("/gone", "/here"))
    actions = saw(policy, offer(1, here), offer(2, gone))
    assert actions == [CheckPaths(paths=("/gone", "/here"))]
    assert policy.unfit_classes(NOW) == (), "nobody has looked yet"
    actions = policy.handle(PathsChecked(paths=("/gone", "/here"), missing=("/gone",)), NOW)
    assert asked(actions) == [1]
    assert policy.unfit_classes(NOW) == (2,)
    assert not [each for each in saw(policy, offer(1, here)) if isinstance(each, CheckPaths)]
    later = NOW + CHECK_PATHS_EVERY_NS
    actions = saw(policy, now=later)  # the class is hidden, its file may have come
    assert actions == [CheckPaths(paths=("/gone", "/here"))]
    policy.handle(PathsChecked(paths=("/gone", "/here"), missing=()), Nanoseconds(later))
    assert policy.unfit_classes(Nanoseconds(later)) == ()


@pytest.mark.parametrize("name", POLICIES)
def test_one_machine_refuses_and_a_cluster_hands_back(name: str) -> None:
    x86 = Requirement(labels=(("arch", "x86"),))
    alone = make_policy(name, NODE, NodeSettings())
    assert asked(saw(alone, offer(1, x86)))
    (refused,) = [a for a in alone.handle(TasksLeased(leases=(lease(1, x86),)), NOW) if isinstance(a, RefuseTask)]
    assert refused.reason == "needs the label arch=x86; this node has arch=arm"
    (gang,) = [
        action
        for action in alone.handle(TasksLeased(leases=(lease(2, Requirement(nodes=2)),)), NOW)
        if isinstance(action, RefuseTask)
    ]
    assert gang.reason == "needs 2 nodes at once; this worker starts tasks on one node only"
    assert alone.unfit_classes(NOW) == ()
    member = make_policy(name, NODE, CLUSTER)  # its label was changed while the lease was on its way
    (back,) = member.handle(TasksLeased(leases=(lease(1, x86),)), NOW)
    assert isinstance(back, HandBack) and back.reason == refused.reason
    member.check_invariants()


@pytest.mark.parametrize("name", POLICIES)
def test_a_gang_is_left_alone_where_the_store_starts_none(name: str) -> None:
    for gangs in (False, True):
        policy = make_policy(name, NODE, with_settings(CLUSTER, gangs=gangs))
        assert asked(saw(policy, offer(1, Requirement(nodes=2)))) == [1] * gangs
        assert policy.unfit_classes(NOW) == (() if gangs else (1,))


@pytest.mark.parametrize("name", POLICIES)
def test_what_was_taken_is_told_at_the_start(name: str) -> None:
    policy = make_policy(name, NODE, CLUSTER)
    either = Requirement(cpus_milli=MilliCpus(2000), alternatives=(Alternative(resources=(("gpus", 1),)),))
    one = Requirement(cpus_milli=MilliCpus(1000))
    actions = policy.handle(TasksLeased(leases=(lease(1, one), lease(2, either))), NOW)
    starts = {action.key[1]: action for action in actions if isinstance(action, StartAttempt)}
    assert starts[1].alternative is None
    assert starts[2].alternative == either.alternatives[0] and starts[2].indices == (("gpus", (0,)),)


@pytest.mark.parametrize("name", POLICIES)
def test_fewer_cores_take_effect_as_attempts_end(name: str) -> None:
    policy = make_policy(name, NODE, with_settings(CLUSTER, staged_ahead=0))
    policy.handle(TasksLeased(leases=(lease(1, Requirement()), lease(2, Requirement()))), NOW)
    fewer = replace(NODE, cpus_milli=MilliCpus(1000))
    policy.handle(NodeChanged(capacity=fewer, jobs=1), NOW)
    actions = policy.handle(TasksLeased(leases=(lease(3, Requirement()),)), NOW)
    assert not [action for action in actions if isinstance(action, StartAttempt)]
    policy.check_invariants()
