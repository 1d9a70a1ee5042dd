"""Where a cluster's store is: a URL, or a store file that holds a URL and its secrets.

A password never stands in an argument, where every user of the machine can read it: it comes from a store file that only its
owner can read (`erg store up` writes one), from the environment, or from a password file. Nothing here prints it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from ergates.errors import UsageError

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
DEFAULT_QUEUE = "default"
EXPECTED = (
    "redis://[user@]host[:port][/db][?queue=NAME], rediss:// for TLS, unix:///path.sock,"
    " redis+sentinel://host1,host2/service, or a store file such as .ergates/store.toml"
)
PASSWORD_HINT = (
    "put it into ERGATES_STORE_PASSWORD, into a file named by ERGATES_STORE_PASSWORD_FILE, or into a store file"
    ' (password = "...", rights 0600) that --store names'
)
_SCHEMES = {
    "redis": (False, False),
    "rediss": (True, False),
    "unix": (False, False),
    "redis+sentinel": (False, True),
    "rediss+sentinel": (True, True),
}
"""Scheme: (TLS, Sentinel)."""
_QUEUE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PASSWORD = re.compile(r"(://[^:@/]*):.*@", re.DOTALL)
"""Up to the last @, so that a password with a slash in it is not taken for a path and shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreAddress:
    """One queue in one Redis or Valkey.

    Args:
        hosts: (host, port) of the server, or of the Sentinels when `service` is set; empty with `socket`.
        socket: path of a Unix socket.
        service: what the Sentinels call the server.
        tls, ca, cert, key: TLS; `ca` is a file, or the certificate itself (PEM), empty: the system's; `cert` and `key`
            are files, of the client.
        db: number of the database.
        username, password: of the store; empty for none.
        sentinel_username, sentinel_password: of the Sentinels, which have users of their own.
        queue: jobs and workers of one queue know nothing of another's.
        origin: what named it, for messages: `--store`, `ERGATES_STORE`, or the path of a file.
        file: absolute path of the store file it was read from; empty where it came as a URL.
    """

    hosts: tuple[tuple[str, int], ...] = ()
    socket: str = ""
    service: str = ""
    tls: bool = False
    ca: str = field(default="", repr=False)
    cert: str = ""
    key: str = ""
    db: int = 0
    username: str = ""
    password: str = field(default="", repr=False)
    sentinel_username: str = ""
    sentinel_password: str = field(default="", repr=False)
    queue: str = DEFAULT_QUEUE
    origin: str = "--store"
    file: str = field(default="", compare=False)

    @property
    def url(self) -> str:
        """The same again as a URL, without any password."""
        user = f"{quote(self.username, safe='')}@" if self.username else ""
        query = [f"queue={self.queue}"] if self.queue != DEFAULT_QUEUE else []
        if self.socket:
            query += [f"db={self.db}"] if self.db else []
            path = f"unix://{user}{quote(self.socket)}"
        else:
            default = SENTINEL_PORT if self.service else DEFAULT_PORT
            scheme = ("rediss" if self.tls else "redis") + ("+sentinel" if self.service else "")
            parts = ([quote(self.service)] if self.service else []) + ([str(self.db)] if self.db else [])
            path = f"{scheme}://{user}{','.join(_shown(host, port, default) for host, port in self.hosts)}"
            path += "".join(f"/{part}" for part in parts)
        return path + (f"?{'&'.join(query)}" if query else "")

    @property
    def authenticated(self) -> bool:
        """Whether only those who know a password, hold a certificate or own the socket get in."""
        return bool(self.password or self.cert or self.socket)

    def __str__(self) -> str:
        return self.url


def parse_url(text: str, *, origin: str, may_hold_password: bool) -> StoreAddress:
    """Read a URL.

    Raises:
        UsageError: it is none of the forms above, or holds a password where others can read it.
    """
    scheme, _, rest = text.partition("://")
    netloc = re.split(r"[/?#]", rest, maxsplit=1)[0] if scheme != "unix" else rest.partition("/")[0]
    user, at, place = netloc.rpartition("@")
    username, colon, password = user.partition(":")
    shown = _PASSWORD.sub(r"\1@", text)
    if ((at and colon) or shown != text) and not may_hold_password:
        raise UsageError(
            f"{origin} {shown}: a password in an argument is seen by everybody on this machine\n  hint: {PASSWORD_HINT}"
        )
    if scheme not in _SCHEMES:
        raise _bad(origin, shown, f"no store is reached by {scheme}://")
    tls, sentinel = _SCHEMES[scheme]
    split = urlsplit(f"redis://host{rest[len(netloc) :]}")
    queue, db = _query(split.query, origin, shown)
    common = StoreAddress(tls=tls, username=unquote(username), password=unquote(password), queue=queue, origin=origin)
    if split.fragment:
        raise _bad(origin, shown, "it has a part after #")
    if scheme == "unix":
        if place or len(split.path) < 2:
            raise _bad(origin, shown, "a Unix socket needs an absolute path")
        return replace(common, socket=unquote(split.path), db=db or 0)
    hosts = tuple(_host(part, SENTINEL_PORT if sentinel else DEFAULT_PORT, origin, shown) for part in place.split(","))
    if len(hosts) > 1 and not sentinel:
        raise _bad(origin, shown, "several hosts are for Sentinels: redis+sentinel://")
    parts = [unquote(part) for part in split.path.split("/") if part]
    service = ""
    if sentinel:
        if not parts:
            raise _bad(origin, shown, "the name that the Sentinels give the server is missing")
        service, *parts = parts
    if len(parts) > 1 or (parts and not parts[0].isdigit()):
        raise _bad(origin, shown, f"{'/'.join(parts)!r} is no number of a database")
    return replace(common, hosts=hosts, service=service, db=int(parts[0]) if parts else db or 0)


def checked_queue(name: str, origin: str) -> str:
    """A queue's name becomes part of every key. Raises UsageError."""
    if not _QUEUE.fullmatch(name):
        raise UsageError(f"{origin}: {name!r} is no name of a queue\n  expected: letters, digits, '.', '_' and '-'")
    return name


def _query(query: str, origin: str, shown: str) -> tuple[str, int | None]:
    queue, db = DEFAULT_QUEUE, None
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name == "queue":
            queue = checked_queue(value, origin)
        elif name == "db" and value.isdigit():
            db = int(value)
        else:
            raise _bad(origin, shown, f"it has a part {name!r} that means nothing here")
    return queue, db


def _host(text: str, default_port: int, origin: str, shown: str) -> tuple[str, int]:
    found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\[\]:,@\s]+))(?::(\d{1,5}))?", text)
    if found is None or not 0 < int(found[3] or default_port) < 65536:
        raise _bad(origin, shown, f"{text!r} is no host" if text else "the host is missing")
    return found[1] or found[2], int(found[3] or default_port)


def _shown(host: str, port: int, default: int) -> str:
    host = f"[{host}]" if ":" in host else host
    return host if port == default else f"{host}:{port}"


def _bad(origin: str, shown: str, what: str) -> UsageError:
    return UsageError(f"{origin} {shown}: {what}\n  expected: {EXPECTED}")
