"""What Redis' errors mean, in words, once. The first look at a server says more (drivers/stores/first_contact.py)."""

from __future__ import annotations

from redis import exceptions as said

from ergates.drivers.stores.redis.scripts import LAYOUT
from ergates.errors import ErgatesError, StoreError, StoreFullError, StoreUnavailableError


def in_words(error: BaseException, where: str) -> ErgatesError:
    """Our error for one of the client library's or of the system's."""
    text = " ".join(str(error).split())
    match error:
        case said.AuthenticationError() | said.AuthenticationWrongNumberOfArgsError():
            return StoreError(
                f"{where}: the server does not let us in: {text}"
                "\n  hint: give the password by ERGATES_STORE_PASSWORD_FILE, ERGATES_STORE_PASSWORD or a store file"
            )
        case said.NoPermissionError():
            return StoreError(
                f"{where}: this user may not do what the store needs: {text}"
                "\n  hint: ACL SETUSER NAME on ~{erg:* +@all -@admin -@dangerous +info"
            )
        case said.OutOfMemoryError():
            return StoreFullError(
                f"{where}: the server has no memory left for this. Nothing was changed"
                "\n  hint: raise its maxmemory, or let `erg controller` drain what has ended into the ledger"
            )
        case said.BusyLoadingError() | said.ReadOnlyError() | said.TryAgainError() | said.MasterDownError():
            return StoreUnavailableError(f"{where}: the server is not ready: {text}")
        case said.ConnectionError() | said.TimeoutError() | OSError():
            return StoreUnavailableError(f"{where}: the server cannot be reached: {text}")
        case said.ResponseError():
            return _answered(text, where)
    return StoreError(f"{where}: {text}")


def _answered(text: str, where: str) -> ErgatesError:
    code, _, rest = text.partition(" ")
    if code == "ERGLAYOUT":
        older = rest.isdecimal() and int(rest) < LAYOUT
        side = "another queue, or the version of Ergates that made it" if older else "a newer Ergates on this machine"
        return StoreError(
            f"{where}: the store's layout is version {rest}, this Ergates reads version {LAYOUT}"
            f"\n  hint: it takes {side}; all workers of a queue need the same"
        )
    if code == "NOPERM":
        return in_words(said.NoPermissionError(rest), where)
    if code in ("NOAUTH", "WRONGPASS"):
        return in_words(said.AuthenticationError(rest), where)
    if code == "MISCONF" or "No space left" in text:
        return StoreFullError(
            f"{where}: the server cannot write to its disk. Nothing was changed\n  hint: free some space there ({rest})"
        )
    if code == "OOM" or " OOM " in text:
        return in_words(said.OutOfMemoryError(text), where)
    if code in ("BUSY", "LOADING", "MASTERDOWN", "READONLY", "UNKILLABLE", "TRYAGAIN"):
        return StoreUnavailableError(f"{where}: the server is not ready: {text}")
    return StoreError(f"{where}: {text}")


def too_old(version: str, where: str) -> StoreError:
    return StoreError(
        f"{where}: the server is version {version}\n  expected: Redis 7 or newer, or Valkey"
        "\n  hint: `erg store up` starts a private one where a newer one is installed"
    )
