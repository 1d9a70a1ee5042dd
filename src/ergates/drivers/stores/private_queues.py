"""What lives in a server: its queues with their jobs and workers, and how the server itself fares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from ergates.drivers.stores.address import StoreAddress
from ergates.drivers.stores.first_contact import check_server, explained
from ergates.drivers.stores.open_cluster import ClientFactory, client_factory

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX, _SUFFIX = "{erg:", "}:meta"


class QueueFacts(Struct, frozen=True, kw_only=True):
    """One queue: jobs, the tasks that wait (ready, delayed or blocked) and those that are leased, live workers."""

    queue: str
    jobs: int
    waiting: int
    leased: int
    workers: int


class ServerFacts(Struct, frozen=True, kw_only=True):
    """How a server fares.

    Args:
        version: of Redis, or of Valkey.
        up_s: seconds since it started.
        memory_bytes, memory_bytes_max: in use, and allowed (0: no limit).
        durable: whether what it is told survives a restart: its log is on and its last write went well.
        log_bytes: size of that log.
        loses: in words, what may be lost.
        clients: connections.
        queues: those we may see.
    """

    version: str
    up_s: int
    memory_bytes: int
    memory_bytes_max: int
    durable: bool
    log_bytes: int
    loses: str
    clients: int
    queues: tuple[QueueFacts, ...]


def server_facts(address: StoreAddress, *, all_queues: bool) -> ServerFacts:
    """Ask the server.

    Args:
        address: how to get in.
        all_queues: look for every queue there (a user with the right to SCAN), else only the address's.

    Raises:
        StoreUnavailableError, StoreError: it cannot be reached, or is no store of ours.
    """
    from redis.exceptions import RedisError

    factory = client_factory(address)
    client = factory()
    try:
        info = check_server(client, address)
        names = sorted(_queue_names(client)) if all_queues else [address.queue]
    except RedisError as error:
        raise explained(error, address) from error
    finally:
        client.close()
    durable, loses = _durability(info)
    return ServerFacts(
        version=version_of(info),
        up_s=info["uptime_in_seconds"],
        memory_bytes=info["used_memory"],
        memory_bytes_max=info["maxmemory"],
        durable=durable,
        log_bytes=info.get("aof_current_size", 0),
        loses=loses,
        clients=info["connected_clients"],
        queues=tuple(_queue_facts(factory, name) for name in names),
    )


def version_of(info: Mapping[str, Any]) -> str:
    """Of what INFO says: `Redis 7.0.15`, `Valkey 8.1.1`."""
    return f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"


def _durability(info: Mapping[str, Any]) -> tuple[bool, str]:
    if not info["aof_enabled"]:
        return False, "everything since its last snapshot: its log is off (CONFIG SET appendonly yes)"
    if info["aof_last_write_status"] != "ok":
        return False, "what comes now: it cannot write its log (is the disk full?)"
    return True, "at most the last second, when the machine fails"


def _queue_names(client: Any) -> set[str]:
    found = (key.decode() for key in client.scan_iter(match=f"{_PREFIX}*{_SUFFIX}", count=1000))
    return {key.removeprefix(_PREFIX).removesuffix(_SUFFIX) for key in found}


def _queue_facts(factory: ClientFactory, queue: str) -> QueueFacts:
    from ergates.drivers.stores.redis.store import RedisStore

    store = RedisStore(factory, queue=queue)
    try:
        jobs = store.jobs()
        workers = sum(worker.standing == "live" for worker in store.workers())
    finally:
        store.close()
    return QueueFacts(
        queue=queue,
        jobs=len(jobs),
        waiting=sum(job.counts.get(state, 0) for job in jobs for state in ("ready", "delayed", "blocked")),
        leased=sum(job.counts.get("leased", 0) for job in jobs),
        workers=workers,
    )
