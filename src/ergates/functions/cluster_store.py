"""The store that carries calls to a cluster's workers, and what may be carried.

Functions, arguments and results are pickles, and whoever can write a pickle can run code: so the store must ask for a password, a
certificate, or be a socket that only its owner can open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ergates.drivers.stores.open_cluster import open_cluster_store
from ergates.drivers.stores.redis.store import RedisStore
from ergates.drivers.stores.store_file import store_address
from ergates.drivers.stores.trust import is_guarded
from ergates.errors import UsageError
from ergates.functions.errors import CallNotSentError
from ergates.functions.serialise import dump_function, name_of
from ergates.units import format_bytes

FUNCTION_BYTES_MAX = 16 * 1024
"""Travels with each call, packed together with its neighbours'."""


def open_trusted_store(named: str) -> RedisStore:
    """Open the store that a URL or a store file names.

    Raises:
        UsageError: it cannot be read, or lets everybody in.
        StoreError: the store cannot be reached.
    """
    address = store_address(named, origin="store=")
    open_to_all = UsageError(
        f"store={address}: functions and results are pickles, so only a store with a password will do\n"
        "  hint: `erg store up` makes one; name its file, .ergates/store.toml"
    )
    if not address.authenticated:
        raise open_to_all
    store = open_cluster_store(address)
    if not is_guarded(address):
        store.close()
        raise open_to_all
    return store


def carried_function(function: Callable[..., Any]) -> bytes:
    """What goes along with each call.

    Raises:
        CallNotSentError: it cannot be pickled, or holds too much.
    """
    data = dump_function(function)
    if len(data) > FUNCTION_BYTES_MAX:
        raise CallNotSentError(
            f"{name_of(function)} holds {format_bytes(len(data))}; on a cluster at most {format_bytes(FUNCTION_BYTES_MAX)}"
            " go along\n  hint: read large data inside the function, from a file that every node sees"
        )
    return data
