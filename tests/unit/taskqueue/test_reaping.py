"""What becomes of the tasks of workers that went away."""

from __future__ import annotations

from ergates.cluster.attempt import Outcome
from ergates.cluster.job import RetryLimits
from ergates.cluster.task import JobId, TaskId, TaskSpec
from ergates.taskqueue.reaping import LOSSES_OF_WORKERS, REASON, lost_commits
from ergates.taskqueue.store import Failed, Lease, PastFailures, Returned
from ergates.units import Nanoseconds

NOW = Nanoseconds(1_000_000_000_000)


def lease(losses: int = 0, *, attempt: int = 1) -> Lease:
    return Lease(
        job=JobId("j1"),
        task=TaskId(7),
        fence=42,
        attempt=attempt,
        spec=TaskSpec(command="x"),
        past=PastFailures(losses=losses),
        host="node3",
    )


def test_a_lost_task_returns_under_its_own_fence_and_avoids_the_host_that_lost_it() -> None:
    (commit,) = lost_commits([lease(attempt=3)], lambda job: RetryLimits(), NOW)
    assert (commit.job, commit.task, commit.fence) == ("j1", 7, 42)
    assert commit.attempt is not None
    assert (commit.attempt.number, commit.attempt.outcome, commit.attempt.reason) == (3, Outcome.LOST, REASON)
    assert isinstance(commit.verdict, Returned)
    assert commit.verdict.avoid_host == "node3"
    assert commit.verdict.past.losses == 1
    assert commit.verdict.not_before_ns > NOW


def test_a_task_is_innocent_until_many_workers_died_of_it() -> None:
    limits = RetryLimits(losses=2)
    (almost,) = lost_commits([lease(LOSSES_OF_WORKERS - 1)], lambda job: limits, NOW)
    (enough,) = lost_commits([lease(LOSSES_OF_WORKERS)], lambda job: limits, NOW)
    assert isinstance(almost.verdict, Returned)
    assert isinstance(enough.verdict, Failed)
    assert "quarantined" in enough.verdict.reason


def test_a_job_may_allow_more() -> None:
    (commit,) = lost_commits([lease(LOSSES_OF_WORKERS)], lambda job: RetryLimits(losses=50), NOW)
    assert isinstance(commit.verdict, Returned)
