"""Hosts of an experiment, as whoever conducts it needs them: checked, raised, given a worker each, gathered from, taken down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

HOST_LABEL, GROUP_LABEL, EXPERIMENT_LABEL = "host", "group", "experiment"
"""Labels of the workers of an experiment. A run asks for EXPERIMENT_LABEL, each of its roles for GROUP_LABEL."""
WHOLE_HOST = "host"
"""The named resource of which each of these workers has one and each member takes one: a host makes one run at a time."""
ADDRESS_VARIABLE, HERE_VARIABLE, FOLDER_VARIABLE = (
    "ERG_EXPERIMENT_ADDRESS",
    "ERG_EXPERIMENT_HERE",
    "ERG_EXPERIMENT_FOLDER",
)
"""In the environment of a worker whose host has another address than its name, or does not share our files."""
HOST_VARIABLE = "ERG_EXPERIMENT_HOST"
"""In the environment of every worker: its host's name in the experiment."""


class ExperimentHost(Struct, frozen=True, kw_only=True):
    """One host: `name` is its own in the experiment and its worker's HOST_LABEL; `address` is how the others reach it."""

    name: str
    group: str
    address: str
    simulated: bool = False


def worker_labels(experiment: str, group: str, host: str) -> dict[str, str]:
    """Of the worker of one host: name of the experiment, of the group, of the host."""
    return {EXPERIMENT_LABEL: experiment, GROUP_LABEL: group, HOST_LABEL: host}


class Hosts(Protocol):
    """One group of hosts. Every call may be repeated, by another process too: what was there already is taken over or cleared."""

    def check(self) -> None:
        """Whether each can serve; changes nothing.

        Raises:
            UsageError: one cannot; all that cannot are named, with the reason and what to do.
        """
        ...

    def up(self) -> tuple[ExperimentHost, ...]:
        """Make what has to be made: namespaces, an allocation, folders. What an earlier process left is taken over or cleared."""
        ...

    def start_workers(self, store_file: Path, experiment: str) -> None:
        """A worker with its labels on each host that has none alive; returns when they were started, not when they registered."""
        ...

    def gather(self, host: ExperimentHost, folder: str, into: Path) -> None:
        """Bring a member's folder of that host here; nothing to do where files are shared. `into` appears whole or not at all."""
        ...

    def forget(self, host: ExperimentHost, folders: Sequence[str]) -> None:
        """Delete run folders on a host whose content was gathered; where files are shared nothing is deleted."""
        ...

    def down(self) -> None:
        """End the workers and undo `up`. Nothing is left running."""
        ...
