"""From the TASK words of a command line to a job and its tasks in the store."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def several(
    store: Reader, words: Sequence[str], *, everything: bool, wanted: Callable[[JobStatus], bool]
) -> list[tuple[JobStatus, Ranges]]:
    """The jobs and tasks that were named, each job once in the order of its first mention; of none the newest job.

    Args:
        store: to look in.
        words: as `selected` reads them, but of several jobs.
        everything: `--all`: every job that is `wanted`, oldest first; then no words may be given.
        wanted: which jobs `--all` means.

    Raises:
        UsageError: no such job or task, or words beside `--all`.
    """
    if everything:
        if words:
            raise UsageError("--all means every job: name no others with it")
        return [(status, ()) for status in reversed(store.jobs()) if wanted(status)]
    by_job: dict[str | None, list[str]] = {}
    for word in words:
        by_job.setdefault(parse_selection([word]).job, []).append(word)
    found = [selected(store, group) for group in by_job.values()] if by_job else [selected(store, ())]
    names = [status.id for status, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name} is named in two ways\n  hint: call it the same everywhere, such as {name}/1-100")
    return found


def all_of(status: JobStatus, ranges: Ranges) -> Ranges:
    """The ranges, or one that covers the whole job."""
    return ranges or ((1, status.total),)
