"""Opens a cluster's store: from an address to a client, a first look at the server, and the store on top.

The client does not retry by itself: what to do about a lost call is the store's decision, which knows whether a call may be
said twice. With Sentinels every new connection asks them first who the master is, so that a failover needs no restart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ergates.drivers.stores.address import StoreAddress
from ergates.drivers.stores.store_file import PEM_BEGIN
from ergates.errors import StoreError

if TYPE_CHECKING:
    import redis

    from ergates.drivers.stores.redis.board import RedisBoard
    from ergates.drivers.stores.redis.store import RedisStore

CONNECT_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 5.0
CLIENT_NAME = "erg"
ClientFactory = Callable[[], "redis.Redis"]


def open_cluster_store(address: StoreAddress, *, host: str = "") -> RedisStore:
    """The store at an address, after a look at whether it is one we can use.

    Args:
        address: of the store.
        host: name of this host, as workers give it; by default the kernel's.

    Raises:
        StoreUnavailableError: it cannot be reached now.
        StoreError: what answers there cannot be our store, or does not let us in.
    """
    from ergates.drivers.stores.first_contact import check_server

    factory = client_factory(address)
    client = factory()
    try:
        check_server(client, address)
    finally:
        client.close()
    from ergates.drivers.stores.redis.store import RedisStore

    return RedisStore(factory, queue=address.queue, host=host)


def open_board(named: str, *, origin: str) -> RedisBoard:
    """The board of the store that a store file or a URL names; it connects when it is first used.

    Raises:
        UsageError: it cannot be read.
        StoreError: the client library is not installed.
    """
    from ergates.drivers.stores.store_file import store_address

    address = store_address(named, origin=origin, in_argument=False)
    factory = client_factory(address)
    from ergates.drivers.stores.redis.board import RedisBoard

    return RedisBoard(factory, address.queue)


def need_client_library(what: str) -> None:
    """Raises StoreError when the library is not installed, before anything is begun that needs it."""
    try:
        import redis  # noqa: F401
    except ImportError as error:
        raise StoreError(
            f"{what}: the client library for Redis is not installed here ({error.name})"
            "\n  hint: pip install 'ergates[cluster]'; in a clone .venv/bin/pip install -r requirements/cluster.txt"
        ) from error


def client_factory(address: StoreAddress) -> ClientFactory:
    """What makes clients for an address. A client has connections of its own; it connects when it is first used.

    Raises:
        StoreError: the library is not installed.
    """
    need_client_library(str(address))
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": READ_TIMEOUT_S,
        "socket_keepalive": True,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
        "client_name": CLIENT_NAME,
        "decode_responses": False,
    }
    login: dict[str, Any] = {
        "username": address.username or None,
        "password": address.password or None,
        "db": address.db,
    }
    if address.socket:
        local = {name: value for name, value in options.items() if name != "socket_keepalive"}
        return lambda: redis.Redis(unix_socket_path=address.socket, **login, **local)
    options |= _tls(address)
    if not address.service:
        ((host, port),) = address.hosts
        return lambda: redis.Redis(host=host, port=port, **login, **options)

    def master() -> redis.Redis:
        import redis.sentinel

        asked = {
            **options,
            "username": address.sentinel_username or None,
            "password": address.sentinel_password or None,
        }
        sentinels: Any = redis.sentinel
        client: redis.Redis = sentinels.Sentinel(address.hosts, sentinel_kwargs=asked).master_for(
            address.service, **login, **options
        )
        return client

    return master


def _tls(address: StoreAddress) -> dict[str, Any]:
    if not address.tls:
        return {}
    options: dict[str, Any] = {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True}
    if address.ca:
        options["ssl_ca_data" if address.ca.startswith(PEM_BEGIN) else "ssl_ca_certs"] = address.ca
    if address.cert:
        options |= {"ssl_certfile": address.cert, "ssl_keyfile": address.key or address.cert}
    return options
