"""Settings of nodes that Slurm gave: `erg node` in a step on each, its journal in the experiment's folder, which the nodes share.

A node may have been taken away before its settings were undone: then it is said, with what to do, for nobody else knows.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ergates.drivers.hosts.far_settings import (
    JOURNAL_FILE,
    JOURNAL_FOLDER,
    LINES_SHOWN,
    STEP_S,
    changes_in,
    prepare_words,
    refusal,
    restore_words,
    told_once,
)
from ergates.drivers.hosts.local_workers import MARK, Place
from ergates.drivers.hosts.slurm_allocation import step_prefix
from ergates.drivers.placers.slurm_array import submission_environment
from ergates.errors import ErgatesError, UsageError
from ergates.experiment.spec import HostGroup

PARALLEL = 16
_WANTED = "wanted"


class SlurmSettings:
    """Those of one group.

    Args:
        group: of the file.
        place: of the experiment, on a file system that the nodes share.
        say: told what is changed, and what is left.
    """

    def __init__(self, group: HostGroup, place: Place, say: Callable[[str], None]) -> None:
        self._group, self._place, self._say = group, place, say
        self._folder = (place.folder / f"{JOURNAL_FOLDER}.{group.name}").absolute()
        self._made: set[tuple[str, str]] = set()

    def make(self, job: str, nodes: Sequence[str]) -> None:
        """Make them on nodes of a job where this process has not; none is changed when one refuses.

        Raises:
            UsageError: a node lacks something, or it is not our right there.
            ErgatesError: something did not take.
        """
        due = [node for node in nodes if (job, node) not in self._made]
        if not due or not (self._group.prepare or self._folder.exists()):
            return
        wanted = " ".join(f"{name}={value}" for name, value in self._group.prepare)
        if self._before() not in ("", wanted):  # what is not wanted any more goes back first
            self._undo(job, self._journals() & set(due))
        if self._group.prepare:
            looked = self._each(job, due, lambda _: prepare_words(self._group.prepare, ""))
            self._refuse({node: problem for node, (problem, _) in looked.items()}, "cannot be prepared", UsageError)
            for line in told_once(self._group.name, {node: changes_in(err) for node, (_, err) in looked.items()}):
                self._say(line)
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._folder / _WANTED).write_text(wanted)
            made = self._each(job, due, lambda node: prepare_words(self._group.prepare, self._state(node)))
            self._refuse({node: problem for node, (problem, _) in made.items()}, "could not be prepared", ErgatesError)
        self._made.update((job, node) for node in due)

    def undo(self, job: str, nodes: Sequence[str]) -> None:
        """Put back what was there first, on those nodes of a job that may have been prepared; say which others were.

        Raises:
            ErgatesError: something is not as it was, and stays remembered.
        """
        if not self._folder.exists():
            return
        there = set(nodes)
        away = sorted(self._journals() - there)
        for node in away[:LINES_SHOWN]:
            self._say(
                f"hosts.{self._group.name}: {node} is not ours any more, and as it was prepared"
                f"\n  hint: unless it was booted since, there: erg node restore --state {self._state(node)}"
            )
        self._undo(job, there)
        if not away:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._made.clear()

    def _undo(self, job: str, nodes: set[str]) -> None:
        # Whether there is a journal is looked for on the node: our view of a shared folder may be old.
        undone = self._each(job, sorted(nodes), lambda node: restore_words(self._state(node)))
        self._refuse({node: problem for node, (problem, _) in undone.items()}, "not as it was", ErgatesError)

    def _each(self, job: str, nodes: Sequence[str], words: Callable[[str], list[str]]) -> dict[str, tuple[str, str]]:
        """What refused on each node, and what was printed on standard error."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            return dict(zip(nodes, pool.map(lambda node: self._step(job, node, words(node)), nodes), strict=True))

    def _step(self, job: str, node: str, words: Sequence[str]) -> tuple[str, str]:
        try:
            done = subprocess.run(
                [*step_prefix(job, node), sys.executable, "-P", "-m", "ergates", *words],
                cwd=self._place.here,
                env={**submission_environment(os.environ), MARK: self._place.mark, "SLURM_CPU_BIND": "none"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=STEP_S,
                start_new_session=True,  # Ctrl-C must not cut it in two
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"`erg node` did not end within {STEP_S:.0f} s", ""
        return refusal(done.returncode, done.stdout, done.stderr), done.stderr

    def _refuse(self, found: Mapping[str, str], what: str, kind: type[ErgatesError]) -> None:
        failed = {node: problem for node, problem in found.items() if problem}
        if failed:
            lines = [f"  {node}: {problem.replace(chr(10), chr(10) + '  ')}" for node, problem in failed.items()]
            heading = f"hosts.{self._group.name}: {len(failed)} of {len(found)} nodes: {what}"
            raise kind("\n".join([heading, *lines]))

    def _before(self) -> str:
        try:
            return (self._folder / _WANTED).read_text()
        except FileNotFoundError:
            return ""

    def _journals(self) -> set[str]:
        return {path.parent.name for path in self._folder.glob(f"*/{JOURNAL_FILE}")}

    def _state(self, node: str) -> str:
        return str(Path(self._folder, node))
