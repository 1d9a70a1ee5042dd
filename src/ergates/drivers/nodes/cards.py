"""Which driver serves a PCI device: a network card for DPDK is taken from the kernel's driver and given to vfio-pci or uio."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress

from ergates.drivers.nodes.setting import Setting
from ergates.drivers.nodes.tree import NodeTree, NotHereError
from ergates.experiment.node_plan import Goal

_DEVICES, _DRIVERS = "sys/bus/pci/devices", "sys/bus/pci/drivers"
_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_DRIVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_NETWORK, _NONE = "0x02", "(null)"
_HINT = (
    "is the driver loaded (modules=vfio-pci)? vfio needs an IOMMU: intel_iommu=on or amd_iommu=on on the kernel's"
    " command line; dmesg says what failed"
)


def card_state(tree: NodeTree, address: str) -> str:
    """`DRIVER OVERRIDE`, each `-` where there is none.

    Raises:
        OSError: no such device.
    """
    override = tree.read(f"{_DEVICES}/{address}/driver_override").strip()
    return f"{tree.link(f'{_DEVICES}/{address}/driver') or '-'} {'-' if override in ('', _NONE) else override}"


def bind_card(tree: NodeTree, address: str, state: str) -> None:
    """Bring a device to a state as `card_state` tells it. May be repeated after having been cut off anywhere.

    Raises:
        OSError: the kernel refused a step.
    """
    driver, override = state.split()
    bound = tree.link(f"{_DEVICES}/{address}/driver") or "-"
    if bound not in ("-", driver):
        tree.write(f"{_DRIVERS}/{bound}/unbind", f"{address}\n")
    if driver == "-":
        tree.write(f"{_DEVICES}/{address}/driver_override", "\n" if override == "-" else f"{override}\n")
        if tree.link(f"{_DEVICES}/{address}/driver"):
            tree.write(f"{_DRIVERS}/{driver}/unbind", f"{address}\n")
        return
    if bound != driver:
        # A driver takes a device it does not know by itself only while the override names it.
        tree.write(f"{_DEVICES}/{address}/driver_override", f"{driver}\n")
        tree.write(f"{_DRIVERS}/{driver}/bind", f"{address}\n")
    tree.write(f"{_DEVICES}/{address}/driver_override", "\n" if override == "-" else f"{override}\n")


def _card(tree: NodeTree, where: str, value: str | None) -> Sequence[Goal]:
    if value is None and not where:
        found = [path.rpartition("/")[2] for path in tree.glob(f"{_DEVICES}/*")]
        cards = [address for address in found if (tree.text(f"{_DEVICES}/{address}/class") or "").startswith(_NETWORK)]
        if not cards:
            raise NotHereError("no network card on PCI")
        return [goal for address in cards for goal in _goal(tree, address, None)]
    if not _ADDRESS.fullmatch(where):
        raise ValueError(f"expected a PCI address such as card@0000:01:00.0, got {where!r}; `lspci -D` lists them")
    if value is not None and not _DRIVER.fullmatch(value):
        raise ValueError(f"expected the name of a driver such as vfio-pci, got {value!r}")
    if not tree.exists(f"{_DEVICES}/{where}/driver_override"):
        raise NotHereError(f"no PCI device {where} here whose driver can be chosen; `lspci -D` lists them")
    goals = _goal(tree, where, value)
    if value is not None and not all(goal.met for goal in goals):
        _refuse_in_use(tree, where)
    return goals


def _goal(tree: NodeTree, address: str, driver: str | None) -> list[Goal]:
    with suppress(OSError):
        want = None if driver is None else f"{driver} {driver}"
        now = card_state(tree, address)
        if driver is not None and now.split()[0] == driver:
            want = now
        return [Goal(setting="card", kind="card", target=address, now=now, want=want, broad=False, hint=_HINT)]
    return []


def _refuse_in_use(tree: NodeTree, address: str) -> None:
    """The card by which we are reached must not go away under us."""
    for path in tree.glob(f"{_DEVICES}/{address}/net/*") + tree.glob(f"{_DEVICES}/{address}/virtio*/net/*"):
        name = path.rpartition("/")[2]
        if tree.text(f"{path}/operstate") not in ("down", None):
            raise ValueError(
                f"{name} is up on this card, and its addresses would be lost (restore gives back the driver, not them):"
                f" take it down first (ip link set {name} down) if nothing needs it"
            )


SETTINGS = (
    Setting(
        "card",
        "a driver such as vfio-pci, uio_pci_generic, or the kernel's own",
        "who serves a network card; queues and coalescing are ethtool's (ethtool -l and -c show them)",
        _card,
        "a PCI address such as 0000:01:00.0",
        lambda goals: ", ".join(f"{goal.target} {goal.now.split()[0]}" for goal in goals),
    ),
)
