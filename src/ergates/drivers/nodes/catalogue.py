"""All settings by name, what the profiles want of them, and the goals that wishes come to on this node."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from ergates.drivers.nodes import cards, cores, frequency, interrupts, kernel, memory, modules, services
from ergates.drivers.nodes.setting import Setting
from ergates.drivers.nodes.tree import NodeTree
from ergates.errors import UsageError
from ergates.experiment.node_plan import Goal, Wish

SETTINGS: dict[str, Setting] = {
    setting.name: setting
    for family in (frequency, cores, memory, interrupts, services, kernel, modules, cards)
    for setting in family.SETTINGS
}
_ALIASES = {"hugepages-2M": "hugepages", "thp": "transparent-hugepages", "epp": "energy-preference", "boost": "turbo"}
_QUIET = (
    ("governor", "performance"),
    ("services", "quiet"),
    ("watchdogs", "off"),
    ("swap", "off"),
    ("numa-balancing", "off"),
)
PROFILES: dict[str, tuple[tuple[str, str], ...]] = {
    "latency": (
        *_QUIET,
        ("turbo", "off"),
        ("energy-preference", "performance"),
        ("cstates", "2us"),
        ("transparent-hugepages", "never"),
        ("clocksource", "tsc"),
    ),
    "throughput": (*_QUIET, ("turbo", "on"), ("energy-preference", "performance"), ("cstates", "all")),
    "energy": (*_QUIET, ("turbo", "off"), ("cstates", "all"), ("modules", "msr"), ("perf-paranoid", "0")),
}
"""latency: nothing sleeps deeply or waits; throughput: as fast as it goes; energy: comparable joules, readable counters."""


def profile_wishes(profile: str) -> tuple[Wish, ...]:
    """What a profile wants; gives way to what a person writes.

    Raises:
        UsageError: no such profile.
    """
    if profile not in PROFILES:
        raise UsageError(f"no profile {profile!r}; there are {', '.join(PROFILES)}")
    return tuple(Wish(name=name, value=value, weak=True) for name, value in PROFILES[profile])


def setting_named(name: str) -> Setting:
    """By its name, or another that people use.

    Raises:
        UsageError: unknown; names the nearest.
    """
    found = SETTINGS.get(_ALIASES.get(name, name))
    if found is None:
        close = get_close_matches(name, [*SETTINGS, *_ALIASES], n=1, cutoff=0.4)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(SETTINGS)}"
        raise UsageError(f"no setting {name!r}\n  hint: {hint}")
    return found


def canonical(wish: Wish) -> Wish:
    """With the setting's own name, so that two names of one setting meet. Raises UsageError."""
    return Wish(name=setting_named(wish.name).name, where=wish.where, value=wish.value, weak=wish.weak)


def goals_of(tree: NodeTree, wish: Wish) -> Sequence[Goal]:
    """What a wish comes to here.

    Raises:
        UsageError: a value that cannot be.
        NotHereError: this node has no such thing.
    """
    setting = setting_named(wish.name)
    try:
        return setting.look(tree, wish.where, wish.value)
    except ValueError as error:
        values = setting.values + (f"; WHERE is {setting.place}" if setting.place else "")
        raise UsageError(f"{wish}: {error}\n  expected: {values}") from None
