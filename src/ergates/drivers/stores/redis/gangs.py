"""Gangs on the wire: seats, members' leases, and how members ended (lua/gangs.lua)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import islice

import msgspec
from msgspec.structs import replace

from ergates.cluster.gang import GangSeat, role_of
from ergates.cluster.task import Requirement, TaskId
from ergates.drivers.stores.redis.names import job_name
from ergates.drivers.stores.redis.session import Session
from ergates.taskqueue.store import Commit, GangEnds, MemberEnd, Seat
from ergates.units import Nanoseconds

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(MemberEnd).decode


def gang_seat(place: tuple[int, Sequence[str]], requirement: Requirement) -> GangSeat:
    """A member's place: rank and hosts as the server says them."""
    rank, hosts = place
    return GangSeat(rank=rank, size=len(hosts), role=role_of(requirement.roles, rank), hosts=tuple(hosts))


def pack_member(commit: Commit, worker: str, host: str) -> bytes:
    """How a member ended; empty where it was not tried. `worker` and `host` are those of who commits."""
    if commit.attempt is None:
        return b""
    attempt = replace(commit.attempt, worker=commit.attempt.worker or worker, host=commit.attempt.host or host)
    return zlib.compress(_encode(MemberEnd(attempt=attempt, verdict=commit.verdict, kept=commit.kept)), 1)


def gang_ends_of(rows: Sequence[tuple[int, int, int, int | bool, int]], blobs: Sequence[bytes]) -> tuple[GangEnds, ...]:
    """Gangs whose members have all ended; `blobs` are their ends, one gang after the other."""
    ends = iter(blobs)
    return tuple(
        GangEnds(
            job=job_name(job),
            task=TaskId(task),
            fence=fence,
            cause=None if cause is False else int(cause),
            ends=tuple(_decode(zlib.decompress(blob)) if blob else None for blob in islice(ends, size)),
        )
        for job, task, fence, cause, size in rows
    )


def seat_of(row: tuple[int, int, int, int, int, int] | bool) -> Seat | None:
    """The seat a worker has, as the server says it."""
    if isinstance(row, bool):
        return None
    job, class_id, priority, taken, size, since_us = row
    return Seat(
        job=job_name(job),
        class_id=class_id,
        priority=priority,
        taken=taken,
        size=size,
        since_ns=Nanoseconds(since_us * 1000),
    )


def assembling(session: Session) -> Seat | None:
    """See Assembling."""
    connection, prefix = session.connection(), session.prefix
    lane, since = connection.command("HMGET", prefix + "assembly", "lane", "since")
    if not lane:
        return None
    job, class_id, priority = lane.split(b":")[:3]
    taken, size = connection.pipeline([["ZCARD", prefix + "seats"], ["HGET", prefix + "gangs", int(class_id)]])
    return seat_of((int(job), int(class_id), int(priority), int(taken), int(size), int(float(since))))
