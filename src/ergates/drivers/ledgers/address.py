"""Where a ledger is: a PostgreSQL database by URL, or an SQLite file.

A password never stands in an argument, where every user of the machine can read it: it comes from the environment
(ERGATES_LEDGER may hold one, ERGATES_LEDGER_PASSWORD is one), or from where PostgreSQL's own programs take it (~/.pgpass, or the
`passfile=` of the URL). Nothing here prints it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote

from ergates.errors import StoreError, UsageError

EXPECTED = "postgresql://[user@]host[:port]/database[?sslmode=...], sqlite:///path, or the path of an SQLite file"
PASSWORD_HINT = (
    "put it into ERGATES_LEDGER_PASSWORD or ~/.pgpass (rights 0600), name such a file in the URL (?passfile=/path), or put the"
    " whole URL into ERGATES_LEDGER"
)
VARIABLE = "ERGATES_LEDGER"
_SECRETS = ("password", "sslpassword")
_HIDDEN = re.compile(r"(://[^:@/]*):.*@", re.DOTALL)
"""Up to the last @, so that a password with a slash in it is not taken for a path and shown."""
_HIDDEN_IN_QUERY = re.compile(r"([?&](?:ssl)?password=)[^&]*", re.IGNORECASE)
_SERVER = ("postgresql://", "postgres://")
_NOT_SHOWN = ("user", "dbname", "host", "port", "hostaddr")


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerAddress:
    """One ledger.

    Args:
        server: libpq's parameters without a password, empty for SQLite.
        path: of the SQLite file, None for PostgreSQL.
        password: empty for none, or for one that libpq finds itself.
        ssl_password: of the client's key.
    """

    server: tuple[tuple[str, str], ...] = ()
    path: Path | None = None
    password: str = field(default="", repr=False)
    ssl_password: str = field(default="", repr=False)

    def __str__(self) -> str:
        """The same again as a URL or path, without any password."""
        if self.path is not None:
            return str(self.path)
        parts = dict(self.server)
        user = f"{parts['user']}@" if "user" in parts else ""
        hosts = parts.get("host") or parts.get("hostaddr", "")
        ports = parts.get("port", "")
        place = f"{hosts}:{ports}" if ports and "," not in hosts else hosts
        rest = "&".join(f"{name}={value}" for name, value in self.server if name not in _NOT_SHOWN)
        return f"postgresql://{user}{place}/{parts.get('dbname', '')}" + (f"?{rest}" if rest else "")


def ledger_address(
    text: str, *, origin: str = "--ledger", in_argument: bool = True, env: Mapping[str, str] | None = None
) -> LedgerAddress:
    """What a URL or the path of an SQLite file means, with the password that belongs to it.

    Args:
        text: what the user gave.
        origin: where they gave it, for messages.
        in_argument: whether others can read `text`, so that it must hold no password.
        env: the environment; None is this process's.

    Raises:
        UsageError: neither of both, or a password where others see it.
        StoreError: PostgreSQL's client library is not installed.
    """
    env = os.environ if env is None else env
    if not text:
        raise UsageError(f"{origin}: no ledger is named\n  expected: {EXPECTED}")
    if not text.startswith(_SERVER):
        return LedgerAddress(path=_path(text, origin))
    address = _server(text, origin)
    if in_argument and (address.password or address.ssl_password):
        raise UsageError(
            f"{origin} {address}: a password in an argument is seen by everybody on this machine\n  hint: {PASSWORD_HINT}"
        )
    return address if address.password else replace(address, password=env.get(f"{VARIABLE}_PASSWORD", ""))


def _path(text: str, origin: str) -> Path:
    """`sqlite:///var/x.db` and `sqlite:////var/x.db` are both /var/x.db; a relative file is named by its path alone."""
    scheme, colon, rest = text.partition("://")
    if not colon:
        return Path(text).expanduser().absolute()
    if scheme != "sqlite":
        raise UsageError(
            f"{origin} {_without_secrets(text)}: no ledger is reached by {scheme}://\n  expected: {EXPECTED}"
        )
    if not rest.startswith("/") or not rest.strip("/"):
        raise UsageError(
            f"{origin} {text}: an SQLite ledger needs an absolute path\n  expected: sqlite:///path/of/file"
        )
    return Path("/" + unquote(rest).lstrip("/"))


def _server(text: str, origin: str) -> LedgerAddress:
    import_driver()
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = {name: str(value) for name, value in conninfo_to_dict(text).items() if value is not None}
    except ProgrammingError:  # its message may quote a piece of the password
        raise _unreadable(text, origin) from None
    if "password" not in parts and _HIDDEN.search(text.partition("?")[0]):
        raise _unreadable(text, origin)  # a slash in the password: libpq takes its beginning for a port
    secrets = {name: parts.pop(name, "") for name in _SECRETS}
    return LedgerAddress(server=tuple(parts.items()), password=secrets["password"], ssl_password=secrets["sslpassword"])


def _unreadable(text: str, origin: str) -> UsageError:
    return UsageError(
        f"{origin} {_without_secrets(text)}: PostgreSQL cannot read this URL\n  expected: {EXPECTED}"
        "\n  hint: in a name or password the characters : / ? # [ ] @ % are written as %3A and so on"
    )


def _without_secrets(text: str) -> str:
    return _HIDDEN_IN_QUERY.sub(r"\1...", _HIDDEN.sub(r"\1@", text))


def import_driver() -> None:
    """Import PostgreSQL's client. Raises StoreError with what to do where it is missing."""
    try:
        import psycopg  # noqa: F401 - takes 100 ms, so only who has such a ledger pays for it
    except ImportError as error:
        raise StoreError(
            f"a ledger in PostgreSQL: its client library is not installed here ({error.name or error})"
            "\n  hint: pip install 'ergates[cluster]', or keep the ledger in an SQLite file: --ledger ledger.db"
        ) from error
