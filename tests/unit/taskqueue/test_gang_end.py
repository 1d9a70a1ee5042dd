"""The one attempt that a gang's ends become."""

from __future__ import annotations

from ergates.cluster.attempt import KEPT_BYTES_MAX, Attempt, Kept, Outcome, Output
from ergates.cluster.gang import GangSeat, role_of
from ergates.cluster.job import RetryLimits
from ergates.cluster.task import JobId, Requirement, TaskId, TaskSpec
from ergates.cluster.usage import Usage
from ergates.taskqueue.gang_end import merged, share_of_output
from ergates.taskqueue.reaping import lost_commits
from ergates.taskqueue.store import (
    CANCELLED_BY_USER,
    Cancelled,
    Done,
    Failed,
    GangEnds,
    Lease,
    MemberEnd,
    PastFailures,
    Returned,
)
from ergates.units import Bytes, Nanoseconds, UsdMicros

ROLES = (("server", 1), ("client", 2))


def lease(rank: int = 0) -> Lease:
    spec = TaskSpec(command="x", requirement=Requirement(nodes=3, roles=ROLES))
    seat = GangSeat(rank=rank, size=3, role=role_of(ROLES, rank), hosts=("a", "b", "c"))
    return Lease(
        job=JobId("j1"), task=TaskId(1), fence=7, attempt=2, spec=spec, past=PastFailures(losses=1), gang=seat, host="b"
    )


def member(outcome: Outcome = Outcome.SUCCEEDED, *, wall: int = 1, peak: int = 1, said: bytes = b"") -> MemberEnd:
    verdict = Done() if outcome is Outcome.SUCCEEDED else Returned(past=PastFailures(failures=1), avoid_host="b")
    usage = Usage(
        wall_ns=Nanoseconds(wall), cpu_ns=Nanoseconds(10), peak_bytes=Bytes(peak), peak_label="sampled",
        cost_usd_micros=UsdMicros(3),
    )  # fmt: skip
    attempt = Attempt(
        number=2, outcome=outcome, started_ns=Nanoseconds(100 - wall), ended_ns=Nanoseconds(100), usage=usage,
        exit_code=0 if outcome is Outcome.SUCCEEDED else 3, output=Output(pack="p"),
        reason="" if outcome is Outcome.SUCCEEDED else "exit code 3",
    )  # fmt: skip
    return MemberEnd(attempt=attempt, verdict=verdict, kept=Kept(stdout=said))


def ends(*members: MemberEnd | None, cause: int | None = None) -> GangEnds:
    return GangEnds(job=JobId("j1"), task=TaskId(1), fence=7, cause=cause, ends=members)


def test_time_is_the_longest_and_the_rest_adds_up() -> None:
    whole = ends(
        member(wall=5, peak=10, said=b"hello"), member(wall=9, peak=30), member(wall=2, peak=20, said=b"bye\n")
    )
    attempt, verdict, kept = merged(lease(), whole, "w1", "a")
    assert attempt is not None and kept is not None and verdict == Done()
    assert (attempt.number, attempt.outcome, attempt.worker, attempt.host) == (2, Outcome.SUCCEEDED, "w1", "a")
    assert (attempt.started_ns, attempt.ended_ns, attempt.exit_code, attempt.reason) == (91, 100, 0, "")
    usage = attempt.usage
    assert (usage.wall_ns, usage.cpu_ns, usage.peak_bytes, usage.cost_usd_micros) == (9, 30, 30, 9)
    assert kept.stdout == b"--- rank 0 (server) on a\nhello\n--- rank 2 (client) on c\nbye\n"


def test_the_cause_counts_and_is_named() -> None:
    whole = ends(member(Outcome.CANCELLED), member(Outcome.FAILED), member(Outcome.CANCELLED), cause=1)
    attempt, verdict, _ = merged(lease(), whole, "w1", "a")
    assert attempt is not None
    assert (attempt.outcome, attempt.exit_code) == (Outcome.FAILED, 3)
    assert attempt.reason == "rank 1 (client) on b: exit code 3"
    assert verdict == Returned(past=PastFailures(failures=1), avoid_host=""), "a gang avoids no host"


def test_a_failure_for_good_says_who_failed() -> None:
    bad = member(Outcome.FAILED)
    bad = MemberEnd(attempt=bad.attempt, verdict=Failed(reason="exit code 3"))
    _, verdict, _ = merged(lease(), ends(member(), member(), bad, cause=2), "w1", "a")
    assert verdict == Failed(reason="rank 2 (client) on c: exit code 3")


def test_one_that_was_handed_back_returns_the_task_unharmed() -> None:
    attempt, verdict, _ = merged(lease(), ends(member(Outcome.CANCELLED), None, None, cause=1), "w1", "a")
    assert attempt is not None and attempt.outcome is Outcome.RETURNED
    assert verdict == Returned(past=PastFailures(losses=1))
    assert merged(lease(), ends(None, None, None, cause=1), "w1", "a") == (None, verdict, None)


def test_the_user_cancels() -> None:
    stopped = member(Outcome.CANCELLED)
    attempt, verdict, _ = merged(lease(), ends(stopped, stopped, stopped, cause=CANCELLED_BY_USER), "w1", "a")
    assert attempt is not None and attempt.outcome is Outcome.CANCELLED and verdict == Cancelled()


def test_members_share_what_may_be_kept() -> None:
    kept = share_of_output(Kept(stdout=b"x" * KEPT_BYTES_MAX, stderr=b"short"), 4)
    assert kept is not None and (len(kept.stdout), kept.stderr) == (KEPT_BYTES_MAX // 4, b"short")
    assert share_of_output(None, 4) is None


def test_a_dead_member_is_reaped_for_its_leader_a_dead_leader_with_its_gang() -> None:
    (dead_member,) = lost_commits([lease(1)], lambda _: RetryLimits(), Nanoseconds(0))
    assert dead_member.seat == 1 and dead_member.attempt is not None and dead_member.attempt.host == "b"
    (dead_leader,) = lost_commits([lease(0)], lambda _: RetryLimits(), Nanoseconds(0))
    assert dead_leader.seat is None
    assert isinstance(dead_leader.verdict, Returned) and dead_leader.verdict.avoid_host == ""
