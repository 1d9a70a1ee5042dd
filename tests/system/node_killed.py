"""`node_killed.py FOLDER`: a node that is a folder, prepared and killed at every step there is; restored, killed again, restored.

A process of its own, which forks: each child is really killed, and each new one knows only what is on the disk.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fake_node import build_node
from node_child import forked


def main(folder: Path) -> None:
    step, killed = 0, True
    while killed:
        step += 1
        root = folder / str(step) / "root"
        node = build_node(root, cpus=2, interrupts=2, nodes=1)
        before = node.snapshot()
        killed = forked(str(root), "prepare", step)
        forked(str(root), "restore", step % 7 + 1)
        assert not forked(str(root), "restore", 0)
        assert node.snapshot() == before, f"killed at step {step}"
        assert not (root / "var/lib/ergates/node/journal.jsonl").exists()
    print(step)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
