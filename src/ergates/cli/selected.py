"""From the TASK words of a command line to a job and its tasks in the store."""

from __future__ import annotations

from collections.abc import Sequence

from ergates.cli.jobs import choose_job
from ergates.cli.task_names import parse_selection
from ergates.cluster.job import JobStatus
from ergates.errors import UsageError
from ergates.taskqueue.store import Reader

Ranges = tuple[tuple[int, int], ...]


def selected(store: Reader, words: Sequence[str]) -> tuple[JobStatus, Ranges]:
    """The job and the inclusive id ranges that were named; no ranges stand for all of the job.

    Raises:
        UsageError: no such job, or a task beyond its last one.
    """
    selection = parse_selection(words)
    status = choose_job(store, selection.job)
    for first, last in selection.ids:
        if first > status.total:
            shown = str(first) if first == last else f"{first}-{last}"
            raise UsageError(f"{status.id} has no task {shown}\n  expected: a number from 1 to {status.total}")
    return status, selection.ids


def all_of(status: JobStatus, ranges: Ranges) -> Ranges:
    """The ranges, or one that covers the whole job."""
    return ranges or ((1, status.total),)
