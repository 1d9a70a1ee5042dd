"""Putting a job in: chunks go to temporary keys as tasks are read, and one last call makes the job visible, whole.

A submission that breaks leaves nothing anybody sees; what it had uploaded is dropped, or expires when it was killed. When
the answer to the last call is lost it is asked again: the job's uid says whether it was done.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from ergates.cluster.job import JobSpec
from ergates.cluster.task import Requirement, TaskSpec
from ergates.drivers.stores.redis.chunks import CHUNK_TASKS, encode_chunk
from ergates.drivers.stores.redis.names import job_name, to_json, to_text
from ergates.drivers.stores.redis.prerequisites import Prerequisites
from ergates.drivers.stores.redis.session import Session
from ergates.drivers.stores.redis.upload import Upload
from ergates.errors import StoreUnavailableError
from ergates.taskqueue.store import Submitted

PUBLISH_TRIES = 3
_answer_decoder = msgspec.msgpack.Decoder(tuple[int, int, bool, int])


def submit(session: Session, job: JobSpec, tasks: Iterable[TaskSpec], now_ns: int, *, again: bool) -> Submitted:
    """See Submitter.submit."""
    spec = to_json(job, "the job")
    key = to_text(job.key, "the job's key")
    known = _known(session, job, key, now_ns, again=again)
    if known is not None:
        return known
    upload = Upload(session, secrets.token_hex(8))
    try:
        tasks_in = SubmittedTasks(upload)
        tasks_in.add_all(iter(tasks))
        total, blocked, levels, lanes = tasks_in.finish()
        request = [
            upload.uid, key, again, spec, total, blocked, levels, lanes, upload.names,
            "" if job.max_failed_tasks is None else job.max_failed_tasks,
            max(1, job.aging_ns // 1000) if job.aging_ns else "", job.open,
        ]  # fmt: skip
        return _publish(session, request, now_ns)
    except BaseException:
        upload.drop()
        raise


def _known(session: Session, job: JobSpec, key: str, now_ns: int, *, again: bool) -> Submitted | None:
    limit = "" if job.max_failed_tasks is None else job.max_failed_tasks
    packed, text = session.run("known", [key, again, limit, False], now_ns)
    known = _answer_decoder.decode(packed)
    if not known[0]:
        return None
    if known[2]:
        old = msgspec.json.decode(text, type=JobSpec)
        if old.max_failed_tasks != job.max_failed_tasks:
            new = msgspec.structs.replace(old, max_failed_tasks=job.max_failed_tasks)
            session.run("known", [key, again, limit, to_json(new, "the job")], now_ns)
    return _submitted(known)


def _publish(session: Session, request: Sequence[object], now_ns: int) -> Submitted:
    for left in reversed(range(PUBLISH_TRIES)):
        try:
            (answer,) = session.run("publish", request, now_ns)
            return _submitted(_answer_decoder.decode(answer))
        except StoreUnavailableError:
            if not left:
                raise
    raise AssertionError("unreachable")


def _submitted(answer: tuple[int, int, bool, int]) -> Submitted:
    number, total, resumed, done = answer
    return Submitted(id=job_name(number), total=total, resumed=resumed, done=done)


class SubmittedTasks:
    """Reads tasks, uploads their chunks, and notes in which lanes they wait.

    Args:
        there: how many tasks the job has already, where it is extended; `old` those of them in its last chunk, when that one
            is not full; `lanes` the lanes it has.
    """

    def __init__(
        self,
        upload: Upload,
        there: int = 0,
        old: Sequence[TaskSpec] = (),
        lanes: Sequence[tuple[Requirement, int]] = (),
    ) -> None:
        self._upload = upload
        self._there, self._old = there, list(old)
        self._next = there + 1
        self._lanes: dict[tuple[Requirement, int], int] = {lane: number for number, lane in enumerate(lanes)}
        self._runs: list[tuple[int, int, bool]] = []
        """(first task, lane, blocked): what holds until the next run begins."""
        self._prerequisites = Prerequisites()

    def add_all(self, source: Iterator[TaskSpec]) -> None:
        chunk, old = (self._next - 1) // CHUNK_TASKS, self._old
        assert len(old) == (self._next - 1) % CHUNK_TASKS, "chunks are whole but for the last"
        while specs := list(islice(source, CHUNK_TASKS - len(old))):
            self._note_lanes(specs)
            self._upload.add_chunk(encode_chunk(chunk, self._next - len(old), [*old, *specs]))
            self._next += len(specs)
            chunk, old = chunk + 1, []

    def finish(self) -> tuple[int, int, str, list[tuple[int, int, int, object]]]:
        """(tasks, blocked ones, levels of ranges, lanes as the scripts take them)."""
        total = self._next - 1
        levels = self._prerequisites.upload(self._upload, self._there, total)
        ids = self._upload.session.class_ids([requirement for requirement, _ in self._lanes])
        ranges, blocked = self._ranges(total)
        lanes: list[tuple[int, int, int, object]] = []
        for (_, priority), class_id, some in zip(self._lanes, ids, ranges, strict=True):
            waiting = sum(last - first + 1 for first, last in some)
            where: object = some[0] if len(some) == 1 else self._upload.ranges(f"l:{len(lanes)}", some)
            lanes.append((class_id, priority, waiting, where))
        if len(lanes) > 1:
            self._upload.lane_numbers(self._runs, total)
        if blocked:
            self._upload.states(self._runs, total)
        self._upload.flush()
        return total, blocked, levels, lanes

    def _note_lanes(self, specs: Sequence[TaskSpec]) -> None:
        requirement: Requirement | None = None
        priority, blocked, lane = 0, False, -1
        if self._runs:
            _, lane, blocked = self._runs[-1]
        for task, spec in enumerate(specs, self._next):
            if spec.requirement is not requirement or spec.priority != priority:
                requirement, priority = spec.requirement, spec.priority
                lane = self._lanes.setdefault((requirement, priority), len(self._lanes))
            waits = bool(spec.after)
            if waits:
                self._prerequisites.add(task, spec.after)
            if not self._runs or self._runs[-1][1] != lane or waits != blocked:
                blocked = waits
                self._runs.append((task, lane, blocked))

    def _ranges(self, total: int) -> tuple[list[list[tuple[int, int]]], int]:
        """Ready ids of each lane as ranges, and how many are blocked."""
        ranges: list[list[tuple[int, int]]] = [[] for _ in self._lanes]
        blocked = 0
        ends = [first - 1 for first, _, _ in [*self._runs[1:], (total + 1, 0, False)]]
        for (first, lane, waits), last in zip(self._runs, ends, strict=False):
            if waits:
                blocked += last - first + 1
            else:
                ranges[lane].append((first, last))
        return ranges, blocked
