"""Where the attempts of this queue were drained to: noted by whoever drains, for people on machines that were not told of it.

Only an address, never a password: everybody who gets into the store reads it.
"""

from __future__ import annotations

import msgspec

from ergates.drivers.stores.redis.names import to_json
from ergates.drivers.stores.redis.session import Session

FIELD = "ledger"
"""Of the queue's hash of facts."""


class LedgerPlace(msgspec.Struct, frozen=True, kw_only=True):
    """`where` is a URL without a password, or the path of a file on `host`, which is empty for a server."""

    where: str
    host: str = ""

    def __str__(self) -> str:
        return f"{self.where} on {self.host}" if self.host else self.where


def note(session: Session, place: LedgerPlace) -> None:
    """The last one to drain is the one that is remembered."""
    session.connection().command("HSET", session.prefix + "meta", FIELD, to_json(place, "the ledger's address"))


def noted(session: Session) -> LedgerPlace | None:
    """None: nobody ever drained this queue into a ledger."""
    text = session.connection().command("HGET", session.prefix + "meta", FIELD)
    return None if text is None else msgspec.json.decode(text, type=LedgerPlace)
