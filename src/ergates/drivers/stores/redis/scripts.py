"""The Lua scripts: one for each call of the store, put together from pieces.

A script is known to the server by its SHA-1, so a server that serves workers of two versions keeps both apart. Every script
begins with the pieces FIRST and OFTEN; `-- needs: a b` in its first line adds more. The pieces SELDOM are the body of one
function that runs when the first of theirs is called: to make eighty closures costs as much as a usual exchange. All functions
stand in one table, `S`, for a closure is the dearer to make the more locals of the script it captures.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "lua"
LAYOUT = 1
"""Version of the keys (docs/decisions/0008-redis-layout.md). Stands in base.lua as well."""

FIRST = ("constants", "sums", "base")
OFTEN = ("functions", "states", "jobs", "lanes")
USUAL = {"exchange": ("usual",)}
"""What answers the usual call of a script before any function is made."""
_WORK = ("lane_changes", "tasks", "dependencies", "ring", "workers", "ending", "seeing")
SELDOM = ("constants", *_WORK, "roles", "gangs", "copies")
_LOAD_WHEN_CALLED = """
setmetatable(S, { __index = function(pieces, name)
  setmetatable(pieces, nil)
  load_seldom()
  return pieces[name]
end })
"""


class Script(NamedTuple):
    """What EVALSHA needs, and EVAL where the server does not know it yet."""

    name: str
    sha: str
    source: bytes


@cache
def script(name: str) -> Script:
    body = _piece(name)
    first, _, _ = body.partition("\n")
    marker, _, needs = first.partition(":")
    assert marker == "-- needs", f"{name}.lua does not say what it needs"
    seldom = "\n".join(_piece(piece) for piece in SELDOM)
    pieces = [_piece(piece) for piece in (*FIRST, *USUAL.get(name, ()), *OFTEN)]
    pieces.append(f"local function load_seldom()\n{seldom}\nend\n{_LOAD_WHEN_CALLED}")
    source = "\n".join([*pieces, *(_piece(piece) for piece in needs.split()), body]).encode()
    return Script(name, hashlib.sha1(source, usedforsecurity=False).hexdigest(), source)


def _piece(name: str) -> str:
    return (FOLDER / f"{name}.lua").read_text()
