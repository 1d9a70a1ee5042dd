"""The Lua scripts: one for each call of the store, put together from the pieces it names in its first line.

A script is known to the server by its SHA-1, so a server that serves workers of two versions keeps both apart. `-- needs: a b`
in its first line says which pieces stand before it; `base` always does.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "lua"
LAYOUT = 1
"""Version of the keys (docs/decisions/0008-redis-layout.md). Stands in base.lua as well."""


class Script(NamedTuple):
    """What EVALSHA needs, and EVAL where the server does not know it yet."""

    name: str
    sha: str
    source: bytes


@cache
def script(name: str) -> Script:
    body = (FOLDER / f"{name}.lua").read_text()
    first, _, _ = body.partition("\n")
    marker, _, needs = first.partition(":")
    assert marker == "-- needs", f"{name}.lua does not say what it needs"
    pieces = [(FOLDER / f"{piece}.lua").read_text() for piece in ("base", *needs.split())]
    source = "\n".join([*pieces, body]).encode()
    return Script(name, hashlib.sha1(source, usedforsecurity=False).hexdigest(), source)
