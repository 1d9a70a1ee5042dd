"""What becomes of a task, cause by cause."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ergates.cluster.attempt import Outcome
from ergates.cluster.job import RetryLimits
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.taskqueue.retry import AFTER_FAILURE, JITTER_FRACTION, judge, memory_class
from ergates.taskqueue.store import Cancelled, Done, Failed, Lease, PastFailures, Returned, Verdict
from ergates.units import GIB, MIB, Bytes, Nanoseconds

NOW = Nanoseconds(1_000_000_000_000)


def lease(past: PastFailures | None = None, *, memory: int = 0, retries: int | None = None) -> Lease:
    spec = TaskSpec(command="x", requirement=Requirement(memory_bytes=Bytes(memory)), retries=retries)
    return Lease(job=JobId("j"), task=TaskId(1), fence=1, attempt=1, spec=spec, past=past or PastFailures())


def verdict(outcome: Outcome, past: PastFailures | None = None, reason: str = "why", floor: int = 0) -> Verdict:
    limits = RetryLimits(failures=1, memory=3, losses=2, timeouts=1)
    return judge(lease(past), outcome, reason, floor, limits, NOW, "here")


def test_success_cancel_and_what_cannot_be_helped() -> None:
    assert verdict(Outcome.SUCCEEDED) == Done()
    assert verdict(Outcome.CANCELLED) == Cancelled(reason="why")
    assert verdict(Outcome.NOT_STARTED, reason="no such command: nope") == Failed(reason="no such command: nope")
    assert verdict(Outcome.TOO_BIG, reason="needs more than 3.8 GiB") == Failed(reason="needs more than 3.8 GiB")


def test_a_return_counts_nothing_and_may_run_at_once() -> None:
    past = PastFailures(failures=1, memory=3)
    assert verdict(Outcome.RETURNED, past) == Returned(past=past)


def test_a_full_disk_waits_and_counts_nothing() -> None:
    back = verdict(Outcome.DISK_FULL)
    assert isinstance(back, Returned)
    assert back.past == PastFailures() and back.not_before_ns > NOW


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.SIGNALLED])
def test_application_failures_use_their_own_allowance(outcome: Outcome) -> None:
    back = verdict(outcome, PastFailures(losses=2, memory=3))
    assert isinstance(back, Returned)
    assert back.past.failures == 1 and back.requirement is None
    assert verdict(outcome, PastFailures(failures=1), "exit code 3") == Failed(reason="exit code 3 (tried twice)")


def test_the_task_overrides_the_jobs_retries() -> None:
    limits = RetryLimits(failures=5)
    assert judge(lease(retries=0), Outcome.FAILED, "exit code 3", 0, limits, NOW) == Failed(reason="exit code 3")
    again = judge(lease(PastFailures(failures=8), retries=9), Outcome.FAILED, "exit code 3", 0, limits, NOW)
    assert isinstance(again, Returned)


def test_an_eviction_comes_back_larger_and_elsewhere() -> None:
    back = judge(lease(), Outcome.EVICTED, "given back", 300 * MIB, RetryLimits(), NOW, "here", peak_bytes=200 * MIB)
    assert isinstance(back, Returned)
    assert back.requirement == Requirement(memory_bytes=memory_class(300 * MIB))
    assert back.past == PastFailures(memory=1, last_peak_bytes=200 * MIB)
    assert back.avoid_host == "here" and back.not_before_ns > NOW


def test_an_eviction_without_a_floor_comes_back_as_it_was() -> None:
    back = judge(lease(memory=MIB), Outcome.EVICTED, "given back", 0, RetryLimits(), NOW, peak_bytes=2 * MIB)
    assert isinstance(back, Returned) and back.requirement is None


def test_a_kernel_kill_comes_back_half_as_large_again() -> None:
    back = judge(lease(), Outcome.OOM_KILLED, "killed", GIB, RetryLimits(), NOW, capacity_bytes=4 * GIB)
    assert isinstance(back, Returned) and back.requirement is not None
    assert 1.5 * GIB <= back.requirement.memory_bytes <= 2.2 * GIB


def test_a_kernel_kill_of_unknown_size_is_still_raised() -> None:
    back = judge(lease(memory=64 * MIB), Outcome.OOM_KILLED, "killed", 0, RetryLimits(), NOW)
    assert isinstance(back, Returned) and back.requirement is not None
    assert back.requirement.memory_bytes > 64 * MIB


def test_a_kernel_kill_at_the_whole_node_is_the_end() -> None:
    limits = RetryLimits()
    end = judge(lease(), Outcome.OOM_KILLED, "killed", int(3.9 * GIB), limits, NOW, capacity_bytes=4 * GIB)
    assert end == Failed(reason="needs more than 3.9 GiB")


def test_memory_returns_are_limited() -> None:
    end = verdict(Outcome.EVICTED, PastFailures(memory=3), "given back at 1.2 GiB", GIB)
    assert end == Failed(reason="given back at 1.2 GiB; came back for memory 3 times before")


def test_a_task_that_kills_its_workers_is_quarantined() -> None:
    back = verdict(Outcome.LOST, PastFailures(losses=1))
    assert isinstance(back, Returned) and back.past.losses == 2 and back.avoid_host == "here"
    end = verdict(Outcome.LOST, PastFailures(losses=2))
    assert end == Failed(reason="quarantined: its worker was lost 3 times while it ran")


def test_time_limits_are_counted_apart() -> None:
    assert isinstance(verdict(Outcome.TIMED_OUT, PastFailures(failures=9)), Returned)
    assert isinstance(verdict(Outcome.TIMED_OUT, PastFailures(timeouts=1)), Failed)


@given(st.integers(0, 1000), st.integers(0, 2**32))
def test_back_off_grows_to_a_bound(failures: int, seed: int) -> None:
    limits = RetryLimits(failures=10_000)
    back = judge(lease(PastFailures(failures=failures)), Outcome.FAILED, "", 0, limits, NOW, rng=random.Random(seed))
    assert isinstance(back, Returned)
    wait_ns = back.not_before_ns - NOW
    assert AFTER_FAILURE.first_ns <= wait_ns <= AFTER_FAILURE.most_ns * (1 + JITTER_FRACTION)


@given(st.integers(1, 1 << 42))
def test_memory_classes_are_few_and_close(size: int) -> None:
    assert size <= memory_class(size) <= max(MIB, size * 1.42)
    assert memory_class(memory_class(size)) == memory_class(size)


def test_there_are_two_memory_classes_per_doubling() -> None:
    assert len({memory_class(size) for size in range(MIB, 1024 * MIB, MIB // 4)}) == 21
    assert memory_class(3 * GIB, 4 * GIB) == 4 * GIB
    assert memory_class(int(3.5 * GIB), int(3.6 * GIB)) == int(3.6 * GIB)


# --- where there are other nodes ----------------------------------------------------------------------


def on_a_small_node(
    outcome: Outcome, reached: int, *, largest: int | None, past: PastFailures | None = None
) -> Verdict:
    return judge(
        lease(past), outcome, "why", reached, RetryLimits(), NOW, "small",
        peak_bytes=reached, capacity_bytes=4 * GIB, largest_bytes=largest,
    )  # fmt: skip


@pytest.mark.parametrize("outcome", [Outcome.TOO_BIG, Outcome.OOM_KILLED])
def test_what_outgrew_a_node_asks_for_a_larger_one(outcome: Outcome) -> None:
    back = on_a_small_node(outcome, int(3.9 * GIB), largest=64 * GIB)
    assert isinstance(back, Returned)
    assert back.requirement is not None
    assert 4 * GIB < back.requirement.memory_bytes <= 8 * GIB, "more than this node has, but not the largest for itself"
    assert back.avoid_host == "small"
    assert back.past.memory == 1


@pytest.mark.parametrize("outcome", [Outcome.TOO_BIG, Outcome.OOM_KILLED])
def test_what_outgrew_the_largest_node_known_is_failed_and_says_so(outcome: Outcome) -> None:
    for largest in (4 * GIB, 2 * GIB):
        failed = on_a_small_node(outcome, int(3.9 * GIB), largest=max(largest, 4 * GIB))
        assert isinstance(failed, Failed)
        assert "the largest node known has 4 GiB" in failed.reason
    alone = on_a_small_node(outcome, int(3.9 * GIB), largest=None)
    assert isinstance(alone, Failed)
    assert "node known" not in alone.reason


def test_no_more_is_asked_for_than_the_largest_node_has() -> None:
    back = on_a_small_node(Outcome.TOO_BIG, int(3.9 * GIB), largest=5 * GIB)
    assert isinstance(back, Returned)
    assert back.requirement is not None
    assert back.requirement.memory_bytes == 5 * GIB


def test_what_could_not_be_started_is_tried_elsewhere_once() -> None:
    def not_started(past: PastFailures, *, elsewhere: bool) -> Verdict:
        reason = "command not found: sim"
        return judge(lease(past), Outcome.NOT_STARTED, reason, 0, RetryLimits(), NOW, "here", elsewhere=elsewhere)

    back = not_started(PastFailures(), elsewhere=True)
    assert isinstance(back, Returned)
    assert back.avoid_host == "here"
    assert not_started(PastFailures(), elsewhere=False) == Failed(reason="command not found: sim")
    assert not_started(back.past, elsewhere=True) == Failed(reason="command not found: sim (tried twice)")
