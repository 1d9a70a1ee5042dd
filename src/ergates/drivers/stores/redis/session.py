"""What all calls of one store object share: the queue's keys, the threads' connections, time, and what never changes once it was
read (resource classes, chunks of commands).

Time. With `server_time` the server's own clock decides about beats and delays, and a moment on a caller's clock is converted
by the difference the call itself shows: an hour of skew on a node harms nothing. Without it callers' clocks count, and the
store's time is the highest any of them brought (as the embedded store has it).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import redis

from ergates.clock import SystemClock
from ergates.cluster.task import Requirement, TaskSpec
from ergates.drivers.stores.redis.chunks import CHUNK_TASKS, ChunkCache, decode_part, decode_specs, parts_of, place_of
from ergates.drivers.stores.redis.connection import RedisConnection
from ergates.drivers.stores.redis.names import job_name, to_json, unknown_job
from ergates.drivers.stores.redis.scripts import LAYOUT, script
from ergates.errors import StoreUnavailableError
from ergates.taskqueue.gang_roles import check_roles
from ergates.units import Nanoseconds

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class _Mine(threading.local):
    """One thread's connection and the chunks it keeps."""

    connection: RedisConnection | None = None
    cache: ChunkCache


class Session:
    """Args: see RedisStore."""

    def __init__(
        self, factory: Callable[[], redis.Redis], queue: str, lease_ns: int, *, server_time: bool = True
    ) -> None:
        self.queue = queue
        self.prefix = f"{{erg:{queue}}}:"
        self.lease_us = lease_ns // 1000
        self._factory = factory
        self._server_time = server_time
        self._ahead_us: int | None = None if server_time else 0
        self._meta = self.prefix + "meta"
        self._mine = _Mine()
        self._opened: list[RedisConnection] = []
        self._lock = threading.Lock()
        self._class_ids: dict[Requirement, int] = {}
        self._classes: dict[int, Requirement] = {}

    # --- calls ------------------------------------------------------------------------------------

    def connection(self) -> RedisConnection:
        """The calling thread's."""
        found = self._mine.connection
        if found is None:
            found = self.another_connection()
            self._mine.connection, self._mine.cache = found, ChunkCache()
        return found

    def another_connection(self) -> RedisConnection:
        """One for a thread that waits; closed with the others."""
        made = RedisConnection(self._factory, self.queue)
        with self._lock:
            self._opened.append(made)
        return made

    def close(self) -> None:
        """No call may be under way."""
        with self._lock:
            for connection in self._opened:
                connection.close()
            self._opened.clear()
            self._mine = _Mine()

    def run(self, name: str, request: Any, now_ns: int = 0, blobs: Sequence[bytes] = (), run_id: str = "") -> list[Any]:
        """Call a script; returns its answers. `now_ns` is the caller's clock, 0 where a call brings no time; `run_id`
        the server process that must answer, where it matters: the connection was opened just before then.

        Raises:
            StoreUnavailableError: whether it was carried out is not known.
            StoreFullError, StoreError: it was not.
        """
        connection = self.connection()
        if not run_id or not connection.is_open:
            connection.open()
        if run_id and connection.run_id != run_id:
            raise StoreUnavailableError(f"{connection.where}: the server was restarted just now")
        ahead = False if self._server_time else self._ahead_us
        head = (LAYOUT, connection.run_id, now_ns // 1000, ahead, self.lease_us, request, str(now_ns))
        answer: list[Any] = connection.run(script(name), self._meta, _encode(head), *blobs)
        if now_ns:
            self._ahead_us = _decode(answer[0])
        return answer[1:]

    def key(self, job: int, name: str = "") -> str:
        return f"{self.prefix}j:{job}:{name}" if name else f"{self.prefix}j:{job}"

    # --- time -------------------------------------------------------------------------------------

    def to_caller_ns(self, store_us: int) -> Nanoseconds:
        """A moment of store time on the callers' clock."""
        if self._ahead_us is None:
            seconds, micros = self.connection().command("TIME")
            self._ahead_us = int(seconds) * 1_000_000 + int(micros) - SystemClock().now_ns() // 1000
        return Nanoseconds((store_us - self._ahead_us) * 1000)

    # --- classes ----------------------------------------------------------------------------------

    def class_id(self, requirement: Requirement) -> int:
        return self.class_ids([requirement])[0]

    def class_ids(self, requirements: Sequence[Requirement]) -> list[int]:
        """The numbers of requirements, new ones are added. Raises UsageError: roles that could never be filled."""
        missing = [need for need in requirements if need not in self._class_ids]
        for need in missing:
            check_roles(need)
        for start in range(0, len(missing), 1000):
            some = missing[start : start + 1000]
            (answer,) = self.run("classes", [to_json(need, "a requirement") for need in some])
            for need, number in zip(some, _decode(answer), strict=True):
                self._class_ids[need] = number
        return [self._class_ids[need] for need in requirements]

    def requirements(self, numbers: Iterable[int]) -> dict[int, Requirement]:
        """All classes met so far, these among them."""
        missing = [number for number in numbers if number not in self._classes]
        if missing:
            missing = sorted(set(missing))
            bodies = self.connection().command("HMGET", self.prefix + "class", *missing)
            for number, body in zip(missing, bodies, strict=True):
                self._classes[number] = msgspec.json.decode(body, type=Requirement)
        return self._classes

    # --- commands ---------------------------------------------------------------------------------

    def specs_in_a_row(self, job: int, uid: str, first: int, size: int, *, edited: bool) -> Sequence[TaskSpec]:
        """Like `specs`, for tasks that follow one another; at once when they are in one chunk that was met before."""
        mine = self._mine
        if not edited and mine.connection is not None:
            number, place = divmod(first - 1, CHUNK_TASKS)
            kept = mine.cache.get(uid, str(number))
            if type(kept) is list and place + size <= len(kept):
                return kept[place : place + size]
        return list(self.specs(job, uid, range(first, first + size), edited=edited).values())

    def specs(self, job: int, uid: str, tasks: Sequence[int], *, edited: bool) -> dict[int, TaskSpec]:
        """What was submitted as these tasks (ascending), or what it was changed to."""
        fields = {task: str(place_of(task)[0]) for task in tasks}
        found = self._chunks(job, uid, set(fields.values()))
        places = {}
        for task, field in fields.items():
            place, start = place_of(task)[1], 0
            starts = found[field]
            if isinstance(starts, tuple):
                start = max(start for start in starts if start <= place)
                field = f"{field}.{start}"
            places[task] = field, place - start
        found |= self._chunks(job, uid, {field for field, _ in places.values() if field not in found})
        if any(place >= len(found[field]) for field, place in places.values()):
            self._mine.cache.forget(uid)  # the job was extended since: its last chunk has grown
            return self.specs(job, uid, tasks, edited=edited)
        specs = {task: found[field][place] for task, (field, place) in places.items()}
        if edited and tasks:
            changed = self.connection().command("HMGET", self.key(job, "edits"), *tasks)
            specs |= {
                task: decode_specs(body)[0] for task, body in zip(tasks, changed, strict=True) if body is not None
            }
        return specs

    def _chunks(self, job: int, uid: str, fields: set[str]) -> dict[str, Any]:
        connection, cache = self.connection(), self._mine.cache
        found: dict[str, Any] = {field: cache.get(uid, field) for field in fields}
        missing = sorted(field for field, value in found.items() if value is None)
        if missing:
            values = connection.command("HMGET", self.key(job, "spec"), *missing)
            for field, value in zip(missing, values, strict=True):
                if value is None:  # it was there a moment ago: somebody made the store forget it
                    raise unknown_job(job_name(job))
                starts = parts_of(value)
                found[field] = decode_part(value) if starts is None else tuple(starts)
                cache.put(uid, field, found[field])
        return found
