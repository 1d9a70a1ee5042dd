"""What becomes of each remembered change when a node is put back: nothing to do, written back, or left to who changed it since.

Pure. An *entry* is one thing with the first old value we ever saw in it and everything we wrote there since.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ergates.experiment.node_forms import meaning
from ergates.experiment.node_plan import Change

Verdict = Literal["as it was", "put back", "changed by others", "gone"]


class Entry(Struct, kw_only=True):
    """One line of what restore has to do.

    Args:
        change: the first of this thing: its `old` is what must come back.
        wrote: every text we wrote there.
        became: what the thing said when we were done; None: we were ended before we could look, so whatever it says may be ours.
    """

    change: Change
    wrote: tuple[str, ...] = ()
    became: str | None = None


def verdict(entry: Entry, now: str | None, *, force: bool) -> Verdict:
    """What to do about one thing that says `now` (None: it is not there any more)."""
    if now is None:
        return "gone"
    change = entry.change
    said = meaning(now, change.form)
    if said == meaning(change.old, change.form):
        return "as it was"
    ours = {meaning(text, change.form) for text in (*entry.wrote, entry.became or "")}
    if entry.became is None or said in ours or force:
        return "put back"
    return "changed by others"


def merged(entries: dict[tuple[str, str], Entry], change: Change) -> Entry:
    """Remember a change: a thing that is known keeps its first old value and its place."""
    entry = entries.setdefault(change.key, Entry(change=change))
    if change.new is not None:
        entry.wrote = (*entry.wrote, change.new)
    entry.became = None
    return entry
