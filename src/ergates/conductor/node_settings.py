"""Settings of this machine that an experiment wants: made before its runs, undone after them, whatever was killed in between.

The journal of what was there lies in the experiment's folder, so that `erg node restore` and other experiments have theirs. Hosts
that are other machines are prepared there, by what raises them (drivers/hosts/far_settings.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ergates.conductor.host_groups import HERE
from ergates.drivers.hosts.local_workers import Place
from ergates.errors import ErgatesError
from ergates.experiment.spec import Experiment

if TYPE_CHECKING:
    from ergates.experiment.node_plan import Change

JOURNAL = "node"
_SHOWN = 3


class NodeSettings:
    """Args: see `hosts_of`; `root` of another tree than the machine's own, for tests."""

    def __init__(
        self, experiment: Experiment, place: Place, say: Callable[[str], None], root: Path = Path("/")
    ) -> None:
        self._groups = [group for group in experiment.hosts if group.prepare and group.kind in HERE]
        self._state, self._say, self._root = place.folder / JOURNAL, say, root

    def check(self) -> None:
        """Whether they can be made; changes nothing.

        Raises:
            UsageError: one is not there, or not our right.
        """
        if self._groups:
            self._changes()

    def up(self) -> None:
        """Make them.

        Raises:
            ErgatesError: one did not take; all are undone.
        """
        if not self._groups:
            return
        from ergates.drivers.nodes.journal import journal_of
        from ergates.drivers.nodes.knobs import place_of
        from ergates.drivers.nodes.prepare import carry_out
        from ergates.drivers.nodes.tree import NodeTree

        self._state.mkdir(parents=True, exist_ok=True, mode=0o700)
        tree, changes = NodeTree(self._root), self._changes()
        for change in changes:
            self._say(f"{place_of(tree, change)}: {change.old.strip() or '(empty)'} → {(change.new or '').strip()}")
        outcomes = carry_out(tree, journal_of(tree, self._state), changes, self._say)
        failed = [f"{outcome.change.target}: {outcome.problem}" for outcome in outcomes if not outcome.ok]
        if failed:
            self.down()
            raise ErgatesError("settings did not take: " + "; ".join(failed[:_SHOWN]))

    def down(self) -> None:
        """Undo what was made, by this process or an earlier one. What cannot be undone is said, and stays remembered."""
        if not self._state.exists():
            return
        from ergates.drivers.nodes.restore import not_back, restore_node

        restored = restore_node(root=self._root, state=self._state, tell=self._say)
        for thing in not_back(restored.things) if restored.left else ():
            self._say(f"not as it was: {thing.change.target}: {thing.problem or 'not there now'}")
        if restored.left:
            self._say(f"mend the cause, then: erg node restore --state {self._state}")
        else:
            shutil.rmtree(self._state, ignore_errors=True)

    def _changes(self) -> Sequence[Change]:
        from ergates.drivers.nodes.prepare import plan_node, refuse_forbidden
        from ergates.drivers.nodes.tree import NodeTree
        from ergates.experiment.node_plan import wish_of

        tree = NodeTree(self._root)
        wishes = dict.fromkeys(wish_of(name, value) for group in self._groups for name, value in group.prepare)
        planned = plan_node(tree, list(wishes))
        planned.refuse_missing()
        refuse_forbidden(tree, planned.changes)
        return planned.changes
