"""What a private store is told: its configuration, its users, its certificate. All of it in a directory only its owner can read.

The server has three users: `default` lets nobody in, `erg` may do what the queue needs to keys of ours and nothing else, `admin`
is for `erg store` alone. Passwords stand in the users' file as SHA-256 only.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import subprocess
from pathlib import Path

import msgspec

from ergates.errors import StoreError

USER, ADMIN = "erg", "admin"
_USER_RIGHTS = (
    "~{erg:* resetchannels &{erg:* -@all +@read +@write +@scripting +@transaction +@connection +@pubsub +@blocking"
    " -@dangerous -@admin -scan -randomkey -script|flush -script|kill -function +info +time"
)
"""By kind, so that a newer Ergates finds what it needs on an older server's files; never FLUSHALL, CONFIG, KEYS, SHUTDOWN."""
_LOOPBACK = "127.0.0.1"
_CERTIFICATE_DAYS = 3650


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a private server is to be reached.

    Args:
        listen: address it listens on besides loopback; loopback itself for no other.
        name: what other machines call it, in URL and certificate.
        port: TCP port.
        tls: whether it speaks TLS, and TLS only.
        memory_bytes: it refuses new work beyond this; 0 for no limit.
        socket: path of a Unix socket; with `port` 0 the only way in, and nothing listens on any address.
    """

    listen: str = _LOOPBACK
    name: str = _LOOPBACK
    port: int = 0
    tls: bool = False
    memory_bytes: int = 0
    socket: str = ""


def is_loopback(address: str) -> bool:
    """Whether only this machine can come in by it."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def is_any(address: str) -> bool:
    """Whether it stands for every address of this machine."""
    try:
        return ipaddress.ip_address(address).is_unspecified
    except ValueError:
        return False


def configuration(folder: Path, settings: ServerSettings) -> str:
    """The server's configuration file: durable within a second, never throws anything away, no snapshots of its own."""
    addresses = dict.fromkeys([settings.listen] if is_any(settings.listen) else [_LOOPBACK, settings.listen])
    lines = {
        "bind": " ".join(addresses),
        "protected-mode": "yes",
        "port": "0" if settings.tls else str(settings.port),
        "dir": _quoted(folder / "data"),
        "logfile": _quoted(folder / "server.log"),
        "aclfile": _quoted(folder / "users.acl"),
        "daemonize": "no",
        "set-proc-title": "no",  # it would be written over the environment, which holds the mark of whose server this is
        "appendonly": "yes",
        "appendfsync": "everysec",
        "aof-use-rdb-preamble": "yes",
        "save": '""',
        "dbfilename": "backup.rdb",
        "maxmemory": str(settings.memory_bytes),
        "maxmemory-policy": "noeviction",
        "tcp-keepalive": "60",
        "enable-debug-command": "no",
        "enable-module-command": "no",
    }
    if settings.socket:
        lines |= {"unixsocket": _quoted(Path(settings.socket)), "unixsocketperm": "700"}
    if settings.tls:
        lines |= {
            "tls-port": str(settings.port),
            "tls-cert-file": _quoted(folder / "tls" / "server.crt"),
            "tls-key-file": _quoted(folder / "tls" / "server.key"),
            "tls-ca-cert-file": _quoted(folder / "tls" / "server.crt"),
            "tls-auth-clients": "no",
        }
    return "".join(f"{name} {value}\n" for name, value in lines.items())


def users(user_password: str, admin_password: str) -> str:
    """The server's file of users.

    Nobody can log in as `default`, which is off, but it keeps its rights: when the server starts it reads its own log back as
    that user, and without them it skips every transaction in it, that is all our scripts ever wrote (seen with 7.0.15).
    """
    return (
        "user default off resetpass ~* &* +@all\n"
        f"user {USER} on #{_digest(user_password)} {_USER_RIGHTS}\n"
        f"user {ADMIN} on #{_digest(admin_password)} ~* &* +@all\n"
    )


def make_certificate(folder: Path, settings: ServerSettings) -> None:
    """A key and a certificate that signs itself, for the names the server has.

    Raises:
        StoreError: there is no openssl, or it failed.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    names = dict.fromkeys(_alternative(name) for name in (settings.name, os.uname().nodename, "localhost", _LOOPBACK))
    command = [
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256"),
        *("-days", str(_CERTIFICATE_DAYS), "-subj", "/CN=erg store"),
        *("-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt")),
        *("-addext", f"subjectAltName={','.join(names)}"),
        *("-addext", "keyUsage=critical,digitalSignature,keyCertSign"),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError:
        raise StoreError(
            "openssl is not installed; it makes the store's certificate\n  hint: apt install openssl"
        ) from None
    if done.returncode != 0:
        raise StoreError(f"openssl made no certificate for {settings.name}: {done.stderr.strip()}")
    (folder / "server.key").chmod(0o600)


def _alternative(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name}"


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _quoted(path: Path) -> str:
    """As the server reads strings: it knows the escapes of C."""
    return (
        '"'
        + "".join(
            f"\\x{byte:02x}" if byte in b'"\\' or not 32 <= byte < 127 else chr(byte) for byte in os.fsencode(path)
        )
        + '"'
    )
