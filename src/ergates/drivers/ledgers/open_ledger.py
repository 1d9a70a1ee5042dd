"""Opens a ledger: from an address to something that can be written, read and summed."""

from __future__ import annotations

from typing import Protocol

from ergates.drivers.ledgers.address import LedgerAddress
from ergates.taskqueue.ledger import Ledger
from ergates.taskqueue.ledger_sums import Sums


class OpenLedger(Ledger, Sums, Protocol):
    """A ledger with all it offers. Belongs to one thread."""

    def close(self) -> None: ...


def open_ledger(address: LedgerAddress, *, wait: bool = False) -> OpenLedger:
    """The ledger at an address (`ledger_address` makes one), made or brought up to date where that is due.

    Args:
        address: where it is.
        wait: do not look whether a server answers now: the first call does, and each call tries again.

    Raises:
        StoreUnavailableError: the server cannot be reached now.
        StoreError: what is there is no ledger, a newer one, or does not let us in.
    """
    if address.path is not None:
        from ergates.drivers.ledgers.sqlite_ledger import SqliteLedger

        return SqliteLedger(address.path)
    from ergates.drivers.ledgers.postgres import PostgresLedger

    ledger = PostgresLedger(address)
    if not wait:
        ledger.connect()
    return ledger
