"""Who a member of a run is and where its files lie, from what its worker tells every task."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ergates.cluster.gang import role_of
from ergates.drivers.machine import host_name
from ergates.errors import UsageError
from ergates.experiment.host import ADDRESS_VARIABLE, FOLDER_VARIABLE, HERE_VARIABLE, HOST_LABEL, HOST_VARIABLE
from ergates.experiment.layout import attempt_folder, member_folder_name
from ergates.experiment.run import RunOrder, Seated

LABELS_VARIABLE = "ERG_LABELS"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberPlace:
    """Args:
    seat: as the others see it.
    gang: names this attempt's board; empty for a run of one host, which needs none.
    folder: the member's, absolute.
    here: what `{here}` means on this host.
    """

    seat: Seated
    gang: str
    folder: Path
    here: str


def place_of(order: RunOrder, env: Mapping[str, str]) -> MemberPlace:
    """The place of the member with this environment.

    Raises:
        UsageError: the environment is not one that a worker makes for a run of this size.
    """
    roles = tuple((each.role, each.count) for each in order.roles)
    size = sum(count for _, count in roles)
    rank, given = int(env.get("ERG_GANG_RANK", "0")), int(env.get("ERG_GANG_SIZE", "1"))
    if given != size or not 0 <= rank < size:
        raise UsageError(
            f"run {order.run.number} of {order.experiment} has {size} members, and this is rank {rank} of {given}"
            "\n  hint: its members are started by the workers of a cluster's store, all at once"
        )
    role = role_of(roles, rank)
    host = env.get(HOST_VARIABLE) or _labels(env).get(HOST_LABEL) or host_name()
    seat = Seated(
        rank=rank,
        role=role,
        index=sum(role_of(roles, each) == role for each in range(rank)),
        host=host,
        address=env.get(ADDRESS_VARIABLE) or host,
    )
    gang = f"{env.get('ERG_GANG_ID', '')}.{env.get('ERG_GANG_FENCE', '')}" if size > 1 else ""
    run_folder = Path(order.folder)
    if env.get(FOLDER_VARIABLE):  # this host does not see the folder of the others
        run_folder = Path(env[FOLDER_VARIABLE]) / run_folder.name
    attempt = attempt_folder(run_folder, int(env.get("ERG_ATTEMPT", "1")))
    folder = Path(os.path.abspath(attempt / member_folder_name(rank, role)))
    return MemberPlace(seat=seat, gang=gang, folder=folder, here=env.get(HERE_VARIABLE) or order.here)


def _labels(env: Mapping[str, str]) -> dict[str, str]:
    """`name=value,...`"""
    pairs = (each.partition("=") for each in env.get(LABELS_VARIABLE, "").split(","))
    return {name: value for name, _, value in pairs if name}
