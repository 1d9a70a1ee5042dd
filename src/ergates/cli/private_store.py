"""Finds the private store that `erg store up` made for a state directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ergates.errors import UsageError

if TYPE_CHECKING:
    from ergates.drivers.stores.private_server import PrivateServer


def private_store(state_dir: str | None) -> PrivateServer:
    """Raises UsageError: none was ever started there. StoreError: the library is missing that talks to it."""
    from ergates.drivers.stores.open_cluster import need_client_library
    from ergates.drivers.stores.private_server import PrivateServer
    from ergates.drivers.stores.state_dir import place_of

    private = PrivateServer(place_of(Path.cwd(), state=Path(state_dir) if state_dir else None))
    if not private.folder.is_dir() or private.record() is None:
        raise UsageError(
            f"{private.folder}: no private store was ever started here\n  hint: erg store up, or name its directory with --state"
        )
    need_client_library("erg store")
    return private
