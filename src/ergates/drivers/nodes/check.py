"""What a node is like and what a profile would have: reads, judges, changes nothing, and is safe anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from msgspec import Struct

from ergates.drivers.nodes.catalogue import PROFILES, SETTINGS, goals_of, profile_wishes
from ergates.drivers.nodes.journal import journal_of
from ergates.drivers.nodes.setting import Setting
from ergates.drivers.nodes.surroundings import surroundings
from ergates.drivers.nodes.tree import NodeTree, NotHereError
from ergates.errors import ErgatesError, UsageError
from ergates.experiment.node_plan import Wish

Judgement = Literal["ok", "differs", "not there", "told"]


class Row(Struct, frozen=True, kw_only=True):
    """One line.

    Args:
        now: what it says, in words.
        wants: what the profile wants; empty: it does not mind.
        judgement: `told` where nothing is wanted.
        reason: why it is not there, or what to do.
        settable: whether `erg node prepare --set NAME=...` can change it.
    """

    name: str
    now: str
    judgement: Judgement
    why: str
    wants: str = ""
    reason: str = ""
    settable: bool = True


def check_node(*, profile: str, root: Path = Path("/")) -> tuple[Row, ...]:
    """Every setting and what surrounds it.

    Raises:
        UsageError: no such profile.
    """
    tree = NodeTree(root)
    wishes = {wish.name: wish for wish in profile_wishes(profile)}
    rows = [_row(tree, setting, wishes.get(setting.name)) for setting in SETTINGS.values()]
    around = [
        Row(
            name=line.name,
            now=line.found,
            judgement="told" if line.ok is None else "ok" if line.ok else "differs",
            why=line.why,
            reason=line.advice,
            settable=False,
        )
        for line in surroundings(tree)
    ]
    return (*(row for row in rows if row is not None), *around)


def remembered(*, root: Path = Path("/"), state: Path | None = None) -> int:
    """How many old values a journal holds that restore would put back. 0 where it cannot be read."""
    journal = journal_of(NodeTree(root), state)
    try:
        entries, boot = journal.entries()
    except ErgatesError:
        return 0
    return len(entries) if boot == journal.boot else 0


def _row(tree: NodeTree, setting: Setting, wish: Wish | None) -> Row | None:
    try:
        now = setting.words(setting.look(tree, "", None))
    except (NotHereError, ValueError) as error:
        judgement: Judgement = "not there" if wish else "told"
        return Row(name=setting.name, now="not there", judgement=judgement, why=setting.why, reason=str(error))
    if not now:
        return None
    if wish is None:
        return Row(name=setting.name, now=now, judgement="told", why=setting.why)
    try:
        met = all(goal.met or goal.optional for goal in goals_of(tree, wish))
    except (NotHereError, UsageError) as error:
        reason = str(error).partition("\n")[0].removeprefix(f"{wish}: ")
        return Row(name=setting.name, now=now, judgement="not there", why=setting.why, wants=wish.value, reason=reason)
    return Row(name=setting.name, now=now, judgement="ok" if met else "differs", why=setting.why, wants=wish.value)


def profiles() -> Mapping[str, tuple[tuple[str, str], ...]]:
    """By name; for help texts."""
    return PROFILES
