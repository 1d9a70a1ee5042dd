"""Which attempts wait for their inputs, and which are over but for their outputs. staging.py does the carrying.

Inputs are sent for as soon as a task is leased, so that those of the next tasks arrive while others run. An attempt that is
started before its own are here holds its cores meanwhile. One that has ended does not: its outputs travel while others run,
unless too many do so already.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ergates.agent.scratch import Scratch
from ergates.agent.staging import Staging, TransferEnded
from ergates.agent.transfer import WORK, Carried
from ergates.cluster.attempt import Attempt
from ergates.cluster.job import JobSpec
from ergates.cluster.task import JobId
from ergates.errors import LaunchError
from ergates.taskqueue.data_paths import carries, has_work_directory
from ergates.taskqueue.launching import AttemptKey
from ergates.taskqueue.node_events import StartAttempt
from ergates.taskqueue.store import Lease

FREE_WHILE_BRINGING = 8
"""So many attempts may bring their outputs without holding their cores: else a slow place would fill the disk with results."""

Start = tuple[StartAttempt, Lease]


@dataclass(slots=True)
class Bringing:
    """An attempt that succeeded, if its outputs arrive. `told`: the policy was told that it ended."""

    lease: Lease
    attempt: Attempt
    result: bytes | None
    told: bool


class Carrying:
    """The files of one worker's attempts.

    Args:
        staging: carries them.
        scratch: where the attempts' own directories are.
        specs: of the jobs.
    """

    def __init__(self, staging: Staging, scratch: Scratch, specs: Mapping[JobId, JobSpec]) -> None:
        self._staging, self._scratch, self._specs = staging, scratch, specs
        self._here: set[AttemptKey] = set()
        """Their inputs are here."""
        self._awaited: dict[AttemptKey, Start] = {}
        """To be started when their inputs are here."""
        self._bringing: dict[AttemptKey, Bringing] = {}
        self._forgotten: set[AttemptKey] = set()
        """Nobody asks what becomes of their transfers."""

    def fileno(self) -> int:
        """Readable when `poll` has something to tell."""
        return self._staging.fileno()

    def __len__(self) -> int:
        return len(self._awaited) + len(self._bringing)

    def __contains__(self, key: AttemptKey) -> bool:
        return key in self._awaited or key in self._bringing

    @property
    def awaiting(self) -> int:
        """How many could start but for their inputs."""
        return len(self._awaited)

    @property
    def trouble(self) -> str:
        """What the world refused last, in words."""
        return self._staging.trouble

    # --- before it starts ---------------------------------------------------------------------

    def leased(self, lease: Lease) -> None:
        """Send for what it needs."""
        if not carries(lease.spec):
            return
        try:
            carried = self._carried(lease)
        except LaunchError as error:
            self._staging.refuse(_key(lease), error)
        else:
            self._staging.fetch(_key(lease), carried)

    def ready(self, starts: Sequence[Start]) -> list[Start]:
        """Those that can start now; the others will, when what they need is here."""
        now = []
        for start, lease in starts:
            if start.key in self._here or not carries(lease.spec):
                self._here.discard(start.key)
                now.append((start, lease))
            else:
                self._awaited[start.key] = (start, lease)
        return now

    def directories(self, lease: Lease) -> tuple[str, str]:
        """The attempt's own directory and the work directory in it.

        Both empty where it brings no files along: its slot has a directory for it. Raises LaunchError.
        """
        if not has_work_directory(lease.spec, self._specs[lease.job]):
            return "", ""
        scratch = self._scratch.make(_key(lease))
        work = f"{scratch}/{WORK}"
        try:
            os.makedirs(work, 0o700, exist_ok=True)
        except OSError as error:
            raise LaunchError(f"no work directory {work}: {error.strerror}") from error
        return scratch, work

    def _carried(self, lease: Lease) -> Carried:
        folder = Path(self._scratch.make(_key(lease)))
        return Carried(spec=lease.spec, data=self._specs[lease.job].data, folder=folder)

    # --- after it ended -----------------------------------------------------------------------

    def bring(self, lease: Lease, attempt: Attempt, result: bytes | None) -> bool:
        """Bring back what it has written; returns whether it still holds its cores meanwhile."""
        told = sum(each.told for each in self._bringing.values()) < FREE_WHILE_BRINGING
        self._bringing[_key(lease)] = Bringing(lease, attempt, result, told)
        self._staging.put(_key(lease), self._carried(lease))
        return not told

    def is_bringing(self, key: AttemptKey) -> bool:
        """Whether it has ended, but for its outputs."""
        return key in self._bringing

    def brought(self, key: AttemptKey) -> Bringing | None:
        """Its outputs are where they belong, or will not get there; None for one that has not started yet."""
        return self._bringing.pop(key, None)

    def arrived(self, key: AttemptKey) -> Start | None:
        """Its inputs are here; returns it when it was only waiting for them."""
        self._here.add(key)
        return self._awaited.pop(key, None)

    def poll(self) -> list[TransferEnded]:
        """What ended. The directory of what was stopped is removed."""
        ended = []
        for event in self._staging.poll():
            if event.key in self._forgotten:
                self._forgotten.discard(event.key)
                self._scratch.remove(event.key)
            else:
                ended.append(event)
        return ended

    # --- away with it -------------------------------------------------------------------------

    def waiting(self) -> list[AttemptKey]:
        """Of those that could start but for their inputs."""
        return list(self._awaited)

    def keys(self) -> list[AttemptKey]:
        """Of all that would otherwise run."""
        return [*self._awaited, *self._bringing]

    def drop(self, key: AttemptKey) -> Lease | None:
        """Forget it, stop its transfer and remove its directory, at once or when the transfer has ended.

        Returns:
            Of what waited for its inputs, or for its outputs to be brought; None for what is only leased, or not ours.
        """
        start, bringing = self._awaited.pop(key, None), self._bringing.pop(key, None)
        self._here.discard(key)
        if self._staging.busy(key):
            self._forgotten.add(key)
            self._staging.stop(key)
        else:
            self._scratch.remove(key)
        return bringing.lease if bringing is not None else None if start is None else start[1]

    def close(self) -> None:
        """End everything."""
        self._staging.close()


def _key(lease: Lease) -> AttemptKey:
    return lease.job, lease.task, lease.fence
