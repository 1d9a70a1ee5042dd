"""What PostgreSQL's errors mean, in words and in kinds: away for now, full, or something a person has to mend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ergates.drivers.ledgers.address import PASSWORD_HINT, LedgerAddress
from ergates.errors import ErgatesError, StoreError, StoreFullError, StoreUnavailableError

if TYPE_CHECKING:
    import psycopg

_FULL = frozenset({"53100"})
_AWAY_CLASSES = ("08", "57", "40", "53", "55")
"""Connection lost, operator intervention, conflict with another transaction, out of something else than disk, lock not got."""
_READ_ONLY = "25006"
_NO_RIGHT = "42501"
_GONE = frozenset({"42P01", "3F000", "42703"})
"""No such table, schema or column."""


def in_words(error: psycopg.Error, address: LedgerAddress) -> ErgatesError:
    """Our error for one of PostgreSQL's."""
    state = error.sqlstate or ""
    said = _said(error)
    if state in _FULL:
        return StoreFullError(f"{address}: the disk of the database server is full ({said}). Nothing was changed")
    if state == _READ_ONLY:
        return StoreUnavailableError(
            f"{address}: the server takes no writes now ({said}).\n"
            "  hint: with several servers name all of them and add ?target_session_attrs=read-write"
        )
    if state == _NO_RIGHT:
        user = dict(address.server).get("user", "you")
        return StoreError(
            f"{address}: the user may not do that ({said}).\n"
            f"  hint: the owner of the database makes the place with CREATE SCHEMA ergates AUTHORIZATION {user};"
            " who only reads needs GRANT USAGE ON SCHEMA ergates and GRANT SELECT ON ALL TABLES IN SCHEMA ergates"
        )
    if state in _GONE:
        return StoreError(
            f"{address}: the tables of the ledger are not there any more ({said}).\n"
            "  hint: whoever starts `erg controller` anew makes them again; what they held is in a backup or lost"
        )
    if state.startswith(_AWAY_CLASSES) or (not state and _is_operational(error)):
        return StoreUnavailableError(f"{address}: the database server is away or busy: {said}")
    return StoreError(f"{address}: {type(error).__name__}: {said}")


def connecting_in_words(error: psycopg.Error, address: LedgerAddress) -> ErgatesError:
    """Our error for a connection that was not made. There are no codes yet, so the server's English is looked at.

    In another language it is the plain text with the kind of an absent server, which is tried again.
    """
    said = _said(error)
    parts = dict(address.server)
    if "password authentication failed" in said or "no password supplied" in said:
        what = "no password was given" if "no password" in said else "the server does not accept user or password"
        return StoreError(f"{address}: {what} ({said}).\n  hint: {PASSWORD_HINT}")
    if "database" in said and "does not exist" in said:
        name = parts.get("dbname", "")
        return StoreError(f"{address}: {said}\n  hint: createdb {name} on the server makes it, or name another one")
    if "role" in said and "does not exist" in said:
        return StoreError(f"{address}: {said}\n  hint: name the user in the URL: postgresql://USER@host/database")
    if "no pg_hba.conf entry" in said:
        return StoreError(f"{address}: {said}\n  hint: the server's pg_hba.conf decides who may come from where")
    if "SSL" in said and ("does not support" in said or "certificate" in said):
        return StoreError(f"{address}: {said}\n  hint: sslmode= and sslrootcert= in the URL say what TLS is expected")
    return StoreUnavailableError(
        f"{address}: the database server cannot be reached now: {said}\n  hint: start it, or check host and port"
    )


def _is_operational(error: psycopg.Error) -> bool:
    import psycopg

    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def _said(error: psycopg.Error) -> str:
    """The server's sentence on one line; `detail` holds values of rows and stays out."""
    text = error.diag.message_primary or str(error)
    return " ".join(text.split()) or type(error).__name__
