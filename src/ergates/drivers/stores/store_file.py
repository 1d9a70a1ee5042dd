"""The store file: where a store is and what it takes to get in, readable by its owner alone.

```toml
url = "rediss://node1:41234"
username = "erg"
password = "..."
ca = "store/tls/server.crt"     # beside this file; or the certificate itself
queue = "default"
```
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ergates.drivers.stores.address import EXPECTED, PASSWORD_HINT, StoreAddress, checked_queue, parse_url
from ergates.drivers.whole_file import PRIVATE, write_whole
from ergates.errors import InputError, UsageError

PEM_BEGIN = "-----BEGIN"
_FIELDS = (
    "url", "username", "password", "ca", "cert", "key", "queue", "sentinel_username", "sentinel_password",
)  # fmt: skip


def store_address(
    text: str, *, origin: str = "--store", in_argument: bool = True, env: Mapping[str, str] | None = None
) -> StoreAddress:
    """What a URL or the path of a store file means, with the password that belongs to it.

    Args:
        text: what the user gave.
        origin: where they gave it, for messages.
        in_argument: whether others can read `text`, so that it must hold no password.
        env: the environment; None is this process's.

    Raises:
        UsageError: neither a URL nor a store file, a password where others see it, a file others can read.
    """
    env = os.environ if env is None else env
    if "://" in text:
        address = parse_url(text, origin=origin, may_hold_password=not in_argument)
    else:
        address = read_store_file(text, origin=origin)
    return address if address.password else replace(address, password=environment_password(env))


def read_store_file(path: str | Path, *, origin: str = "--store") -> StoreAddress:
    """Read one.

    Raises:
        UsageError: there is none, others can read it, or it is not what it should be.
    """
    path = Path(path).expanduser()
    fields = _parsed(str(path), _read_private(path, what="store file", origin=origin))
    if "url" not in fields:
        raise InputError("it names no url", source=str(path), expected='url = "redis://host:port"')
    address = parse_url(fields.pop("url"), origin=f"{path}: url", may_hold_password=True)
    folder = path.absolute().parent
    for name in ("ca", "cert", "key"):
        value = fields.get(name, "")
        if value and not value.startswith(PEM_BEGIN):
            fields[name] = str(folder / Path(value).expanduser())
            if not os.access(fields[name], os.R_OK):
                raise InputError(f"{name}: {fields[name]}: no such file, or no right to read it", source=str(path))
    if "queue" in fields:
        checked_queue(fields["queue"], str(path))
    return replace(address, origin=str(path), file=str(path.absolute()), **fields)  # type: ignore[arg-type]  # all of them are text


def store_file_text(address: StoreAddress) -> str:
    """The address as a store file; a CA file is put into it, so that it can be carried to another machine.

    Raises:
        UsageError: the CA file cannot be read.
    """
    ca = address.ca
    if ca and not ca.startswith(PEM_BEGIN):
        try:
            ca = Path(ca).read_text()
        except OSError as error:
            raise UsageError(f"{ca}: {error.strerror}\n  expected: the certificate of {address}") from error
    bare = replace(address, username="", queue="default")
    named = {"url": bare.url, "username": address.username, "password": address.password, "ca": ca}
    named |= {"cert": address.cert, "key": address.key, "queue": address.queue}
    named |= {"sentinel_username": address.sentinel_username, "sentinel_password": address.sentinel_password}
    return "".join(f"{name} = {_quoted(value)}\n" for name, value in named.items() if value)


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read, at once or not at all."""
    write_whole(path, text.encode(), mode=PRIVATE)


def environment_password(env: Mapping[str, str]) -> str:
    """ERGATES_STORE_PASSWORD, else the first line of the file that ERGATES_STORE_PASSWORD_FILE names; empty for none.

    Raises:
        UsageError: that file is missing, or others can read it.
    """
    if env.get("ERGATES_STORE_PASSWORD"):
        return env["ERGATES_STORE_PASSWORD"]
    name = env.get("ERGATES_STORE_PASSWORD_FILE")
    if not name:
        return ""
    return _read_private(Path(name).expanduser(), what="password file", origin="ERGATES_STORE_PASSWORD_FILE").split(
        "\n"
    )[0]


def _read_private(path: Path, *, what: str, origin: str) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & 0o077:
                raise UsageError(
                    f"{path}: others can read this {what} (rights {mode & 0o777:04o})\n  hint: chmod 600 {path}"
                )
            return file.read(1 << 20).decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: this {what} is not UTF-8 text") from None
    except OSError as error:
        expected = f"\n  expected: {EXPECTED}" if what == "store file" else f"\n  hint: {PASSWORD_HINT}"
        hint = "\n  hint: `erg store up` writes .ergates/store.toml" if what == "store file" else ""
        raise UsageError(f"{origin} {path}: {error.strerror}{expected}{hint}") from error


def _parsed(source: str, text: str) -> dict[str, str]:
    import tomllib

    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # its message holds a place, never the text
        raise InputError(str(error), source=source, expected='TOML: url = "redis://host:port"') from None
    for name, value in found.items():
        if name not in _FIELDS:
            raise InputError(f"a store file has no {name!r}", source=source, expected=", ".join(_FIELDS))
        if not isinstance(value, str):
            raise InputError(f"{name} is not text", source=source, expected=f'{name} = "..."')
    return found


def _quoted(value: str) -> str:
    """A TOML string: as JSON writes it, but for the one control character that JSON leaves alone."""
    import json

    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
