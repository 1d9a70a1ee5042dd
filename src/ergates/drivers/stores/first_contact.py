"""The first look at a server: can this be our store, and if not, what is to be done about it?

Every way in which people fail to reach a Redis has its own message here: no server, another kind of server, TLS on one side
only, a wrong password, a user without rights, an old version, a replica, a server that throws data away.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ergates.drivers.stores.address import PASSWORD_HINT, StoreAddress
from ergates.errors import ErgatesError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    import redis

MAJOR_MIN = 7
RIGHTS = "~{erg:* &{erg:* +@read +@write +@blocking +@scripting +@transaction +@pubsub +@connection +info +time"
"""What a user of the store needs, as `ACL SETUSER` takes it. `erg store up` takes more away (private_acl.py)."""
_NOT_REDIS = re.compile(r"protocol error|invalid response|unexpected", re.IGNORECASE)


def check_server(client: redis.Redis, address: StoreAddress) -> Mapping[str, Any]:
    """Look at what answers there; returns what it says of itself (INFO).

    Raises:
        StoreUnavailableError: nothing answers now.
        StoreError: what answers cannot be our store, or does not let us in.
    """
    from redis.exceptions import RedisError

    try:
        info: Mapping[str, Any] = client.info()
    except (RedisError, OSError) as error:
        raise explained(error, address) from error
    _check(info, address)
    return info


def explained(error: BaseException, address: StoreAddress) -> ErgatesError:
    """Our error for one of the client library's or of the system's, with what to do about it."""
    from redis import exceptions as said

    text = " ".join(str(error).split())
    causes = list(_causes(error))
    trouble = _tls_trouble(causes, text, address) or _network_trouble(causes, address)
    if trouble is not None:
        return trouble
    match error:
        case said.AuthenticationError() | said.AuthenticationWrongNumberOfArgsError():
            return _login_trouble(text, address)
        case said.NoPermissionError():
            user = address.username or "default"
            return StoreError(
                f"{address}: the user {user!r} may not do what is needed: {text}"
                f"\n  expected: at least these rights\n  hint: ACL SETUSER {user} on {RIGHTS}"
            )
        case said.BusyLoadingError():
            return StoreUnavailableError(
                f"{address}: the server is still loading its data\n  hint: try again in a moment"
            )
        case said.InvalidResponse():
            return _not_redis(address)
        case said.TimeoutError():
            other = "redis:// instead of rediss://" if address.tls else "rediss:// instead of redis://"
            return StoreUnavailableError(
                f"{address}: something accepts connections there but does not answer"
                f"\n  expected: Redis or Valkey, 7 or newer\n  hint: if only one side speaks TLS: {other}"
            )
        case said.ConnectionError() if _NOT_REDIS.search(text):
            return _not_redis(address)
        case said.ConnectionError():
            hint = "" if address.tls or address.socket else "\n  hint: does it speak TLS? then rediss://"
            return StoreUnavailableError(f"{address}: {text}\n  expected: Redis or Valkey, 7 or newer{hint}")
        case said.ResponseError() if "unknown command" in text.lower():
            return StoreError(f"{address}: a Sentinel, or too old: {text}\n  expected: Redis or Valkey, 7 or newer")
    return StoreError(f"{address}: {text}")


def _check(info: Mapping[str, Any], address: StoreAddress) -> None:
    version = str(info.get("redis_version", ""))
    major = version.partition(".")[0]
    if not major.isdigit():
        raise _not_redis(address)
    if int(major) < MAJOR_MIN:
        raise StoreError(
            f"{address}: the server is version {version}\n  expected: Redis {MAJOR_MIN} or newer, or Valkey"
            "\n  hint: `erg store up` starts a private one where a newer one is installed"
        )
    mode = info.get("redis_mode")
    if mode == "cluster":
        raise StoreError(f"{address}: this is a Redis Cluster\n  expected: a single server, or Sentinels around one")
    if mode == "sentinel":
        raise StoreError(
            f"{address}: this is a Sentinel\n  hint: redis+sentinel://HOST,HOST/NAME, with the name it gives the server"
        )
    if info.get("role") in ("slave", "replica"):
        raise StoreError(
            f"{address}: this is a replica, which nobody may write to\n"
            f"  hint: its master is {info.get('master_host')}:{info.get('master_port')}"
        )
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys") and info.get("maxmemory"):
        raise StoreError(
            f"{address}: when its memory is full this server throws data away (maxmemory-policy {policy}): tasks would be"
            " lost\n  hint: CONFIG SET maxmemory-policy noeviction"
        )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The library raises its own error while it handles the system's."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _tls_trouble(causes: list[BaseException], text: str, address: StoreAddress) -> ErgatesError | None:
    found = next((cause for cause in causes if isinstance(cause, ssl.SSLError)), None)
    if isinstance(found, ssl.SSLCertVerificationError):
        where = "ca = FILE in the store file names the certificate to trust; `erg store up` writes one"
        return StoreError(f"{address}: its certificate is not to be trusted: {found.verify_message}\n  hint: {where}")
    if found is not None and found.reason in (
        "WRONG_VERSION_NUMBER",
        "RECORD_LAYER_FAILURE",
        "UNEXPECTED_EOF_WHILE_READING",
    ):
        return StoreError(f"{address}: what answers there does not speak TLS\n  hint: redis:// instead of rediss://")
    if found is not None:  # TLS 1.3 says what it missed after the handshake, or just hangs up
        hint = (
            ""
            if address.cert
            else "\n  hint: it may want a client's certificate: cert = FILE, key = FILE in a store file"
        )
        return StoreError(f"{address}: TLS failed: {found.reason or text}{hint}")
    file = next((cause for cause in causes if isinstance(cause, FileNotFoundError)), None)
    if address.tls and file is not None:
        return StoreError(f"{address}: a file of certificates is missing: ca, cert or key of {address.origin}")
    return None


def _network_trouble(causes: list[BaseException], address: StoreAddress) -> ErgatesError | None:
    sentinel = "a Sentinel's address, and that it is up" if address.service else ""
    for cause in causes:
        match cause:
            case socket.gaierror():
                return StoreUnavailableError(
                    f"{address}: no such host: {cause.strerror}\n  hint: check the name in {address.origin}"
                )
            case ConnectionRefusedError() | FileNotFoundError():
                return StoreUnavailableError(
                    f"{address}: no server there\n  hint: "
                    + (sentinel or f"start it (`erg store up` starts a private one), or check {address.origin}")
                )
            case PermissionError():
                return StoreError(f"{address}: no right to use this socket\n  hint: its owner must let you in")
    if any(type(cause).__name__ == "MasterNotFoundError" for cause in causes):
        return StoreUnavailableError(
            f"{address}: the Sentinels name no master {address.service!r} now"
            f"\n  expected: its name as in `sentinel monitor {address.service} ...`, at least one Sentinel up, and"
            "\n    sentinel_password in the store file where they want one"
        )
    unreachable = next((cause for cause in causes if isinstance(cause, OSError) and cause.errno), None)
    if unreachable is not None and not isinstance(unreachable, ConnectionError):
        return StoreUnavailableError(f"{address}: {unreachable.strerror}\n  hint: check the host and the network")
    return None


def _login_trouble(text: str, address: StoreAddress) -> StoreError:
    user = address.username or "default"
    if not address.password:
        return StoreError(f"{address}: it wants a password for the user {user!r}\n  hint: {PASSWORD_HINT}")
    if "without any password configured" in text:
        return StoreError(f"{address}: it has no password, but one was given\n  hint: leave it out, or name the user")
    return StoreError(
        f"{address}: wrong password for the user {user!r}, or no such user"
        f"\n  hint: it comes from {address.origin}, ERGATES_STORE_PASSWORD or ERGATES_STORE_PASSWORD_FILE"
    )


def _not_redis(address: StoreAddress) -> StoreError:
    return StoreError(f"{address}: what answers there is no Redis\n  expected: Redis or Valkey, 7 or newer")
