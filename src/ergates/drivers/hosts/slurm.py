"""Hosts that Slurm gives (slurm_nodes.py): a worker on each node, a step of its own, with files that all share.

A step is started by an srun on this machine that outlives us; a worker ends when its srun does, and is started again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ergates.drivers.hosts.local_workers import Place, check_setup, run_setup
from ergates.drivers.hosts.slurm_allocation import step_prefix, worker_command, worker_environment
from ergates.drivers.hosts.slurm_nodes import STEP_LOOK_S, SlurmNodes
from ergates.drivers.hosts.slurm_settings import SlurmSettings
from ergates.errors import ErgatesError
from ergates.experiment.host import ExperimentHost
from ergates.experiment.spec import HostGroup

START_S = 60.0
"""Until a step shows up."""


class SlurmHosts:
    """The Protocol `Hosts` for one group of kind `slurm`.

    Args:
        group: of the file.
        place: of the experiment, on a file system that the nodes share.
        say: told what is waited for.
        store_here: whether the store listens on this machine's loopback only.
    """

    def __init__(
        self, group: HostGroup, place: Place, say: Callable[[str], None] = print, *, store_here: bool = False
    ) -> None:
        self._group, self._place = group, place
        self._nodes = SlurmNodes(group, place, say, store_here=store_here)
        self._settings = SlurmSettings(group, place, say)
        self._started: dict[int, str] = {}

    def check(self) -> None:
        """See `Hosts.check`."""
        check_setup(self._group, self._place)
        self._nodes.check()

    def up(self) -> tuple[ExperimentHost, ...]:
        """See `Hosts.up`. Waits as long as Slurm lets us wait, and says why.

        Raises:
            UsageError: a node lacks a setting that is wanted; only a node that is ours can say that.
        """
        held = self._nodes.hold()
        hosts = tuple(ExperimentHost(name=node, group=self._group.name, address=at) for node, at in held.nodes)
        run_setup(self._group, self._place, hosts, {host.name: step_prefix(held.job, host.name) for host in hosts})
        self._settings.make(held.job, [host.name for host in hosts])
        return hosts

    def start_workers(self, store_file: Path, experiment: str) -> None:
        """See `Hosts.start_workers`. Where the allocation has ended another one is asked for, and not waited for here.

        Raises:
            ErgatesError: a worker does not start, or allocations end as soon as they begin.
        """
        held = self._nodes.held_now()
        if held is None:
            return
        self._reap()
        there = {node for _, node in self._nodes.steps(held.job)}
        missing = [(node, address) for node, address in held.nodes if node not in there]
        self._settings.make(held.job, [node for node, _ in missing])
        begun = {node: self._start(held.job, node, address, store_file, experiment) for node, address in missing}
        self._wait_for_steps(held.job, begun)

    def down(self) -> None:
        """See `Hosts.down`: workers give back what runs, settings go back, the job ends if it is ours."""
        try:
            held = self._nodes.end_workers()
            self._settings.undo(
                "" if held is None else held.job, [] if held is None else [node for node, _ in held.nodes]
            )
        finally:
            self._nodes.release()
            self._reap()

    # --- files ----------------------------------------------------------------------------------------

    def gather(self, host: ExperimentHost, folder: str, into: Path) -> None:
        """See `Hosts.gather`: the nodes share our files."""

    def forget(self, host: ExperimentHost, folders: Sequence[str]) -> None:
        """See `Hosts.forget`: nothing is there that is not here."""

    # --- workers ------------------------------------------------------------------------------------

    def _start(self, job: str, node: str, address: str, store_file: Path, experiment: str) -> int:
        command = worker_command(self._group, experiment, job, node, self._nodes.step_name(node), store_file.absolute())
        log = os.open(self._log(node), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
            environment = worker_environment(os.environ, node, address)
            # It outlives us: the worker ends when its srun does.
            pid = os.posix_spawnp(command[0], command, environment, file_actions=actions, setsid=True)
        finally:
            os.close(log)
            os.close(null)
        self._started[pid] = node
        return pid

    def _wait_for_steps(self, job: str, begun: dict[str, int]) -> None:
        until = time.monotonic() + START_S
        while begun:
            there = {node for _, node in self._nodes.steps(job)}
            self._reap()
            for node, pid in list(begun.items()):
                if node in there:
                    del begun[node]
                elif pid not in self._started:
                    raise ErgatesError(
                        f"hosts.{self._group.name}: the worker on {node} ended at once: {self._last_words(node)}"
                        f"\n  its log: {self._log(node)}"
                    )
            if begun and time.monotonic() > until:
                raise ErgatesError(
                    f"hosts.{self._group.name}: no worker started on {', '.join(begun)} within {START_S:.0f} s"
                    f"\n  its log: {self._log(next(iter(begun)))}"
                )
            if begun:
                time.sleep(STEP_LOOK_S)

    def _reap(self) -> None:
        for pid in list(self._started):
            with contextlib.suppress(ChildProcessError):
                if not os.waitpid(pid, os.WNOHANG)[0]:
                    continue
            del self._started[pid]

    def _log(self, node: str) -> Path:
        return self._place.hosts / f"{self._group.name}.{node}.log"

    def _last_words(self, node: str) -> str:
        lines = self._log(node).read_text(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return next(
            (line for line in reversed(said) if line.startswith("erg:")), said[-1] if said else "without a word"
        )
