"""Putting a job in: one transaction, tasks read one after another, so a million lines need little memory.

The first tasks are read before the store is locked, so a usual job locks it only for a moment. A submission that is killed
leaves nothing: SQLite drops the unfinished transaction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import msgspec

from ergates.cluster.job import JobSpec
from ergates.cluster.task import Requirement, TaskSpec
from ergates.drivers.stores.sqlite_connection import StoreConnection
from ergates.drivers.stores.sqlite_dependencies import DependencyWriter, count_what_ended_before
from ergates.drivers.stores.sqlite_records import (
    BLOCKED,
    ID_BITS,
    ID_MASK,
    READY,
    Extra,
    Profile,
    encode_command,
    job_name,
    job_number,
    to_json,
    unknown_job,
)
from ergates.drivers.stores.sqlite_tally import Tally
from ergates.errors import JobGrewError, UsageError, closed_job
from ergates.taskqueue.store import Submitted

READ_AHEAD = 10_000
BATCH = 10_000
PROFILES_MAX = 4096
"""Different profiles of one job that are written once; a task with yet another one carries it itself."""

_INSERT = "INSERT INTO tasks(row, state, lane, profile, command, extra) VALUES (?, ?, ?, ?, ?, ?)"


def submit(db: StoreConnection, job: JobSpec, tasks: Iterable[TaskSpec], now_ns: int, *, again: bool) -> Submitted:
    """See Submitter.submit."""
    with db.reading():
        known = _known(db, job.key, again=again)
    if known is not None:
        _take_over_limit(db, known, job, now_ns)
        return known
    source = iter(tasks)
    first = list(islice(source, READ_AHEAD))
    with db.write(now_ns, durable=True) as store_ns:
        known = _known(db, job.key, again=again)  # somebody may have submitted the same while we read
        if known is not None:
            return known
        number = _insert_job(db, job, now_ns)
        total = JobWriter(db, number, store_ns).write_all(chain(first, source))
        if total == 0 and not job.open:
            db.raw.execute("UPDATE jobs SET finished_ns = ? WHERE id = ?", (now_ns, number))
    return Submitted(id=job_name(number), total=total, resumed=False, done=0)


def extend(db: StoreConnection, job: str, tasks: Iterable[TaskSpec], now_ns: int, first: int | None) -> int:
    """See Editor.extend."""
    number = job_number(job)
    with db.reading():
        _tasks_of_open(db, job, number)
    source = iter(tasks)
    read = list(islice(source, READ_AHEAD))
    with db.write(now_ns, durable=True) as store_ns:
        before = _tasks_of_open(db, job, number)
        if first not in (None, before + 1):
            raise JobGrewError(f"job {job} has {before} tasks by now, the next is {before + 1} and not {first}")
        writer = JobWriter(db, number, store_ns, before)
        total = writer.write_all(chain(read, source))
        tally = Tally(db, store_ns, now_ns)
        count_what_ended_before(db, tally, writer.ranges_from, number)
        tally.flush()
    return total


def _tasks_of_open(db: StoreConnection, job: str, number: int) -> int:
    """How many it has. Raises UsageError unless it takes more, UnknownJobError."""
    found = db.raw.execute("SELECT total, open FROM jobs WHERE id = ?", (number,)).fetchone()
    if found is None:
        raise unknown_job(job)
    total, is_open = found
    if not is_open:
        raise closed_job(job)
    return int(total)


def _known(db: StoreConnection, key: str, *, again: bool) -> Submitted | None:
    """The newest unfinished job with this key, else (unless `again`) the newest one. A cancelled job is not resumed."""
    rows = db.raw.execute(
        "SELECT id, total, done, finished_ns IS NULL AND phase != 'cancelled' AS unfinished FROM jobs WHERE key = ?"
        " ORDER BY unfinished DESC, id DESC LIMIT 1",
        (key,),
    ).fetchall()
    if not rows or (not rows[0][3] and again):
        return None
    number, total, done, unfinished = rows[0]
    return Submitted(id=job_name(number), total=total, resumed=bool(unfinished), done=done)


def _take_over_limit(db: StoreConnection, known: Submitted, job: JobSpec, now_ns: int) -> None:
    """Who resumes a job says anew how many failures are too many; what was said before could not be lifted otherwise."""
    if not known.resumed:
        return
    number = job_number(known.id)
    with db.write(now_ns, durable=True):
        (text,) = db.raw.execute("SELECT spec FROM jobs WHERE id = ?", (number,)).fetchone()
        old = msgspec.json.decode(text, type=JobSpec)
        if old.max_failed_tasks != job.max_failed_tasks:
            new = msgspec.structs.replace(old, max_failed_tasks=job.max_failed_tasks)
            row = (to_json(new, "the job"), job.max_failed_tasks, number)
            db.raw.execute("UPDATE jobs SET spec = ?, max_failed = ? WHERE id = ?", row)


def _insert_job(db: StoreConnection, job: JobSpec, now_ns: int) -> int:
    (first_attempt,) = db.raw.execute("SELECT ifnull(max(id), 0) + 1 FROM attempts").fetchone()
    cursor = db.raw.execute(
        "INSERT INTO jobs(key, spec, submitted_ns, max_failed, aging_ns, first_attempt, open)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (job.key, to_json(job, "the job"), now_ns, job.max_failed_tasks, job.aging_ns, first_attempt, job.open),
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


class JobWriter:
    """Turns tasks into rows, interning what they share. `before` is how many tasks the job has already."""

    def __init__(self, db: StoreConnection, job: int, store_ns: int, before: int = 0) -> None:
        self._db = db
        self._job = job
        self._store_ns = store_ns
        self._before = before
        self._lanes: dict[tuple[Requirement, int], int] = {}
        self._waiting: Counter[int] = Counter()
        self._profiles: dict[tuple[Any, ...], int] = {}
        self._profile_count = 0
        self._blocked = 0
        self._dependencies = DependencyWriter(db, job)

    @property
    def ranges_from(self) -> int:
        """Prerequisites from this number on are those of the tasks written here."""
        return self._dependencies.ranges_from

    def write_all(self, tasks: Iterable[TaskSpec]) -> int:
        """Add the tasks and count them; returns how many the job has then."""
        rows = self._rows(tasks)
        total = self._before
        while True:
            batch = list(islice(rows, BATCH))
            if not batch:
                break
            total += len(batch)
            self._db.raw.executemany(_INSERT, batch)
            self._dependencies.flush()
        levels = self._dependencies.finish(total)
        self._db.raw.executemany(
            "UPDATE lanes SET waiting = waiting + ?, touched_ns = ? WHERE id = ?",
            [(count, self._store_ns, lane) for lane, count in self._waiting.items()],
        )
        self._db.raw.execute(
            "UPDATE jobs SET total = ?, ready = ready + ?, blocked = blocked + ?, range_levels = range_levels | ?"
            " WHERE id = ?",
            (total, total - self._before - self._blocked, self._blocked, levels, self._job),
        )
        return total

    def _rows(self, tasks: Iterable[TaskSpec]) -> Iterator[tuple[Any, ...]]:
        base = self._job << ID_BITS
        requirement, priority, lane = None, 0, 0
        for number, spec in enumerate(tasks, self._before + 1):
            if number > ID_MASK:
                raise UsageError(f"a job can have at most {ID_MASK} tasks")
            if spec.requirement is not requirement or spec.priority != priority:
                requirement, priority = spec.requirement, spec.priority
                lane = self._lane(requirement, priority)
            profile, extra = self.shared(spec, number)
            command: str | bytes
            if type(spec.command) is str and spec.command.isascii():
                command = spec.command
            else:
                command = encode_command(spec.command)
            if spec.after:
                self._dependencies.add(number, base + number, spec.after)
                self._blocked += 1
                yield base + number, BLOCKED, lane, profile, command, extra
            else:
                self._waiting[lane] += 1
                yield base + number, READY, lane, profile, command, extra

    def _lane(self, requirement: Requirement, priority: int) -> int:
        lane = self._lanes.get((requirement, priority))
        if lane is None:
            lane = lane_id(self._db, self._job, class_id(self._db, requirement), priority)
            if len(self._lanes) >= PROFILES_MAX:
                self._lanes.clear()
            self._lanes[requirement, priority] = lane
        return lane

    def shared(self, spec: TaskSpec, number: int) -> tuple[int, bytes | None]:
        """(number of the profile, what is the task's own)."""
        shared = (
            spec.kind, spec.time_limit_ns, spec.retries, spec.cwd, spec.image, spec.mounts,
            tuple(spec.env.items()), tuple(spec.labels.items()),
        )  # fmt: skip
        profile = self._profiles.get(shared)
        own = None
        if profile is None:
            own = Profile(
                kind=spec.kind, time_limit_ns=spec.time_limit_ns, retries=spec.retries, env=spec.env, cwd=spec.cwd,
                labels=spec.labels, image=spec.image, mounts=spec.mounts,
            )  # fmt: skip
            body = to_json(own, f"task {number}")
            if self._profile_count < PROFILES_MAX:
                profile, own = self._write_profile(body), None
                self._profiles[shared] = profile
        plain = spec.payload is None and spec.stdin is None and spec.input_bytes is None and not spec.after
        if own is None and plain and not (spec.inputs or spec.outputs or spec.role_commands):
            return profile or 0, None
        extra = Extra(
            payload=spec.payload, stdin=spec.stdin, input_bytes=spec.input_bytes, after=spec.after, profile=own,
            inputs=spec.inputs, outputs=spec.outputs, role_commands=spec.role_commands,
        )  # fmt: skip
        try:
            return profile or 0, msgspec.msgpack.encode(extra)
        except UnicodeEncodeError as error:
            raise UsageError(f"task {number}: {error.object!a} is not valid UTF-8 text") from error

    def _write_profile(self, body: str) -> int:
        if body == "{}":
            return 0
        self._profile_count += 1
        cursor = self._db.raw.execute("INSERT INTO profiles(job, body) VALUES (?, ?)", (self._job, body))
        assert cursor.lastrowid is not None
        return cursor.lastrowid


def class_id(db: StoreConnection, requirement: Requirement) -> int:
    """The number of a requirement, added when it is new."""
    body = to_json(requirement, "a requirement")
    db.raw.execute("INSERT INTO classes(body) VALUES (?) ON CONFLICT DO NOTHING", (body,))
    return int(db.raw.execute("SELECT id FROM classes WHERE body = ?", (body,)).fetchone()[0])


def lane_id(db: StoreConnection, job: int, class_number: int, priority: int, avoid_host: str = "") -> int:
    """The number of a lane, added when it is new."""
    key = (job, class_number, priority, avoid_host)
    db.raw.execute(
        "INSERT INTO lanes(job, class, priority, avoid_host) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING", key
    )
    found = db.raw.execute(
        "SELECT id FROM lanes WHERE job = ? AND class = ? AND priority = ? AND avoid_host = ?", key
    ).fetchone()
    return int(found[0])
