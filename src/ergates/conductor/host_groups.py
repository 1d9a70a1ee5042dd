"""The one place that picks what raises a group of hosts, by its kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ergates.drivers.hosts.local_workers import Place
from ergates.errors import UsageError
from ergates.experiment.host import Hosts
from ergates.experiment.spec import Experiment, HostGroup

HERE = frozenset({"local", "simulated", "namespaces"})
"""Kinds whose hosts are this machine: its files and its Unix sockets are theirs."""


def hosts_of(experiment: Experiment, place: Place, say: Callable[[str], None]) -> dict[str, Hosts]:
    """What raises each group, by its name, in the order of the file. Nothing is done yet.

    Args:
        experiment: whose.
        place: of it.
        say: told what is waited for.
    """
    found: dict[str, Hosts] = {}
    namespaces = 0
    for group in experiment.hosts:
        found[group.name] = _hosts_of(experiment, group, place, namespaces, say)
        namespaces += group.count if group.kind == "namespaces" else 0
    return found


def check_all(hosts: Sequence[Hosts], *more: Callable[[], None]) -> None:
    """Every group, and whatever else has to be there; all that refuse are named at once.

    Raises:
        UsageError: something cannot serve. Nothing was changed.
    """
    refused = []
    for check in (*(each.check for each in hosts), *more):
        try:
            check()
        except UsageError as error:
            refused.append(str(error))
    if refused:
        raise UsageError("\n".join(refused))


def all_here(experiment: Experiment) -> bool:
    """Whether every host is this machine."""
    return all(group.kind in HERE for group in experiment.hosts)


def _hosts_of(
    experiment: Experiment, group: HostGroup, place: Place, namespaces: int, say: Callable[[str], None]
) -> Hosts:
    match group.kind:
        case "local" | "simulated":
            from ergates.drivers.hosts.local import LocalHosts

            return LocalHosts(group, place)
        case "namespaces":
            from ergates.drivers.hosts.namespaces import NamespaceHosts

            return NamespaceHosts(group, place, before=namespaces)
        case "slurm":
            from ergates.drivers.hosts.slurm import SlurmHosts

            return SlurmHosts(group, place, say, store_here=not (experiment.store or experiment.listen))
        case "ssh":
            from ergates.drivers.hosts.ssh import SshHosts

            return SshHosts(group, place, say)
