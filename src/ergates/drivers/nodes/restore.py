"""Puts a node back as it was before it was prepared, last change first, and forgets each value only when it is seen to be back.

What somebody else changed meanwhile is named and left to them, unless forced: their value is newer than what we remember.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct

from ergates.drivers.nodes import knobs
from ergates.drivers.nodes.cores import heirs
from ergates.drivers.nodes.journal import Journal, journal_of
from ergates.drivers.nodes.prepare import Tell, silent
from ergates.drivers.nodes.tree import NodeTree
from ergates.experiment.node_forms import meaning
from ergates.experiment.node_plan import Change
from ergates.experiment.node_undo import Entry, Verdict, verdict

_ROUNDS = 2
"""What one undoing moves of another (a limit that turbo opened again) is right after the second round."""


class Undone(Struct, frozen=True, kw_only=True):
    """One thing. `says`: what it says now. `problem`: why it could not be put back; empty."""

    change: Change
    verdict: Verdict
    says: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of all remembered values.

    Args:
        void: how many a boot has undone already.
        left: how many are still remembered, because they are not as they were.
    """

    things: tuple[Undone, ...] = ()
    void: int = 0
    left: int = 0


def restore_node(
    *, root: Path = Path("/"), state: Path | None = None, force: bool = False, tell: Tell = silent
) -> Restored:
    """Undo what `prepare_node` did here, in however many calls. May be repeated, also after having been killed.

    With `force` also what others have changed since; and what is not there any more is forgotten.

    Raises:
        JournalError: it cannot be read, or another prepare or restore is at work.
    """
    tree = NodeTree(root)
    return undo_all(tree, journal_of(tree, state), force=force, tell=tell)


def undo_all(tree: NodeTree, journal: Journal, *, force: bool, tell: Tell) -> Restored:
    """As `restore_node`, on a tree and a journal at hand."""
    if not journal.path.exists():
        return Restored()
    with journal.alone():
        entries, boot = journal.entries()
        if boot != journal.boot:
            journal.keep_only(())
            return Restored(void=len(entries))
        foreign = _changed_by_others(tree, entries, force)
        # If we are killed on the way, what things say then is our doing, too.
        journal.became({key: None for key in entries if key not in foreign})
        ours = [entry for key, entry in entries.items() if key not in foreign]
        ours += [Entry(change=change) for change in heirs(tree, [entry.change for entry in entries.values()])]
        problems: dict[tuple[str, str], str] = {}
        for told in [tell] + [silent] * (_ROUNDS - 1):
            for entry in reversed(ours):
                _undo(tree, entry.change, problems, told)
        things = [_seen(tree, entry.change, problems, foreign) for entry in (*ours, *(entries[key] for key in foreign))]
        left = [
            entries[thing.change.key] for thing in things if not _done(thing, force) and thing.change.key in entries
        ]
        journal.keep_only(entry for entry in entries.values() if entry in left)
        return Restored(things=tuple(things), left=len(left))


def _changed_by_others(
    tree: NodeTree, entries: Mapping[tuple[str, str], Entry], force: bool
) -> dict[tuple[str, str], str]:
    """Things that say neither what they said nor what we wrote. Judged before anything is undone: undoing moves others, too."""
    found = {}
    for key, entry in entries.items():
        now = _now(tree, entry.change)
        if now is not None and verdict(entry, now, force=force) == "changed by others":
            found[key] = now
    return found


def _undo(tree: NodeTree, change: Change, problems: dict[tuple[str, str], str], tell: Tell) -> None:
    now = _now(tree, change)
    if now is None or meaning(now, change.form) == meaning(change.old, change.form):
        return
    says, old = meaning(now, change.form), meaning(change.old, change.form)
    tell(f"{knobs.place_of(tree, change)}: {says or '(empty)'} → {old or '(empty)'}")
    try:
        knobs.undo(tree, change)
        problems.pop(change.key, None)
    except OSError as error:
        problems[change.key] = error.strerror or str(error)


def _seen(
    tree: NodeTree, change: Change, problems: Mapping[tuple[str, str], str], foreign: Mapping[tuple[str, str], str]
) -> Undone:
    """What it is at last."""
    now = _now(tree, change)
    if now is None:
        return Undone(change=change, verdict="gone")
    says = meaning(now, change.form)
    if says == meaning(change.old, change.form):
        return Undone(change=change, verdict="as it was", says=says)
    if change.key in foreign:
        return Undone(change=change, verdict="changed by others", says=says, problem="somebody else set it since")
    problem = problems.get(change.key, f"says {says!r} although its old value was written")
    hint = f"; {change.hint}" if change.hint else ""
    return Undone(change=change, verdict="put back", says=says, problem=f"{problem}{hint}")


def _done(thing: Undone, force: bool) -> bool:
    """Whether it need not be remembered any longer: threads that ended and interrupts that were freed do not come back."""
    return thing.verdict == "as it was" or (thing.verdict == "gone" and (force or thing.change.optional))


def _now(tree: NodeTree, change: Change) -> str | None:
    try:
        return knobs.now_of(tree, change)
    except OSError:
        return None


def not_back(things: Sequence[Undone]) -> tuple[Undone, ...]:
    """Those that are not as they were, and matter."""
    return tuple(thing for thing in things if not _done(thing, force=False))
