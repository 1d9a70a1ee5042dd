"""Forgetting finished jobs. One script removes a job whole (lua/forget_job.lua), so nobody ever sees a part of one."""

from __future__ import annotations

from ergates.cluster.task import JobId
from ergates.drivers.stores.redis.names import job_name, number_or_none
from ergates.drivers.stores.redis.session import Session
from ergates.taskqueue.retention import Forgetting


def with_history(session: Session) -> frozenset[JobId]:
    """See Retention.with_history: those with attempts that were not drained yet."""
    return frozenset(
        job_name(int(name)) for name in session.connection().command("ZRANGE", session.prefix + "logs", 0, -1)
    )


def forget_job(session: Session, job: JobId, *, history: bool) -> Forgetting:
    """See Retention.forget_job."""
    (answer,) = session.run("forget_job", [number_or_none(job), history])
    return Forgetting(answer.decode())
