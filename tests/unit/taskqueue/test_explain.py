"""Sentences for people: why it waits, why it came back, what its memory was predicted from."""

from __future__ import annotations

from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import RetryLimits
from ergates.cluster.node import NodeCapacity
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.cluster.task_state import TaskState
from ergates.cluster.usage import Usage
from ergates.taskqueue.explain import explain
from ergates.taskqueue.memory import MemoryModel
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.store import Offer, PastFailures, PastPeak, TaskView
from ergates.units import GIB, MIB, Bytes, MilliCpus, Nanoseconds

NOW = Nanoseconds(1_000_000_000_000)
NODE = NodeCapacity(cpus_milli=MilliCpus(2000), memory_bytes=Bytes(4 * GIB))


def view(state: TaskState, requirement: Requirement | None = None, **changes: object) -> TaskView:
    fields: dict[str, object] = {
        "job": JobId("j"),
        "task": TaskId(3),
        "state": state,
        "spec": TaskSpec(command="sim --seed 3", requirement=requirement or Requirement()),
        "past": PastFailures(),
        "attempts": 0,
        "not_before_ns": Nanoseconds(0),
        "reason": "",
        "worker": "",
        "blocked_by": 0,
    }
    return TaskView(**{**fields, **changes})  # type: ignore[arg-type]


def offer(priority: int, waiting: int) -> Offer:
    return Offer(job=JobId("j"), class_id=0, requirement=Requirement(), priority=priority, waiting=waiting)


def first(task: TaskView, *offers: Offer, capacity: NodeCapacity | None = NODE) -> str:
    return explain(task, (), offers, capacity, now_ns=NOW)[0]


def test_why_it_waits() -> None:
    ready = view(TaskState.READY)
    assert first(view(TaskState.BLOCKED, blocked_by=2)) == "It waits for 2 tasks that it comes after."
    assert first(ready, capacity=None) == "It is ready; no worker runs that could take it."
    assert first(ready, offer(5, 7), offer(0, 3)) == "It is ready, behind 7 tasks of higher priority."
    assert first(ready, offer(0, 3)).endswith("beside 2 others of its priority.")
    big = view(TaskState.READY, Requirement(cpus_milli=MilliCpus(8000)))
    assert first(big) == "It can never run on this node: it needs 8 cores; this node has 2."
    delayed = view(TaskState.DELAYED, not_before_ns=Nanoseconds(NOW + 5_000_000_000), reason="exit code 3")
    assert first(delayed) == "It waits 5 s more before it is tried again: exit code 3."
    assert explain(ready, (), now_ns=NOW, paused=True)[0] == "It is ready, but its job is paused."


def test_why_it_came_back_and_what_was_predicted() -> None:
    evicted = Attempt(
        number=1,
        outcome=Outcome.EVICTED,
        host="n1",
        reason="given back at 1.2 GiB: the node was at 92 % of its memory",
        usage=Usage(wall_ns=Nanoseconds(12_300_000_000), peak_bytes=Bytes(int(1.2 * GIB))),
        predicted_bytes=300 * MIB,
    )
    memory = MemoryModel(NODE.memory_bytes, NodeSettings())
    memory.recall(
        PastPeak(shape="sim --seed #", peak_bytes=(100 + at) * MIB, input_bytes=-1, wall_ns=10**9, at_ns=1)
        for at in range(20)
    )
    task = view(
        TaskState.READY,
        Requirement(memory_bytes=Bytes(2 * GIB)),
        past=PastFailures(memory=1, last_peak_bytes=int(1.2 * GIB)),
        attempts=1,
    )
    said = explain(task, [evicted], (), NODE, memory, now_ns=NOW, limits=RetryLimits())
    assert said[1:] == [
        "Attempt 1 on n1 ended after 12.3 s: given back at 1.2 GiB: the node was at 92 % of its memory.",
        "It has used up 1 of 20 returns for memory.",
        "It needs 1 core, at least 2 GiB of memory (raised after it came back).",
        "Attempt 1 was predicted to stay under 300 MiB; it reached 1.2 GiB.",
        "Its memory is predicted as 2.2 GiB: 90 % of the last 20 runs of `sim --seed #` stayed under it;"
        " at least 2 GiB declared or reached before.",
    ]


def test_how_it_ended() -> None:
    assert first(view(TaskState.DONE, attempts=2)) == "It is done, after 2 attempts."
    assert first(view(TaskState.FAILED, reason="needs more than 3.8 GiB")) == "It failed: needs more than 3.8 GiB."
