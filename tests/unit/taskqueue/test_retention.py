"""Which jobs may be forgotten."""

from __future__ import annotations

from ergates.cluster.job import JobStatus
from ergates.cluster.task import JobId
from ergates.taskqueue.retention import Forgetting, due, judge
from ergates.units import Nanoseconds

HOUR = 3600 * 10**9
NOW = Nanoseconds(1000 * HOUR)


def job(number: int, finished_hours_ago: float | None) -> JobStatus:
    finished = None if finished_hours_ago is None else Nanoseconds(NOW - round(finished_hours_ago * HOUR))
    return JobStatus(
        id=JobId(f"j{number}"), key="", name="", phase="active" if finished is None else "finished",
        submitted_ns=Nanoseconds(0), finished_ns=finished, total=1, counts={}, outcomes={}, wall_ns=0, cpu_ns=0,
        wasted_cpu_ns=0, wasted_wall_ns=0, peak_bytes=0, cost_usd_micros=None,
    )  # fmt: skip


JOBS = [job(4, None), job(3, 1), job(2, 30), job(1, 50)]  # newest first, as a store lists them
DRAINED = frozenset[JobId]()


def verdicts(**options: object) -> list[str]:
    history = frozenset([JobId("j2")])
    return [each.verdict.value for each in judge(JOBS, history, NOW, **options)]  # type: ignore[arg-type]


def test_what_is_finished_and_recorded_elsewhere_may_go() -> None:
    assert verdicts() == ["not finished", "forgotten", "history", "forgotten"]


def test_an_age_keeps_what_is_younger() -> None:
    assert verdicts(older_than_ns=24 * HOUR) == ["not finished", "recent", "history", "forgotten"]


def test_history_goes_when_it_is_told_to_but_nothing_unfinished() -> None:
    assert verdicts(history=True) == ["not finished", "forgotten", "forgotten", "forgotten"]


def test_a_job_is_old_enough_at_the_very_moment() -> None:
    assert due([job(1, 24)], DRAINED, NOW, Nanoseconds(24 * HOUR)) == ("j1",)
    assert due([job(1, 24)], DRAINED, NOW, Nanoseconds(24 * HOUR + 1)) == ()


def test_due_jobs_come_oldest_first_without_those_that_have_history() -> None:
    assert due(JOBS, {JobId("j2")}, NOW, Nanoseconds(0)) == ("j1", "j3")
    assert due(JOBS, {JobId("j2")}, NOW, Nanoseconds(40 * HOUR)) == ("j1",)


def test_a_clock_behind_the_one_that_settled_the_job_keeps_it() -> None:
    assert judge([job(1, -1)], DRAINED, NOW)[0].verdict is Forgetting.RECENT
