"""Why a job's tasks wait: by resource, with counts and nodes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ergates.cluster.job import JobStatus
from ergates.cluster.node import NamedResource, NodeCapacity, WorkerInfo, WorkerLoad, WorkerOrders, WorkerStatus
from ergates.cluster.task import Alternative, JobId, Requirement, TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.taskqueue.explain import explain
from ergates.taskqueue.explain_job import NOTHING, Blocked, blocked, explain_job
from ergates.taskqueue.store import Offer, PastFailures, TaskView
from ergates.units import GIB, SECOND_NS, Bytes, MilliCpus, Nanoseconds

NOW = Nanoseconds(1000 * SECOND_NS)


def worker(
    host: str,
    *,
    cores: int = 8,
    gib: int = 32,
    gpus: int = 0,
    held: int = 0,
    gpus_held: int = 0,
    used_gib: int = 0,
    standing: str = "live",
    ends_s: int | None = None,
    orders: WorkerOrders | None = None,
    note: str = "",
    **labels: str,
) -> WorkerStatus:
    resources = (NamedResource(name="gpus", amount=gpus),) if gpus else ()
    capacity = NodeCapacity(
        cpus_milli=MilliCpus(cores * 1000), memory_bytes=Bytes(gib * GIB), resources=resources, labels=labels
    )
    ends_ns = None if ends_s is None else Nanoseconds(NOW + ends_s * SECOND_NS)
    return WorkerStatus(
        info=WorkerInfo(id=f"w-{host}", host=host, capacity=capacity, ends_ns=ends_ns),
        standing=standing,
        beat_age_ns=Nanoseconds(0),
        leases=0,
        orders=orders or WorkerOrders(),
        load=WorkerLoad(
            cpus_milli_held=MilliCpus(held * 1000),
            used_bytes=Bytes(used_gib * GIB),
            note=note,
            resources_held=(("gpus", gpus_held),) if gpus_held else (),
        ),
    )


def offer(waiting: int, priority: int = 0, **fields: object) -> Offer:
    requirement = Requirement(**fields)  # type: ignore[arg-type]
    return Offer(job=JobId("j1"), class_id=1, requirement=requirement, priority=priority, waiting=waiting)


GPU: dict[str, Any] = {"resources": (("gpus", 1),)}


def only(*workers: WorkerStatus, waiting: int = 3, **fields: Any) -> Blocked:
    (found,) = blocked([offer(waiting, **fields)], workers, NOW)
    return found


def test_a_resource_that_is_all_held() -> None:
    gpu_nodes = [worker(f"g{number}", gpus=4, gpus_held=4) for number in range(1, 5)]
    found = only(*gpu_nodes, worker("c1"), worker("old", gpus=4, standing="silent"), waiting=312, **GPU)
    assert found == Blocked(
        tasks=312,
        resource="gpus",
        possible=True,
        hosts=("g1", "g2", "g3", "g4"),
        sentence="312 tasks wait for gpus: 4 nodes (g1, g2, g3 and 1 more) have enough, all 16 are held.",
    )


def test_a_resource_that_nobody_has_enough_of() -> None:
    found = only(worker("a"), worker("b", gib=16), memory_bytes=Bytes(64 * GIB), waiting=8)
    assert (found.resource, found.possible, found.hosts) == ("memory", False, ())
    assert found.sentence == "8 tasks need 64 GiB of memory: the largest live node has 32 GiB (a)."
    assert only(worker("a"), waiting=1, **GPU).sentence == "1 task needs gpus=1: no live node has any."
    two: dict[str, Any] = {"resources": (("gpus", 2),)}
    assert only(worker("a", gpus=1), **two).sentence == "3 tasks need gpus=2: no live node has more than 1 (a)."
    cores = only(worker("a"), worker("b", cores=64), cpus_milli=MilliCpus(128_000))
    assert cores.sentence == "3 tasks need 128 cores: the largest live node has 64 (b)."


def test_labels_and_time() -> None:
    arm = worker("a", arch="arm")
    assert only(arm, labels=(("arch", "x86"),)).sentence == "3 tasks need the label arch=x86: live nodes have arch=arm."
    assert only(arm, labels=(("os", "bsd"),)).sentence == "3 tasks need the label os=bsd: no live node has it."
    ends = [worker("a", ends_s=60), worker("b", ends_s=600)]
    found = only(*ends, min_time_ns=Nanoseconds(1800 * SECOND_NS))
    assert found.sentence == "3 tasks need 30 min 00 s: the worker with the most time left ends in 10 min 00 s."


def test_nodes_that_lack_different_things() -> None:
    found = only(worker("a", arch="x86"), worker("b", gpus=1), labels=(("arch", "x86"),), **GPU)
    assert found.resource == "gpus and label arch"
    assert found.sentence == (
        "3 tasks fit no live node: a: needs gpus=1; this node has 0; b: needs the label arch=x86; this node has no label arch."
    )


def test_what_is_busy() -> None:
    assert only(worker("a", held=8), worker("b", held=7), cpus_milli=MilliCpus(2000)).sentence == (
        "3 tasks wait for cores: 2 nodes (a, b) could hold them, 15 of 16 are held."
    )
    assert only(worker("a", used_gib=30), memory_bytes=Bytes(4 * GIB)).sentence == (
        "3 tasks wait for memory: 1 node (a) could hold them, with 30 GiB of 32 GiB in use."
    )
    assert only(worker("a", orders=WorkerOrders(drain=True))).resource == "draining workers"
    assert "disk full" in only(worker("a", note="disk full")).sentence
    assert only(worker("a")).resource == NOTHING
    assert only().sentence == "3 tasks wait: no worker is live."


def test_one_free_choice_is_enough() -> None:
    either: dict[str, Any] = {"cpus_milli": MilliCpus(4000), "alternatives": (Alternative(resources=(("gpus", 1),)),)}
    assert only(worker("a", gpus=1, held=6), **either).resource == NOTHING
    assert only(worker("a", gpus=1, gpus_held=1, held=6), **either).resource == "cpus"
    assert only(worker("a", cores=2), **either).sentence == (
        "3 tasks fit no live node: a: needs 4 cores, or 1 core and gpus=1; this node has 2 cores and gpus=0."
    )


def test_orders_count() -> None:
    limited = worker("a", orders=WorkerOrders(cpus_milli=MilliCpus(2000), labels={"arch": "x86"}))
    assert only(limited, cpus_milli=MilliCpus(4000)).resource == "cpus"
    assert only(limited, labels=(("arch", "x86"),)).resource == NOTHING


ROLES: dict[str, Any] = {
    "nodes": 3,
    "roles": (("server", 1), ("client", 2)),
    "role_labels": (("server", (("group", "big"), ("rack", "a"))), ("client", (("group", "small"),))),
}


def test_the_role_that_nobody_can_take_is_named() -> None:
    def said(*workers: WorkerStatus, **more: Any) -> Blocked:
        (found,) = blocked([offer(2, **ROLES | more)], workers, NOW, gangs=True)
        return found

    small = [worker(f"s{number}", group="small") for number in range(3)]
    found = said(*small)
    assert (found.resource, found.possible, found.tasks) == ("role server", False, 2)
    assert found.sentence == (
        "2 tasks need 1 node at once for the role server (group=big, rack=a): of the 3 live workers none could take it."
    )
    big = worker("b", group="big", rack="a")
    assert said(big, small[0]).sentence == (
        "2 tasks need 2 nodes at once for the role client (group=small): of the 2 live workers only 1 could take it."
    )
    assert said(big, *small).resource == NOTHING
    ordered = worker("b", orders=WorkerOrders(labels={"group": "big", "rack": "a"}))
    assert said(ordered, *small).resource == NOTHING
    held = worker("b", held=8, group="big", rack="a")
    assert said(held, *small).sentence == (
        "2 tasks wait for 3 free nodes at once; 4 nodes (b, s0, s1 and 1 more) could hold a member each,"
        " and the free ones are too few for the role server (group=big, rack=a)."
    )
    assert said(big, *small, cpus_milli=9000).resource == "cpus"
    assert said(worker("x", group="else")).resource == "role server and client"
    tight = {"role_labels": (("server", (("group", "small"),)), ("client", (("group", "small"),)))}
    assert said(*small[:2], **tight).sentence == (
        "2 tasks need 3 nodes at once for the roles server (group=small) and client (group=small):"
        " of the 2 live workers only 2 could take one of them."
    )


def test_gangs_need_enough_nodes() -> None:
    three = [worker("a"), worker("b"), worker("c", held=8)]

    def said(nodes: int, *, gangs: bool = True) -> Blocked:
        (found,) = blocked([offer(3, nodes=nodes)], three, NOW, gangs=gangs)
        return found

    assert said(4).sentence == "3 tasks need 4 nodes at once: of the 3 live workers, fewer can hold a member each."
    assert said(2).resource == NOTHING
    assert said(3).sentence.startswith("3 tasks wait for 3 free nodes at once")
    alone = said(2, gangs=False)
    assert (alone.resource, alone.possible) == ("nodes", False)
    assert alone.sentence == "3 tasks need 2 nodes at once: the live workers start tasks on one node only."


def test_paths_are_named_but_not_judged() -> None:
    assert "They need /data: only the workers know" in only(worker("a"), paths=("/data",)).sentence


def test_classes_with_one_cause_are_counted_together() -> None:
    offers = [
        offer(5, memory_bytes=Bytes(64 * GIB)),
        offer(2, 7, memory_bytes=Bytes(128 * GIB)),
        offer(3, 7, memory_bytes=Bytes(64 * GIB)),
        offer(40),
        offer(0, **GPU),
    ]
    most, large = blocked(offers, [worker("a")], NOW)
    assert (most.tasks, most.resource) == (40, NOTHING)
    assert large.sentence == "10 tasks need 64 GiB to 128 GiB of memory: the largest live node has 32 GiB (a)."


def status(phase: str = "active", **counts: int) -> JobStatus:
    return JobStatus(
        id=JobId("j1"), key="k", name="n", phase=phase, submitted_ns=NOW, finished_ns=None,  # type: ignore[arg-type]
        total=sum(counts.values()), counts=counts, outcomes={}, wall_ns=0, cpu_ns=0, wasted_cpu_ns=0, wasted_wall_ns=0,
        peak_bytes=0, cost_usd_micros=None,
    )  # fmt: skip


def test_a_whole_job() -> None:
    found = blocked([offer(312, **GPU)], [worker("g", gpus=1, gpus_held=1)], NOW)
    assert explain_job(status("paused", ready=312, leased=1, blocked=2, delayed=1), found, ahead=5) == [
        "The job is paused: nothing of it starts.",
        "1 task is running or about to.",
        "2 tasks wait for others that come first.",
        "1 task came back and waits before being tried again.",
        "5 tasks of other jobs go first: their priority is higher.",
        "312 tasks wait for gpus: 1 node (g) has enough, all 1 are held.",
    ]
    assert explain_job(status(done=4), []) == ["Nothing of it waits."]


def test_one_task_of_a_cluster() -> None:
    task = TaskView(
        job=JobId("j1"), task=TaskId(3), state=TaskState.READY, past=PastFailures(), attempts=0, reason="", worker="",
        not_before_ns=Nanoseconds(0), blocked_by=0,
        spec=TaskSpec(
            command="sim",
            requirement=Requirement(
                resources=(("gpus", 1),), labels=(("arch", "x86"),), paths=("/d",),
                min_time_ns=Nanoseconds(60 * SECOND_NS), alternatives=(Alternative(),),
            ),
        ),
    )  # fmt: skip
    said = explain(task, (), now_ns=NOW, workers=[worker("a", arch="arm", gpus=1)])
    assert said == [
        "It is ready. It needs the label arch=x86: live nodes have arch=arm.",
        "It needs 1 core, gpus=1, the label arch=x86, the path /d,"
        " a worker that lives 1 min 00 s more; of cores and resources also 1 core.",
    ]
    assert explain(task, (), now_ns=NOW, workers=[worker("a", standing="left")])[0].endswith("could take it.")


requirements = st.builds(
    Requirement,
    cpus_milli=st.sampled_from([MilliCpus(500), MilliCpus(8000), MilliCpus(99_000)]),
    memory_bytes=st.sampled_from([Bytes(0), Bytes(GIB), Bytes(64 * GIB)]),
    resources=st.sampled_from([(), (("gpus", 1),), (("gpus", 9),)]),
    alternatives=st.sampled_from([(), (Alternative(),), (Alternative(resources=(("gpus", 2),)),)]),
    labels=st.sampled_from([(), (("arch", "x86"),)]),
    min_time_ns=st.sampled_from([Nanoseconds(0), Nanoseconds(100 * SECOND_NS)]),
    nodes=st.integers(1, 3),
)
workers = st.lists(
    st.builds(
        worker,
        st.sampled_from("abc"),
        gpus=st.integers(0, 2),
        held=st.integers(0, 8),
        used_gib=st.integers(0, 32),
        standing=st.sampled_from(["live", "live", "silent"]),
        ends_s=st.sampled_from([None, 10, 1000]),
        arch=st.sampled_from(["x86", "arm"]),
    ),
    max_size=4,
)


@given(st.lists(st.tuples(requirements, st.integers(0, 50))), workers)
def test_every_waiting_task_is_told_about_once(
    waiting: list[tuple[Requirement, int]], there: list[WorkerStatus]
) -> None:
    offers = [replace(offer(number), requirement=requirement) for requirement, number in waiting]
    found = blocked(offers, there, NOW)
    assert sum(each.tasks for each in found) == sum(number for _, number in waiting)
    for each in found:
        assert each.possible == bool(each.hosts) and each.sentence.endswith(".") and each.resource


@pytest.mark.parametrize("count", [1, 2000])
def test_numbers_are_readable(count: int) -> None:
    assert only(worker("a", held=8), waiting=count).sentence.startswith(f"{count:,} task")
