"""The same group tree in another process: from the words that a tree says of itself (`spec`)."""

from __future__ import annotations

from ergates.drivers.cgroups.tree import ProcessTree
from ergates.drivers.cgroups.v1 import V1Tree
from ergates.drivers.cgroups.v2 import V2Tree

TYPE_CHECKING = False  # importing typing would cost every slot a megabyte
if TYPE_CHECKING:
    from typing import Any

    from ergates.drivers.cgroups.group import GroupTree


def rebuild(spec: dict[str, Any]) -> GroupTree:
    """Make a tree from `GroupTree.spec()`; creates nothing in the kernel.

    Raises:
        ValueError: not a spec of ours.
    """
    match spec.get("kind"):
        case "v1":
            return V1Tree(dict(spec["parents"]))
        case "v2":
            return V2Tree(spec["parent"])
        case "tree":
            return ProcessTree(spec["proc"])
        case other:
            raise ValueError(f"expected a group tree of kind v1, v2 or tree, got {other!r}")
