"""Reads and writes one thing of a node: a file, a thread's cores, a card's driver, a module, a service, a swap area."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from ergates.drivers.nodes import modules, services
from ergates.drivers.nodes.cards import bind_card, card_state
from ergates.drivers.nodes.cores import thread_start
from ergates.drivers.nodes.memory import swap_areas
from ergates.drivers.nodes.tree import NodeTree, NotHereError
from ergates.experiment.node_forms import format_cpus, parse_cpus, written
from ergates.experiment.node_plan import Change

_GONE = (errno.ENOENT, errno.ENODEV, errno.ESRCH, errno.ENXIO)


def now_of(tree: NodeTree, change: Change) -> str | None:
    """What it says; None: it is not there (any more).

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        match change.kind:
            case "file":
                return tree.read(change.target)
            case "affinity":
                tid = _living(tree, change.target)
                return None if tid is None else format_cpus(tree.affinity(tid))
            case "card":
                return card_state(tree, change.target)
            case "module":
                return modules.module_state(tree, change.target)
            case "service":
                return services.active_units(tree, [change.target]).get(change.target)
            case "swap":
                return swap_areas(tree).get(change.target, "off")
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    except NotHereError as error:
        raise OSError(errno.EIO, str(error)) from error


def make(tree: NodeTree, change: Change, text: str) -> None:
    """Let it say `text`.

    Raises:
        OSError: the kernel, or the program that had to do it, refused.
    """
    match change.kind:
        case "file":
            tree.write(change.target, text)
        case "affinity":
            tid = _living(tree, change.target)
            if tid is None:
                raise OSError(errno.ESRCH, "the thread has ended")
            tree.set_affinity(tid, parse_cpus(text))
        case "card":
            bind_card(tree, change.target, text)
        case "module":
            _run(tree, ["modprobe" if text == modules.LOADED else "rmmod", "--", change.target])
        case "service":
            _run(tree, ["systemctl", "start" if text == services.ACTIVE else "stop", "--", change.target])
        case "swap":
            priority = ["-p", text] if text.isdigit() else []
            _run(tree, ["swapoff", change.target] if text == "off" else ["swapon", *priority, change.target])


def undo(tree: NodeTree, change: Change) -> None:
    """Write back what was there. Raises OSError."""
    make(tree, change, written(change.old, change.form))


def place_of(tree: NodeTree, change: Change) -> str:
    """For people."""
    match change.kind:
        case "file":
            return tree.shown(change.target)
        case "affinity":
            tid = change.target.partition("@")[0]
            return f"thread {tid} ({tree.text(f'proc/{tid}/comm') or 'ended'})"
        case "card":
            return f"PCI device {change.target} (driver, override)"
        case _:
            return f"{change.kind} {change.target}"


def may_change(tree: NodeTree, change: Change) -> bool:
    """Whether our rights suffice, as far as can be told without trying."""
    if change.kind == "file":
        return tree.writable(change.target)
    return os.geteuid() == 0 or change.kind == "affinity" or not tree.real


def _living(tree: NodeTree, target: str) -> int | None:
    """The thread a target means; None when its number belongs to another one by now, or to none."""
    tid, _, start = target.partition("@")
    return int(tid) if thread_start(tree, int(tid))[0] == int(start) else None


def _run(tree: NodeTree, argv: Sequence[str]) -> None:
    code, text = tree.run(argv)
    if code:
        raise OSError(errno.EIO, f"{' '.join(argv)} ended with {code}: {text.splitlines()[-1] if text else 'no word'}")
