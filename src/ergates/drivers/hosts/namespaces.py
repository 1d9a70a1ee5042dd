"""Network namespaces of this machine as hosts: each has its own interfaces, ports and links, and shares everything else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ergates.drivers.hosts.local_workers import LocalWorkers, Place, check_setup, host_names, run_setup
from ergates.drivers.hosts.network_namespaces import MOST, Switch, check_namespaces
from ergates.errors import UsageError
from ergates.experiment.host import ExperimentHost
from ergates.experiment.spec import HostGroup

TOKEN_CHARACTERS = 6


class NamespaceHosts:
    """See experiment/host.py, Hosts. All groups of this kind in one experiment are on one switch.

    Args:
        group: of the kind `namespaces`.
        place: of the experiment.
        before: hosts of other groups on the same switch that are numbered before these.
    """

    def __init__(self, group: HostGroup, place: Place, before: int = 0) -> None:
        self._group, self._place, self._before = group, place, before
        self._switch = switch_of(place)
        self._workers = LocalWorkers(group, place)
        self._numbers = range(before + 1, before + 1 + group.count)
        self._hosts = tuple(
            ExperimentHost(name=name, group=group.name, address=self._switch.address(number))
            for name, number in zip(host_names(group), self._numbers, strict=True)
        )

    def check(self) -> None:
        where = f"hosts.{self._group.name}"
        if self._numbers[-1] > MOST:
            raise UsageError(f"{where}: {self._numbers[-1]} namespaces on one switch\n  expected: at most {MOST}")
        check_namespaces(where, rate=self._group.rate_bit_s is not None, delay=bool(self._group.delay_ns))
        check_setup(self._group, self._place)

    def up(self) -> tuple[ExperimentHost, ...]:
        self._switch.make()
        for number in self._numbers:
            self._switch.add(number, self._group.rate_bit_s, self._group.delay_ns)
        enter = {host.name: self._switch.enter(n) for host, n in zip(self._hosts, self._numbers, strict=True)}
        run_setup(self._group, self._place, self._hosts, enter)
        return self._hosts

    def start_workers(self, store_file: Path, experiment: str) -> None:
        for host, number in zip(self._hosts, self._numbers, strict=True):
            self._workers.start(host, store_file, experiment, self._switch.enter(number))

    def gather(self, host: ExperimentHost, folder: str, into: Path) -> None:
        """Files are shared."""

    def forget(self, host: ExperimentHost, folders: Sequence[str]) -> None:
        """Files are shared."""

    def down(self) -> None:
        self._workers.end()
        for number in self._numbers:
            self._switch.remove(number)
        self._switch.remove_empty()


def switch_of(place: Place) -> Switch:
    """The switch of an experiment's namespaces, whether it is there or not."""
    return Switch(place.mark[:TOKEN_CHARACTERS])
