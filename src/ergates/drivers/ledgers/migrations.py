"""The numbered SQL files that bring a ledger's schema from one version to the next, and which of them are due.

`0001_jobs_and_attempts.sql` makes version 1 out of nothing. A file that was released is never changed again: what comes
later is a new file.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from ergates.errors import StoreError

Dialect = Literal["postgres", "sqlite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One step: after `sql` was run the schema has this `version`."""

    version: int
    name: str
    sql: str


def migrations(dialect: Dialect) -> tuple[Migration, ...]:
    """All steps of one kind of ledger, in order."""
    folder = files("ergates.drivers.ledgers").joinpath("schema", dialect)
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".sql")), key=lambda entry: entry.name)
    steps = tuple(
        Migration(version=int(entry.name[:4]), name=entry.name, sql=entry.read_text(encoding="utf-8"))
        for entry in found
    )
    assert [step.version for step in steps] == list(range(1, len(steps) + 1)), "a gap between the numbers of migrations"
    return steps


def due(steps: tuple[Migration, ...], version: int, place: str) -> tuple[Migration, ...]:
    """The steps that are missing at `version` (0: an empty database).

    Raises:
        StoreError: the ledger is of a newer Ergates.
    """
    newest = steps[-1].version
    if version > newest:
        raise StoreError(
            f"{place}: this ledger was written by a newer Ergates (schema {version}, this one knows up to {newest})."
            "\n  hint: update ergates here, or name another ledger with --ledger or ERGATES_LEDGER"
        )
    return steps[version:]
