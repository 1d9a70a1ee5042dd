"""Workers as the store in memory knows them: live, condemned for silence, reaped, or gone.

A silent worker is only *condemned* when somebody looks: it may come back, and nothing has happened. Once another worker
committed one of its leases it is *reaped* and can change nothing until it registers again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from ergates.cluster.node import WorkerInfo

Standing = Literal["live", "condemned", "reaped", "left"]


@dataclass(slots=True)
class Member:
    """One registered worker."""

    info: WorkerInfo
    beat_ns: int
    standing: Standing = "live"


class Members:
    """All workers that ever registered."""

    def __init__(self, lease_ns: int, host: str = "", runs: Callable[[int, int], bool] | None = None) -> None:
        self._lease_ns, self._host, self._runs = lease_ns, host, runs
        self._members: dict[str, Member] = {}

    def all(self) -> Iterable[Member]:
        return self._members.values()

    def register(self, info: WorkerInfo, at_ns: int) -> None:
        self._members[info.id] = Member(info, at_ns)

    def beat(self, worker: str, at_ns: int) -> bool:
        """Note that it lives; False when it is unknown, was reaped or has left."""
        member = self._members.get(worker)
        if member is None or member.standing in ("reaped", "left"):
            return False
        member.beat_ns, member.standing = at_ns, "live"
        return True

    def condemn(self, at_ns: int, holders: Iterable[str], live_boot_id: str) -> list[str]:
        """Holders of leases that are silent for too long, provably dead, or were found so before."""
        gone = []
        for name in holders:
            member = self._members[name]
            silent = member.beat_ns + self._lease_ns < at_ns
            if member.standing == "live" and (silent or self._provably_dead(member.info, live_boot_id)):
                member.standing = "condemned"
            if member.standing in ("condemned", "reaped"):
                gone.append(name)
        return gone

    def may_reap(self, holder: str) -> bool:
        """Whether another worker may commit its leases; from then on it counts as reaped."""
        member = self._members[holder]
        if member.standing not in ("condemned", "reaped"):
            return False
        member.standing = "reaped"
        return True

    def leave(self, worker: str) -> None:
        if worker in self._members:
            self._members[worker].standing = "left"

    def host_of(self, worker: str) -> str:
        member = self._members.get(worker)
        return "" if member is None else member.info.host

    def lives(self, worker: str, at_ns: int) -> bool:
        """Whether it beat within the lease time and is not given up."""
        member = self._members.get(worker)
        return member is not None and member.standing == "live" and member.beat_ns + self._lease_ns >= at_ns

    def living(self, at_ns: int) -> list[str]:
        return [worker for worker in self._members if self.lives(worker, at_ns)]

    def others_live(self, host: str, at_ns: int) -> bool:
        """Whether a worker on another host can take what this host should avoid."""
        return any(
            member.info.host != host and member.standing == "live" and member.beat_ns > at_ns - self._lease_ns
            for member in self._members.values()
        )

    def _provably_dead(self, info: WorkerInfo, live_boot_id: str) -> bool:
        if info.host != self._host or not live_boot_id or not info.boot_id:
            return False
        if info.boot_id != live_boot_id:
            return True
        return self._runs is not None and info.pid > 0 and not self._runs(info.pid, info.pid_start_ticks)
