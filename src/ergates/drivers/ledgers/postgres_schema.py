"""Makes the ledger's schema in a PostgreSQL database, or brings it up to date. Two that start at once do it once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ergates.drivers.ledgers.migrations import due, migrations
from ergates.errors import StoreError

if TYPE_CHECKING:
    import psycopg

SERVER_MIN = 120000
"""PostgreSQL 12, as the server numbers itself."""
LOCK = 0x4552474C
"""`ERGL`: the advisory lock that whoever migrates holds."""


def prepare_schema(connection: psycopg.Connection[tuple[Any, ...]], place: str) -> None:
    """Create or migrate; nothing is written, and no right to write is needed, when all is there.

    Args:
        connection: in autocommit mode.
        place: of the ledger, for messages.

    Raises:
        StoreError: the server is too old, or the ledger is of a newer Ergates.
    """
    if connection.info.server_version < SERVER_MIN:
        found = connection.info.parameter_status("server_version")
        raise StoreError(f"{place}: PostgreSQL {found} is too old: the ledger needs 12 or newer")
    steps = migrations("postgres")
    if not due(steps, _version(connection), place):
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        if connection.execute("SELECT to_regnamespace('ergates')").fetchone() == (None,):
            connection.execute("CREATE SCHEMA ergates")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS ergates.schema_version (version integer PRIMARY KEY, name text NOT NULL,"
            " applied timestamptz NOT NULL DEFAULT now())"
        )
        for step in due(steps, _version(connection), place):  # another process may have come first while we waited
            connection.execute(step.sql.encode())
            connection.execute(
                "INSERT INTO ergates.schema_version (version, name) VALUES (%s, %s)", (step.version, step.name)
            )


def _version(connection: psycopg.Connection[tuple[Any, ...]]) -> int:
    if connection.execute("SELECT to_regclass('ergates.schema_version')").fetchone() == (None,):
        return 0
    found = connection.execute("SELECT coalesce(max(version), 0) FROM ergates.schema_version").fetchone()
    return int(found[0]) if found else 0
