"""Opens the cluster's store for commands that are about a cluster only, and closes it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ergates.cli.opened import named_store
from ergates.errors import UsageError

if TYPE_CHECKING:
    from ergates.drivers.stores.redis.store import RedisStore


@contextmanager
def opened_cluster() -> Iterator[RedisStore]:
    """The store that `--store`, ERGATES_STORE or the configuration names.

    Raises:
        UsageError: none is named.
        StoreError: it cannot be reached, or does not let us in.
    """
    address = named_store()
    if address is None:
        raise UsageError(
            "workers serve a cluster's store, and none is named"
            "\n  hint: --store URL|FILE or ERGATES_STORE; `erg store up` makes one; `erg run` works here without any"
        )
    from ergates.drivers.stores.open_cluster import open_cluster_store

    store = open_cluster_store(address)
    try:
        yield store
    finally:
        store.close()
