"""`--ledger`: which ledger a command works on. ERGATES_LEDGER may hold a password, argument and configuration must not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from ergates.errors import UsageError

if TYPE_CHECKING:
    from ergates.drivers.ledgers.address import LedgerAddress


@dataclass(frozen=True, slots=True)
class NamedLedger:
    """What was said, and where. It is read only when it is needed, for that imports PostgreSQL's client."""

    text: str
    origin: str
    from_environment: bool

    def address(self) -> LedgerAddress:
        """Raises UsageError: it cannot be read, or it holds a password where others see it."""
        from ergates.drivers.ledgers.address import ledger_address

        return ledger_address(self.text, origin=self.origin, in_argument=not self.from_environment)

    def to_read(self) -> LedgerAddress | None:
        """The same for a command that only looks, which makes no file. None: the environment's has not been made yet.

        Raises:
            UsageError: as `address`; or the file that was named in an argument is not there.
        """
        address = self.address()
        if address.path is None or address.path.exists():
            return address
        if self.from_environment:
            return None
        raise UsageError(
            f"{self.origin} {self.text}: there is no ledger\n  hint: `erg controller --ledger FILE` makes one"
        )

    def __repr__(self) -> str:
        return f"NamedLedger({self.origin})"  # the text may hold a password


def _named(ctx: click.Context, param: click.Parameter, value: str | None) -> NamedLedger | None:
    from click.core import ParameterSource

    if value is None:
        return None
    source = ctx.get_parameter_source(param.name or "")
    origins = {
        ParameterSource.ENVIRONMENT: "ERGATES_LEDGER",
        ParameterSource.DEFAULT_MAP: "ledger in the configuration",
    }
    origin = "--ledger" if source is None else origins.get(source, "--ledger")
    return NamedLedger(value, origin, from_environment=source is ParameterSource.ENVIRONMENT)


ledger_option = click.option(
    "--ledger",
    metavar="URL|FILE",
    envvar="ERGATES_LEDGER",
    callback=_named,
    help="The ledger: postgresql://[USER@]HOST[:PORT]/DATABASE, or an SQLite file."
    " Password: ERGATES_LEDGER_PASSWORD or ~/.pgpass.",
)
