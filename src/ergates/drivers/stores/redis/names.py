"""Names of jobs, ranges of ids, and records as JSON text: what several files here need in one way."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from ergates.cluster.task import JobId
from ergates.errors import UnknownJobError, UsageError

ID_MAX = (1 << 32) - 1


@lru_cache(256)
def job_number(job: str) -> int:
    """`j12` is 12. Raises UnknownJobError."""
    if job[:1] == "j" and job[1:].isascii() and job[1:].isdecimal() and len(job) < 10:
        return int(job[1:])
    raise unknown_job(job)


def number_or_none(job: str) -> int:
    """Like `job_number`, but 0, which is no job, for what cannot be a name."""
    try:
        return job_number(job)
    except UnknownJobError:
        return 0


@lru_cache(256)
def job_name(number: int) -> JobId:
    return JobId(f"j{number}")


def unknown_job(job: str) -> UnknownJobError:
    return UnknownJobError(f"no job {job!r} in this queue\n  hint: `erg status` lists the jobs")


def merged(ids: Sequence[tuple[int, int]], most: int = ID_MAX) -> list[tuple[int, int]]:
    """Inclusive id ranges sorted, without overlaps, between 1 and `most`."""
    found: list[tuple[int, int]] = []
    for first, last in sorted((max(1, first), min(most, last)) for first, last in ids):
        if first > last:
            continue
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def to_json(record: msgspec.Struct, what: str) -> str:
    """JSON text. Raises UsageError for text that UTF-8 cannot hold."""
    try:
        return msgspec.json.encode(record).decode()
    except UnicodeEncodeError as error:
        shown = error.object.encode("utf-8", "backslashreplace").decode()
        raise UsageError(f"{what}: {shown!r} is not valid UTF-8 text") from error


def to_text(text: str, what: str) -> str:
    """The text itself. Raises UsageError where UTF-8 cannot hold it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"{what}: {error.object!a} is not valid UTF-8 text") from error
    return text
