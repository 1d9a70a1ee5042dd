"""The ledger's words for what the launcher saw."""

from __future__ import annotations

import signal

import pytest

from ergates.agent.outcomes import Order, cost_of, outcome_of, peak_of, reason_of
from ergates.cluster.attempt import Outcome
from ergates.taskqueue.launching import AttemptKey, Ended
from ergates.taskqueue.node_events import EndAttempt, GiveBack, HandBack, RefuseTask
from ergates.units import GIB, MIB, Bytes, Nanoseconds, UsdMicros

KEY: AttemptKey = ("j1", 7, 42)
EVICT = GiveBack(key=KEY, reason="the node was at 92 %", memory_floor_bytes=Bytes(GIB), peak_bytes=Bytes(GIB))


def ended(**facts: object) -> Ended:
    return Ended(key=KEY, started_ns=Nanoseconds(10), ended_ns=Nanoseconds(20), **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "order", "expected"),
    [
        ({"exit_code": 0}, None, Outcome.SUCCEEDED),
        ({"exit_code": 3}, None, Outcome.FAILED),
        ({"signal": 11}, None, Outcome.SIGNALLED),
        ({"error": "command not found: foo"}, None, Outcome.NOT_STARTED),
        ({"signal": 15, "timed_out": True}, None, Outcome.TIMED_OUT),
        ({"signal": 9, "oom_killed": True}, None, Outcome.OOM_KILLED),
        ({"exit_code": 137, "oom_killed": True}, None, Outcome.OOM_KILLED),
        ({"exit_code": 0, "oom_killed": True}, None, Outcome.SUCCEEDED),
        ({"error": "slot helper died", "lost": True}, None, Outcome.LOST),
        ({"exit_code": 0, "disk_full": True}, None, Outcome.DISK_FULL),
        ({"signal": 9, "killed": True}, EVICT, Outcome.EVICTED),
        ({"signal": 9, "killed": True}, HandBack(key=KEY, reason="drain"), Outcome.RETURNED),
        ({"signal": 9, "killed": True}, EndAttempt(key=KEY, reason="cancelled"), Outcome.CANCELLED),
        ({"signal": 9, "killed": True}, RefuseTask(key=KEY, reason="big", peak_bytes=Bytes(1)), Outcome.TOO_BIG),
    ],
)
def test_every_end_has_its_name(facts: dict[str, object], order: Order | None, expected: Outcome) -> None:
    assert outcome_of(ended(**facts), order) is expected


@pytest.mark.parametrize("facts", [{"signal": 15}, {"exit_code": 143}])
def test_what_a_batch_system_ends_together_with_us_did_not_fail(facts: dict[str, object]) -> None:
    outcome = outcome_of(ended(**facts), None, shared_end=True)
    assert outcome is Outcome.LOST
    assert "batch system" in reason_of(ended(**facts), outcome, None, 0, None)
    assert outcome_of(ended(**facts), None) in (Outcome.SIGNALLED, Outcome.FAILED)


def test_other_ends_in_an_allocation_mean_what_they_mean_elsewhere() -> None:
    assert outcome_of(ended(exit_code=1), None, shared_end=True) is Outcome.FAILED
    assert outcome_of(ended(signal=11), None, shared_end=True) is Outcome.SIGNALLED
    assert outcome_of(ended(signal=15, timed_out=True), None, shared_end=True) is Outcome.TIMED_OUT


def test_a_task_that_finished_before_our_signal_has_succeeded() -> None:
    assert outcome_of(ended(exit_code=0), EVICT) is Outcome.SUCCEEDED


def test_an_attempt_queued_behind_one_that_died_is_returned_uncounted() -> None:
    never = Ended(key=KEY, started_ns=Nanoseconds(0), ended_ns=Nanoseconds(20), error="not started", lost=True)
    assert outcome_of(never, None) is Outcome.RETURNED
    assert reason_of(never, Outcome.RETURNED, None, 0, None) == "not started"


def test_a_task_that_failed_by_itself_before_our_signal_has_failed() -> None:
    assert outcome_of(ended(exit_code=3), EVICT) is Outcome.FAILED


def test_reasons_are_words() -> None:
    oom = ended(signal=9, oom_killed=True)
    assert reason_of(oom, Outcome.OOM_KILLED, None, GIB, None) == "killed by the kernel for memory at 1 GiB"
    late = ended(signal=15, timed_out=True)
    assert reason_of(late, Outcome.TIMED_OUT, None, 0, 600 * 10**9) == "ran longer than its limit of 10 min 00 s"
    assert reason_of(ended(signal=signal.SIGSEGV), Outcome.SIGNALLED, None, 0, None) == "ended by signal 11 (SIGSEGV)"
    assert reason_of(ended(signal=9, killed=True), Outcome.EVICTED, EVICT, 0, None) == "the node was at 92 %"


def test_a_task_seen_by_the_tick_has_its_sampled_peak_and_a_short_one_only_a_bound() -> None:
    facts = ended(exit_code=0, cgroup_peak_bytes=Bytes(90 * MIB), maxrss_bytes=Bytes(60 * MIB))
    assert peak_of(facts, 50 * MIB, samples=10) == (50 * MIB, "sampled")
    assert peak_of(facts, 5 * MIB, samples=1) == (60 * MIB, "maxrss")
    assert peak_of(facts, 0, samples=0) == (60 * MIB, "maxrss")
    assert peak_of(ended(exit_code=0), 0, samples=0) == (0, "unknown")


def test_cost_is_the_share_of_the_node_over_the_time() -> None:
    half_an_hour_of_one_core_of_two = cost_of(1800 * 10**9, 1000, 2000, UsdMicros(1_000_000))
    assert half_an_hour_of_one_core_of_two == 250_000
    assert cost_of(1800 * 10**9, 1000, 2000, None) is None
