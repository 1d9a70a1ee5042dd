"""This machine as a host, once or several times over: each is the whole machine, reached at the loopback address."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ergates.drivers.hosts.local_workers import LocalWorkers, Place, check_setup, host_names, run_setup
from ergates.experiment.host import ExperimentHost
from ergates.experiment.spec import HostGroup

LOOPBACK = "127.0.0.1"


class LocalHosts:
    """See experiment/host.py, Hosts; a simulated group is made by the same class: its workers are given their share.

    Args:
        group: of the kind `local` or `simulated`.
        place: of the experiment.
    """

    def __init__(self, group: HostGroup, place: Place) -> None:
        self._group, self._place = group, place
        self._workers = LocalWorkers(group, place)
        self._hosts: tuple[ExperimentHost, ...] = tuple(
            ExperimentHost(name=name, group=group.name, address=LOOPBACK, simulated=group.kind == "simulated")
            for name in host_names(group)
        )

    def check(self) -> None:
        check_setup(self._group, self._place)

    def up(self) -> tuple[ExperimentHost, ...]:
        run_setup(self._group, self._place, self._hosts, {})
        return self._hosts

    def start_workers(self, store_file: Path, experiment: str) -> None:
        for host in self._hosts:
            self._workers.start(host, store_file, experiment)

    def gather(self, host: ExperimentHost, folder: str, into: Path) -> None:
        """Files are shared."""

    def forget(self, host: ExperimentHost, folders: Sequence[str]) -> None:
        """Files are shared."""

    def down(self) -> None:
        self._workers.end()
