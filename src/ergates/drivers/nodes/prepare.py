"""Makes wishes come true on this node: plans all of it, then remembers, writes and reads back, batch by batch.

Nothing is changed before everything that was asked for has been found possible as far as can be told without trying.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from ergates.drivers.nodes import knobs
from ergates.drivers.nodes.catalogue import canonical, goals_of, profile_wishes
from ergates.drivers.nodes.journal import Journal, journal_of
from ergates.drivers.nodes.tree import NodeTree, NotHereError
from ergates.errors import UsageError
from ergates.experiment.node_forms import meaning
from ergates.experiment.node_plan import Change, Goal, Wish, chosen, plan, wish_of
from ergates.experiment.node_undo import Entry, verdict

State = Literal["made", "already", "refused", "differs", "gone"]
Tell = Callable[[str], None]
_WORDS = {
    errno.EACCES: "not allowed: run as root; in a container prepare its host instead",
    errno.EPERM: "not allowed: run as root; in a container prepare its host instead",
    errno.EROFS: "mounted read-only: this is a container; prepare its host instead",
    errno.EINVAL: "the kernel does not take this value here",
    errno.EBUSY: "busy: something else holds it",
    errno.ENOMEM: "not enough memory in one piece",
}


def silent(_: str) -> None:
    """Nobody is told."""


class Outcome(Struct, frozen=True, kw_only=True):
    """What came of one change. `says`: what it says now. `problem`: why it is not as wished, and what to do; empty."""

    change: Change
    state: State
    says: str = ""
    problem: str = ""

    @property
    def ok(self) -> bool:
        return self.state in ("made", "already") or self.change.optional


@dataclass(frozen=True, slots=True)
class Planned:
    """What would be changed, and wishes that this node has nothing for, each with the reason."""

    changes: tuple[Change, ...]
    missing: tuple[tuple[Wish, str], ...] = ()

    def refuse_missing(self) -> None:
        """Raises UsageError when a person asked for what is not here; what a profile wants beyond is left out."""
        asked = [f"{wish}: {reason}" for wish, reason in self.missing if not wish.weak]
        if asked:
            listed = "\n  ".join(asked)
            raise UsageError(
                f"cannot be set on this node:\n  {listed}\n  hint: nothing was changed; --skip-missing leaves these out"
            )


def plan_node(tree: NodeTree, wishes: Sequence[Wish], profile: str = "") -> Planned:
    """What would have to be changed; changes nothing.

    Raises:
        UsageError: an unknown setting, a value that cannot be, two wishes that contradict each other, or not our right.
    """
    weak = profile_wishes(profile) if profile else ()
    wanted: list[tuple[Wish, Sequence[Goal]]] = []
    missing = []
    for wish in chosen(weak, [canonical(each) for each in wishes]):
        try:
            wanted.append((wish, goals_of(tree, wish)))
        except NotHereError as error:
            missing.append((wish, str(error)))
    return Planned(plan(wanted), tuple(missing))


def refuse_forbidden(tree: NodeTree, changes: Sequence[Change]) -> None:
    """Raises UsageError when rights do not suffice for what is not optional."""
    forbidden = [
        change
        for change in changes
        if change.new is not None and not change.optional and not knobs.may_change(tree, change)
    ]
    if forbidden:
        listed = "\n  ".join(knobs.place_of(tree, change) for change in forbidden[:5])
        more = f"\n  and {len(forbidden) - 5} more" if len(forbidden) > 5 else ""
        root = "mounted read-only or locked: in a container prepare its host instead"
        hint = root if os.geteuid() == 0 else "run it as root (sudo erg node prepare ...)"
        raise UsageError(f"not allowed to change:\n  {listed}{more}\n  hint: nothing was changed; {hint}")


def carry_out(tree: NodeTree, journal: Journal, changes: Sequence[Change], tell: Tell) -> tuple[Outcome, ...]:
    """Make changes. What does not take is reported and the rest is done; whenever this ends, `restore_node` undoes what was done.

    Raises:
        JournalError: it cannot be kept; what was not in it by then was not changed.
    """
    outcomes: list[Outcome] = []
    with journal.alone():
        entries, boot = journal.entries()
        if entries and boot != journal.boot:
            tell(f"the node was booted since it was last prepared: {len(entries)} remembered values are void")
            journal.keep_only(())
            entries = {}
        others = _changed_by_others(tree, entries) - {change.key for change in changes}
        # From here to the end whatever these say may be our doing, even if we are killed.
        journal.became({key: None for key in entries if key not in others})
        for _, batch in groupby(changes, key=_batch_of):
            outcomes += _make_batch(tree, journal, list(batch), tell)
        return _settled(tree, journal, outcomes, others)


def _batch_of(change: Change) -> str:
    return "frequency" if change.setting in ("frequency-min", "frequency-max") else change.setting


def _make_batch(tree: NodeTree, journal: Journal, changes: Sequence[Change], tell: Tell) -> list[Outcome]:
    """Read again, remember together, then write one by one."""
    due: list[Change] = []
    outcomes: dict[tuple[str, str], Outcome] = {}
    for change in changes:
        now, problem = _now(tree, change)
        if now is None:
            outcomes[change.key] = Outcome(change=change, state="gone", problem=problem or "it is not there any more")
            continue
        change = replace(change, old=now)
        if change.new is not None and meaning(now, change.form) == meaning(change.new, change.form):
            outcomes[change.key] = Outcome(change=change, state="already", says=now.strip())
            continue
        due.append(change)
    journal.remember(due)
    for change in due:
        if change.new is not None:
            outcomes[change.key] = _make(tree, change)
            if problem := outcomes[change.key].problem:
                tell(f"{knobs.place_of(tree, change)}: {problem}")
    return list(outcomes.values())


def _make(tree: NodeTree, change: Change) -> Outcome:
    assert change.new is not None
    try:
        knobs.make(tree, change, change.new)
    except OSError as error:
        now, _ = _now(tree, change)
        return Outcome(change=change, state="refused", says=(now or "").strip(), problem=_why(error, change))
    return _read_back(tree, change)


def _read_back(tree: NodeTree, change: Change) -> Outcome:
    now, problem = _now(tree, change)
    if now is None:
        return Outcome(change=change, state="gone", problem=problem or "it went away meanwhile")
    says = meaning(now, change.form)
    if says == meaning(change.new or "", change.form):
        return Outcome(change=change, state="made", says=says)
    hint = f"; {change.hint}" if change.hint else ""
    wished = meaning(change.new or "", change.form)
    return Outcome(
        change=change, state="differs", says=says, problem=f"says {says!r} after {wished!r} was written{hint}"
    )


def _changed_by_others(tree: NodeTree, entries: Mapping[tuple[str, str], Entry]) -> frozenset[tuple[str, str]]:
    verdicts = {key: verdict(entry, _now(tree, entry.change)[0], force=False) for key, entry in entries.items()}
    return frozenset(key for key, found in verdicts.items() if found == "changed by others")


def _settled(
    tree: NodeTree, journal: Journal, outcomes: Sequence[Outcome], others: frozenset[tuple[str, str]]
) -> tuple[Outcome, ...]:
    """Read everything again at the end: what another change of ours moved is not what somebody else did, and must be known."""
    entries, _ = journal.entries()
    texts: dict[tuple[str, str], str | None] = {}
    for key, entry in entries.items():
        now, _ = _now(tree, entry.change)
        if now is not None and key not in others:
            texts[key] = now
    journal.became(texts)
    return tuple(
        _read_back(tree, outcome.change) if outcome.state == "made" and outcome.change.key in texts else outcome
        for outcome in outcomes
    )


def _now(tree: NodeTree, change: Change) -> tuple[str | None, str]:
    try:
        return knobs.now_of(tree, change), ""
    except OSError as error:
        return None, _why(error, change)


def _why(error: OSError, change: Change) -> str:
    said = error.strerror or str(error)
    if change.optional and change.hint:
        return f"{said}: {change.hint}"  # kernels refuse to move an interrupt in many words, and rights are none of the reasons
    words = _WORDS.get(error.errno or 0, said)
    return f"{words}; {change.hint}" if change.hint else words


def prepare_node(
    settings: Sequence[tuple[str, str]],
    *,
    profile: str = "",
    root: Path = Path("/"),
    state: Path | None = None,
    skip_missing: bool = False,
    tell: Tell = silent,
) -> tuple[Outcome, ...]:
    """Make settings of this node, `(NAME[@WHERE], VALUE)`, as `[hosts.X] prepare` has them; each is told before it is made.

    Raises:
        UsageError: nothing was changed, and why.
        JournalError: nothing was changed: the journal cannot be kept.
    """
    tree = NodeTree(root)
    planned = plan_node(tree, [wish_of(name, value) for name, value in settings], profile)
    if not skip_missing:
        planned.refuse_missing()
    refuse_forbidden(tree, planned.changes)
    for change in planned.changes:
        if change.new is not None:
            tell(change_line(tree, change))
    return carry_out(tree, journal_of(tree, state), planned.changes, tell)


def change_line(tree: NodeTree, change: Change, arrow: str = "→") -> str:
    """`/sys/...: powersave → performance`."""
    old, new = (meaning(text, change.form) or "(empty)" for text in (change.old, change.new or ""))
    return f"{knobs.place_of(tree, change)}: {old} {arrow} {new}"
