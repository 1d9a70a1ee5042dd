"""Policies of a node by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Protocol, get_args

from ergates.cluster.node import NodeCapacity
from ergates.errors import UsageError
from ergates.taskqueue.node_events import NodeAction, NodeEvent
from ergates.taskqueue.node_policy import NodePolicy
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.rivals.node_rules import DISTCOMP, FIXED_SLOTS, KILL_NEWEST, RuleOfThumb
from ergates.taskqueue.store import PastPeak
from ergates.units import Nanoseconds

PolicyName = Literal["ours", "distcomp", "fixed", "kill-newest"]


class Policy(Protocol):
    """What a worker's loop and a simulator drive."""

    def handle(self, event: NodeEvent, now_ns: Nanoseconds) -> list[NodeAction]: ...

    def check_invariants(self) -> None: ...

    def learned(self) -> list[PastPeak]:
        """Peaks seen since the last call, for the store to remember."""
        ...

    def unfit_classes(self, now_ns: Nanoseconds) -> tuple[int, ...]:
        """Ids of offered classes that this node cannot serve as it is: for the next exchange."""
        ...


def make_policy(
    name: str,
    capacity: NodeCapacity,
    settings: NodeSettings,
    history: Iterable[PastPeak] = (),
    *,
    ends_ns: Nanoseconds | None = None,
) -> Policy:
    """The policy of that name.

    Args:
        name: `ours` learns and packs; `distcomp` is distComp's rule in shares of this node; `fixed` starts as many as
            cores (or `settings.jobs`) admit and never gives back; `kill-newest` kills the newest and tries it again.
        capacity: of the node.
        settings: of the node.
        history: peaks remembered from earlier runs, for `ours`.
        ends_ns: when the worker ends, by its own clock; None when that is not known.

    Raises:
        UsageError: no such policy.
    """
    match name:
        case "ours":
            return NodePolicy(capacity, settings, history, ends_ns=ends_ns)
        case "distcomp":
            return RuleOfThumb(capacity, settings, DISTCOMP, ends_ns=ends_ns)
        case "fixed":
            return RuleOfThumb(capacity, settings, FIXED_SLOTS, ends_ns=ends_ns)
        case "kill-newest":
            return RuleOfThumb(capacity, settings, KILL_NEWEST, ends_ns=ends_ns)
    raise UsageError(f"no memory policy {name!r}\n  expected: one of {', '.join(get_args(PolicyName))}")
