"""Services that wake up at times of their own. Only ever stopped, and started again by restore; nothing new is started."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ergates.drivers.nodes.setting import Setting, untold
from ergates.drivers.nodes.tree import NodeTree, NotHereError
from ergates.experiment.node_plan import Goal

DISTURBING = (
    "irqbalance.service", "tuned.service", "power-profiles-daemon.service", "thermald.service", "ondemand.service",
    "cron.service", "crond.service", "anacron.timer", "atd.service", "unattended-upgrades.service", "apt-daily.timer",
    "apt-daily-upgrade.timer", "dnf-makecache.timer", "packagekit.service", "fwupd-refresh.timer", "man-db.timer",
    "plocate-updatedb.timer", "mlocate-updatedb.timer", "fstrim.timer", "e2scrub_all.timer", "sysstat-collect.timer",
)  # fmt: skip
"""The first five would set back what is set here; the others are work that comes unasked."""
ACTIVE, STOPPED = "active", "inactive"
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_.@-]*")
_NO_SYSTEMD = "no systemd here: stop what disturbs by its own means"


def active_units(tree: NodeTree, units: Iterable[str]) -> dict[str, str]:
    """State of each unit that is known here.

    Raises:
        NotHereError: no systemd.
    """
    if not tree.exists("run/systemd/system") or tree.program("systemctl") is None:
        raise NotHereError(_NO_SYSTEMD)
    names = list(units)
    code, text = tree.run(["systemctl", "show", "--property=Id,LoadState,ActiveState", "--", *names])
    if code:
        raise NotHereError(f"systemctl: {text}")
    found = {}
    for block in text.split("\n\n"):
        fields = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if fields.get("LoadState") == "loaded":
            found[fields.get("Id", "")] = (
                ACTIVE if fields.get("ActiveState") in ("active", "activating", "reloading") else STOPPED
            )
    return {name: found[name] for name in names if name in found}


def _goal(setting: str, unit: str, state: str, stop: bool, broad: bool) -> Goal:
    return Goal(
        setting=setting,
        kind="service",
        target=unit,
        now=state,
        want=STOPPED if stop else None,
        broad=broad,
        hint=f"systemctl status {unit} says why",
    )


def _services(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    if where:
        raise ValueError(f"to stop one service say service@{where}=stopped")
    if value not in (None, "quiet"):
        raise ValueError(f"expected quiet, got {value!r}")
    states = active_units(tree, DISTURBING)
    return [_goal("services", unit, state, state == ACTIVE, True) for unit, state in states.items() if state == ACTIVE]


def _service(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    if value is None and not where:
        return ()
    if not _UNIT.fullmatch(where):
        raise ValueError(f"expected the name of a unit such as service@cron, got {where!r}")
    if value not in (None, "stopped"):
        raise ValueError(f"expected stopped (nothing is started here), got {value!r}")
    unit = where if "." in where else f"{where}.service"
    states = active_units(tree, [unit])
    if unit not in states:
        raise NotHereError(f"no unit {unit} here")
    return (_goal("service", unit, states[unit], value == "stopped", False),)


SETTINGS = (
    Setting(
        "services",
        "quiet: stops those of a list that are there (cron, updates, irqbalance, tuned, ...)",
        "cron, updates and indexers take cores and disks at times of their own; irqbalance and tuned undo what is set here",
        _services,
        words=lambda goals: ", ".join(goal.target for goal in goals) or "none of the list is active",
    ),
    Setting(
        "service",
        "stopped",
        "whatever else runs there and disturbs",
        _service,
        "a unit such as cron",
        untold,
    ),
)
