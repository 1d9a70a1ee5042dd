"""Prepares or restores a node that is a folder, in a child that kills itself by SIGKILL at a step."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from fake_node import CARD, FakeNode

from ergates.drivers.nodes.journal import journal_of
from ergates.drivers.nodes.prepare import carry_out, plan_node
from ergates.drivers.nodes.restore import undo_all
from ergates.experiment.node_plan import parse_wish

WISHES = (
    "governor=performance", "turbo=off", "frequency-min=2.4GHz", "hugepages=64", "swap=off", "services=quiet", "isolate=1",
    "transparent-hugepages=never", "modules=vfio-pci", f"card@{CARD}=vfio-pci", "smt=off",
)  # fmt: skip


def _work(root: str, what: str, die_at: int) -> None:
    node, steps = FakeNode(Path(root)), 0

    def step(_: str) -> None:
        nonlocal steps
        steps += 1
        if steps == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    node.seen = step
    if what == "prepare":
        carry_out(node, journal_of(node), plan_node(node, [parse_wish(wish) for wish in WISHES]).changes, print)
    else:
        assert undo_all(node, journal_of(node), force=False, tell=lambda line: None).left == 0


def forked(root: str, what: str, die_at: int) -> bool:
    """Whether a child of ours was killed at that step; False: it ended before."""
    child = os.fork()
    if child == 0:
        _work(root, what, die_at)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, f"{what} failed at {die_at}"
    return False
