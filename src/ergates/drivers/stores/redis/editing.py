"""Changing what was submitted: pause, cancel, retry. Large ranges go in steps of bounded length, so nobody waits long;
each step is whole, and one that is left undone can be asked for again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ergates.drivers.stores.redis.names import job_number, merged, unknown_job
from ergates.drivers.stores.redis.retrying import retry_with_dependents
from ergates.drivers.stores.redis.rows import clean_text
from ergates.drivers.stores.redis.session import Session
from ergates.errors import UsageError

_phase_answer = msgspec.msgpack.Decoder(tuple[str, int])
_step_answer = msgspec.msgpack.Decoder(tuple[int, int, int])
_number = msgspec.msgpack.Decoder(int)


def set_phase(session: Session, job: str, phase: str, now_ns: int) -> None:
    """See Submitter.set_phase."""
    if phase not in ("active", "paused", "cancelled"):
        raise UsageError(f"a job can be made active, paused or cancelled, not {phase!r}")
    number = job_number(job)
    answer, total = _phase_answer.decode(session.run("set_phase", [number, phase], now_ns)[0])
    if answer == "unknown":
        raise unknown_job(job)
    if answer == "cancelled":
        raise UsageError(f"job {job} was cancelled\n  hint: `erg retry {job}` takes its tasks back")
    if answer == "changed" and phase == "cancelled":
        cancel(session, job, [(1, total)], "its job was cancelled", now_ns)


def cancel(session: Session, job: str, tasks: Sequence[tuple[int, int]], reason: str, now_ns: int) -> int:
    """See Submitter.cancel."""
    number = job_number(job)
    count = 0
    for first, last in merged(tasks) or [(1, 0)]:
        place = first
        while True:
            request = [number, place, last, clean_text(reason)]
            place, ended, total = _step_answer.decode(session.run("cancel", request, now_ns)[0])
            if not place:
                raise unknown_job(job)
            count += ended
            if place > min(last, total):
                break
    follow_up(session, now_ns)
    return count


def retry(session: Session, job: str, tasks: Sequence[tuple[int, int]], now_ns: int) -> int:
    """See Submitter.retry."""
    number = job_number(job)
    count = 0
    ranges = merged(tasks)
    for first, last in ranges or [(1, 0)]:
        place = first
        while True:
            place, back, total = _step_answer.decode(session.run("retry", [number, place, last], now_ns)[0])
            if not place:
                raise unknown_job(job)
            if place < 0:
                return retry_with_dependents(session, number, ranges, now_ns)
            count += back
            if place > min(last, total):
                break
    return count


def follow_up(session: Session, now_ns: int) -> None:
    """Go on until nothing more follows from tasks that ended."""
    while _number.decode(session.run("follow", 0, now_ns)[0]):
        continue
