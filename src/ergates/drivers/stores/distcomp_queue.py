"""A live queue of distComp: its hashes read, and its waiting tasks taken over without losing one or letting one run twice.

distComp keeps whole task lines as the fields of hashes. A worker of its claims a line by deleting it from `todo_tasks`; so do
we, in one script that also writes it into `in_progress_tasks` under our own name. Lines under our name are ours whatever
happens next: a take-over that died is finished by the next one. Once they are in our store, the mark says in which job.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

TODO, IN_PROGRESS = "todo_tasks", "in_progress_tasks"
FINISHED, FAILED, REASONS, WORKERS = "finished_tasks", "failed_tasks", "task_fail_reason", "worker_status"
OURS = "ergates"
"""No host of distComp's is called so; `ergates:j7` once a line is in that job."""
SILENT_S = 40
"""distComp's own rule of when a worker is dead."""
_AT_ONCE = 1000

_CLAIM = """
local claimed = {}
for _, line in ipairs(ARGV) do
    if redis.call('HDEL', KEYS[1], line) == 1 then
        redis.call('HSET', KEYS[2], line, 'ergates')
        claimed[#claimed + 1] = line
    end
end
return claimed
"""
_MARK = """
for index = 2, #ARGV do
    if redis.call('HGET', KEYS[1], ARGV[index]) == 'ergates' then
        redis.call('HSET', KEYS[1], ARGV[index], ARGV[1])
    end
end
"""
_GIVE_BACK_SILENT = """
local count = 0
for index = 2, #ARGV do
    if redis.call('HGET', KEYS[1], ARGV[index]) == ARGV[1] then
        redis.call('HDEL', KEYS[1], ARGV[index])
        redis.call('HSET', KEYS[2], ARGV[index], '')
        count = count + 1
    end
end
return count
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueCounts:
    """Lines in each of the hashes; `claimed` are ours and in no job yet, `moved` are in one."""

    todo: int
    in_progress: int
    claimed: int
    moved: int
    finished: int
    failed: int


class DistcompQueue:
    """One distComp database.

    Args:
        client: of redis-py, not decoding; every error of the library comes through.
    """

    def __init__(self, client: Any) -> None:
        self._redis = client

    def counts(self) -> QueueCounts:
        """What is there now."""
        owners = list(self._redis.hvals(IN_PROGRESS))
        claimed = owners.count(OURS.encode())
        moved = sum(owner.startswith(f"{OURS}:".encode()) for owner in owners)
        return QueueCounts(
            todo=self._redis.hlen(TODO),
            in_progress=len(owners) - claimed - moved,
            claimed=claimed,
            moved=moved,
            finished=self._redis.hlen(FINISHED),
            failed=self._redis.hlen(FAILED),
        )

    def waiting(self) -> Iterator[bytes]:
        """Lines that wait, in no order."""
        for line, _ in self._redis.hscan_iter(TODO, count=_AT_ONCE):
            yield line

    def claim(self, lines: Sequence[bytes]) -> list[bytes]:
        """Take waiting lines from its workers; returns those that no worker was faster to take."""
        claimed: list[bytes] = []
        for first in range(0, len(lines), _AT_ONCE):
            claimed += self._redis.eval(_CLAIM, 2, TODO, IN_PROGRESS, *lines[first : first + _AT_ONCE])
        return claimed

    def claimed(self) -> list[bytes]:
        """Lines that are ours and in no job yet, sorted."""
        return sorted(line for line, owner in self._redis.hscan_iter(IN_PROGRESS) if owner == OURS.encode())

    def mark_moved(self, lines: Sequence[bytes], job: str) -> None:
        """Say that these are in that job."""
        for first in range(0, len(lines), _AT_ONCE):
            self._redis.eval(_MARK, 1, IN_PROGRESS, f"{OURS}:{job}", *lines[first : first + _AT_ONCE])

    def give_back_silent(self, now_s: int) -> int:
        """Put lines of workers that are silent for `SILENT_S` back to those that wait, as its `cleanup` does."""
        silent = set()
        for worker, status in self._redis.hscan_iter(WORKERS):
            said_s = status.split(b":", 1)[0]
            if not said_s.isdigit() or now_s - int(said_s) > SILENT_S:
                silent.add(worker)
        held: dict[bytes, list[bytes]] = {}
        for line, owner in self._redis.hscan_iter(IN_PROGRESS):
            if owner in silent:
                held.setdefault(owner, []).append(line)
        count = 0
        for owner, lines in held.items():
            for first in range(0, len(lines), _AT_ONCE):
                part = lines[first : first + _AT_ONCE]
                count += self._redis.eval(_GIVE_BACK_SILENT, 2, IN_PROGRESS, TODO, owner, *part)
        return count
