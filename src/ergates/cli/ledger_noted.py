"""Telling the store which ledger it is drained into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ergates.errors import ErgatesError

if TYPE_CHECKING:
    from ergates.drivers.ledgers.address import LedgerAddress
    from ergates.drivers.stores.redis.store import RedisStore


def note_ledger(store: RedisStore, ledger: LedgerAddress) -> None:
    """Best effort: a store without room, or away, is told by the next one who drains. Never a password: str() leaves it out."""
    from ergates.drivers import machine
    from ergates.drivers.stores.redis.ledger_place import LedgerPlace

    host = "" if ledger.path is None else machine.host_name()
    try:
        store.note_ledger(LedgerPlace(where=str(ledger), host=host))
    except ErgatesError:
        return
