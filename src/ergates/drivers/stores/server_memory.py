"""How much memory a store's server uses, as it says itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ergates.drivers.stores.address import StoreAddress
from ergates.drivers.stores.first_contact import explained
from ergates.drivers.stores.open_cluster import client_factory

if TYPE_CHECKING:
    import redis


class ServerMemory:
    """Has a connection of its own, which it opens when it is first asked."""

    def __init__(self, address: StoreAddress) -> None:
        self._address, self._make = address, client_factory(address)
        self._client: redis.Redis | None = None

    def read(self) -> tuple[int, int]:
        """(used, limit) bytes; a limit of 0 is none.

        Raises:
            StoreError: it does not answer.
        """
        from redis.exceptions import RedisError

        if self._client is None:
            self._client = self._make()
        try:
            info = self._client.info("memory")
        except (RedisError, OSError) as error:
            raise explained(error, self._address) from error
        return int(info["used_memory"]), int(info["maxmemory"])

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None:
            self._client.close()
            self._client = None
