"""From what a node is and what is wished of it to a list of changes: which, in what order, and how each is undone.

A *wish* is what a person says: governor=performance. A *goal* is one thing of this node that the wish is about, with what it
says now: a file of the kernel, a card's driver, a thread's cores. A *change* is a goal that is not met, with what undoes it: the
old text.
Pure: drivers read goals and make changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from ergates.errors import UsageError
from ergates.experiment.node_forms import Form, meaning

Kind = Literal["file", "affinity", "card", "module", "service", "swap"]

ORDER = (
    "services", "service", "modules", "watchdogs", "aslr", "perf-paranoid", "numa-balancing", "sysctl", "clocksource", "swap",
    "transparent-hugepages", "thp-defrag", "hugepages", "hugepages-2M", "hugepages-1G", "turbo", "energy-preference",
    "governor", "frequency-min", "frequency-max", "cstates", "idle-latency", "default-irq", "irq-affinity", "isolate", "card",
    "smt",
)  # fmt: skip
"""What is changed first. Daemons that would set things back are stopped before anything; SMT goes last (and comes back first),
because the files of a core vanish with it. Everything is undone in the opposite order."""


class Wish(Struct, frozen=True, kw_only=True):
    """`NAME[@WHERE]=VALUE`. `weak`: a profile's, which gives way to what a person wrote."""

    name: str
    value: str
    where: str = ""
    weak: bool = False

    def __str__(self) -> str:
        return f"{self.name}{'@' if self.where else ''}{self.where}={self.value}"


class Goal(Struct, frozen=True, kw_only=True):
    """One thing of a node.

    Args:
        setting: whose; a name in ORDER.
        kind, target: which thing: a path below the root for `file`, an address, a module, a unit, a device, or `pid@start`.
        now: what it says, exactly.
        want: what is to be written; None: left alone, but remembered, because another change of ours disturbs it.
        form: how it is written.
        optional: that it stays as it is is worth a word, no failure: kernels keep some interrupts and threads where they are.
        broad: it comes from a wish about many things, and gives way to one about this thing.
        hint: what to do when it cannot be changed.
    """

    setting: str
    kind: Kind
    target: str
    now: str
    want: str | None = None
    form: Form = "plain"
    optional: bool = False
    broad: bool = False
    hint: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.target

    @property
    def met(self) -> bool:
        return self.want is None or meaning(self.now, self.form) == meaning(self.want, self.form)


class Change(Struct, frozen=True, kw_only=True):
    """A goal to be reached. `new` None: only to be remembered. Undone by writing what `old` says."""

    setting: str
    kind: Kind
    target: str
    old: str
    new: str | None
    form: Form = "plain"
    optional: bool = False
    hint: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.target


def parse_wish(text: str, *, weak: bool = False) -> Wish:
    """`governor=performance`, `hugepages@node1=512`.

    Raises:
        UsageError: not of this form.
    """
    head, equals, value = text.partition("=")
    return wish_of(head, value, weak=weak) if equals else wish_of(text, "", weak=weak)


def wish_of(head: str, value: str, *, weak: bool = False) -> Wish:
    """A name (with its place) and a value, as an experiment file has them.

    Raises:
        UsageError: one of them is empty.
    """
    name, at, where = head.strip().partition("@")
    if not name or not value.strip() or (at and not where):
        raise UsageError(
            f"setting {head!r}: no value or no place\n  expected: NAME=VALUE such as governor=performance, or"
            " NAME@WHERE=VALUE such as hugepages@node1=512"
        )
    return Wish(name=name, where=where, value=value.strip(), weak=weak)


def chosen(profile: Iterable[Wish], explicit: Iterable[Wish]) -> tuple[Wish, ...]:
    """A profile and what a person wrote: whatever is named there is left out of the profile.

    Raises:
        UsageError: the same setting is given two values.
    """
    wishes: dict[tuple[str, str], Wish] = {}
    for wish in explicit:
        before = wishes.setdefault((wish.name, wish.where), wish)
        if before.value != wish.value:
            raise UsageError(f"{before} and {wish}: which of the two?")
    named = {name for name, _ in wishes}
    return (*(wish for wish in profile if wish.name not in named), *wishes.values())


def plan(wanted: Sequence[tuple[Wish, Sequence[Goal]]]) -> tuple[Change, ...]:
    """The changes that make all wishes true, in the order in which they are to be made; none for what is so already.

    Raises:
        UsageError: two wishes want different things of one thing, and neither is the more particular.
    """
    best: dict[tuple[str, str], tuple[int, Wish, Goal]] = {}
    guards: dict[tuple[str, str], Goal] = {}
    for wish, goals in wanted:
        for goal in goals:
            if goal.want is None:
                guards.setdefault(goal.key, goal)
                continue
            strength = _strength(wish, goal)
            held = best.get(goal.key)
            if held is None or strength > held[0]:
                best[goal.key] = (strength, wish, goal)
            elif strength == held[0] and meaning(held[2].want or "", goal.form) != meaning(goal.want, goal.form):
                raise UsageError(
                    f"{held[1]} and {wish} want different things of {goal.target}\n  hint: leave one of them out"
                )
    changes = [_change(goal) for _, _, goal in best.values() if not goal.met]
    if not changes:
        return ()
    disturbed = [_change(goal) for goal in guards.values() if _guard_matters(goal, changes)]
    return (*disturbed, *_ordered(changes))


def _strength(wish: Wish, goal: Goal) -> int:
    """A person before a profile, one thing before many; `isolate` moves interrupts only where nothing is said of interrupts."""
    return 4 * (not wish.weak) + 2 * (not goal.broad) + (goal.setting != "isolate")


def _guard_matters(goal: Goal, changes: Sequence[Change]) -> bool:
    """Remembered only beside a change of the setting that asks for it, and first, so that it is put right last."""
    return any(change.setting == goal.setting for change in changes)


def _change(goal: Goal) -> Change:
    return Change(
        setting=goal.setting,
        kind=goal.kind,
        target=goal.target,
        old=goal.now,
        new=goal.want,
        form=goal.form,
        optional=goal.optional,
        hint=goal.hint,
    )


def _ordered(changes: Sequence[Change]) -> list[Change]:
    to_performance = any(each.setting == "governor" and (each.new or "").strip() == "performance" for each in changes)
    early = _maximum_first(changes)

    def rank(change: Change) -> tuple[int, str, int]:
        folder = change.target.rpartition("/")[0]
        if change.setting == "energy-preference" and not to_performance:
            # intel_pstate takes no other preference than its own while the governor is `performance`.
            return ORDER.index("governor"), "~", 0
        if change.setting in ("frequency-min", "frequency-max"):
            second = (change.setting == "frequency-max") != (folder in early)
            return ORDER.index("frequency-min"), folder, int(second)
        return ORDER.index(change.setting), "", 0

    return sorted(changes, key=rank)


def _maximum_first(changes: Sequence[Change]) -> frozenset[str]:
    """Folders in which the new minimum lies above the old maximum: there the maximum has to be raised first."""
    old_max = {each.target.rpartition("/")[0]: each.old for each in changes if each.setting == "frequency-max"}
    found = set()
    for change in changes:
        folder = change.target.rpartition("/")[0]
        if change.setting == "frequency-min" and folder in old_max:
            new, old = (meaning(text or "", "number") for text in (change.new, old_max[folder]))
            if new.isdigit() and old.isdigit() and int(new) > int(old):
                found.add(folder)
    return frozenset(found)
