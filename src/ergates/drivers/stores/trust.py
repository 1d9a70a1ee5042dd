"""Whether a store lets in only those who may: pickles from a store that everybody can write are other people's programs.

What we present says nothing: a server without a password takes any. So the server is asked without one.
"""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

from ergates.drivers.stores.address import StoreAddress
from ergates.drivers.stores.open_cluster import client_factory

_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def is_guarded(address: StoreAddress) -> bool:
    """False when strangers get in, or when it cannot be found out."""
    if not address.authenticated:
        return False
    if address.socket:
        return _is_ours_alone(Path(address.socket))
    return not _lets_in_strangers(address)


def _is_ours_alone(socket: Path) -> bool:
    """To connect one needs the right to write the socket and to get to it."""
    try:
        facts, folder = socket.stat(), socket.parent.stat()
    except OSError:
        return False
    closed = not facts.st_mode & _OTHERS_MAY_WRITE or not folder.st_mode & (stat.S_IXGRP | stat.S_IXOTH)
    return closed and facts.st_uid in (os.geteuid(), 0)


def _lets_in_strangers(address: StoreAddress) -> bool:
    import redis

    bare = replace(address, username="", password="", cert="", key="")
    client = client_factory(bare)()
    try:
        client.ping()
    except redis.AuthenticationError:
        return False
    except redis.ResponseError as error:
        return not str(error).startswith(("NOAUTH", "NOPERM", "WRONGPASS"))
    except redis.ConnectionError as error:  # the handshake of TLS fails without a certificate where one is demanded
        return not (address.cert and "ssl" in str(error).lower())
    finally:
        client.close()
    return True
