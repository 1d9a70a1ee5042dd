"""How people name tasks: `7`, `1-100`, `j3/7`, `j3/1-100,205`, and `j3` alone for a whole job. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ergates.errors import UsageError

_RANGE = re.compile(r"([0-9]+)(?:(?:-|\.\.)([0-9]+))?")
EXPECTED = "a task such as 7, a range such as 1-100, or one of another job: j3/7"


@dataclass(frozen=True, slots=True)
class Selection:
    """Tasks of one job.

    Args:
        job: as the user named it, None for the newest job.
        ids: inclusive ranges of task ids, sorted and merged; empty means all of the job.
    """

    job: str | None
    ids: tuple[tuple[int, int], ...] = ()


def parse_selection(words: Sequence[str]) -> Selection:
    """Read the TASK words of a command line; all have to be of one job.

    Raises:
        UsageError: not a task, a range that runs backwards, or tasks of two jobs.
    """
    job: str | None = None
    ranges: list[tuple[int, int]] = []
    whole_job = False
    for word in words:
        before, slash, after = word.rpartition("/")
        named, ids = (before, after) if slash else (None, word)
        if not slash and not word[:1].isdigit():
            named, ids = word, ""
        if named is not None:
            if job not in (None, named):
                raise UsageError(f"tasks of two jobs at once: {job} and {named}\n  hint: call the command once per job")
            job = named
        if ids:
            ranges += _ranges(ids, word)
        else:
            whole_job = True
    return Selection(job, () if whole_job else merged(ranges))


def merged(ranges: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sorted, overlapping and adjacent ranges joined."""
    result: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return tuple(result)


def show_ranges(ids: Sequence[int]) -> str:
    """`1-3,7` for 1, 2, 3, 7."""
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in merged([(i, i) for i in ids]))


def _ranges(text: str, word: str) -> list[tuple[int, int]]:
    result = []
    for piece in text.split(","):
        match = _RANGE.fullmatch(piece)
        if match is None:
            raise UsageError(f"{word!r} is not a task\n  expected: {EXPECTED}")
        first, last = int(match[1]), int(match[2] or match[1])
        if first < 1 or last < first:
            raise UsageError(f"{word!r}: tasks count from 1 and a range goes upwards\n  expected: {EXPECTED}")
        result.append((first, last))
    return result
