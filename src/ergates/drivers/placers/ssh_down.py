"""Takes workers down that were placed by ssh: a drain is ordered through the store, and then their hosts are looked at.

A worker that left the store may still have left something behind (a program that detached itself, the store's password in a
file), so each host is visited at the end: what is left there is ended, and reported.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from ergates.cluster.node import WorkerOrders, WorkerStatus
from ergates.drivers.placers.hosts import Host
from ergates.drivers.placers.many_hosts import HostReport, HostRun, ManyHosts
from ergates.drivers.placers.placed_hosts import PlacedHosts
from ergates.drivers.placers.roster_watch import RosterWatch
from ergates.drivers.placers.ssh_up import placed_by
from ergates.drivers.placers.ssh_words import HostError, Reason
from ergates.errors import StoreError, UsageError

NOW_S = 30.0
"""With `now`, how long a worker may take to give its tasks back before it is asked by a signal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownPlan:
    """How to take down.

    Args:
        cluster: name of the cluster.
        now: give back what runs instead of letting it end; then a store that is away is no obstacle either.
        grace_s: what a worker that is still there may take to end what runs, and as long again to give it back.
    """

    cluster: str
    now: bool = False
    grace_s: float = 15.0


class SshDown:
    """`down` on many hosts. Arguments as of `SshUp`."""

    def __init__(self, many: ManyHosts, watch: RosterWatch, placed: PlacedHosts, plan: DownPlan) -> None:
        self._many, self._watch, self._placed, self._plan = many, watch, placed, plan

    async def run(self, hosts: Sequence[Host]) -> list[HostReport]:
        """One report for each host, in their order."""
        return await self._many.each(hosts, self._down)

    async def _down(self, run: HostRun) -> None:
        run.now("draining")
        drained = await self._drained(run)
        async with run.reached() as talk:
            run.now("ending")
            answer = await talk.ask(
                "stop",
                cluster=self._plan.cluster,
                now=self._plan.now,
                grace_s=self._plan.grace_s,
                timeout_s=2 * self._plan.grace_s + 60.0,
            )
        if answer["left"]:
            pids = ", ".join(str(pid) for pid in answer["left"])
            raise HostError(
                Reason(f"processes that do not end: {pids}", "waiting for a disk or a network? look there with ps")
            )
        if answer["killed"]:
            run.report.note = f"{len(answer['killed'])} processes had to be killed"
        await asyncio.to_thread(self._placed.remove, run.host.name)
        run.now("down" if drained or answer["found"] else "not up")

    async def _drained(self, run: HostRun) -> bool:
        """Order the drain and wait for its end; whether there was anybody to order it to."""
        orders = WorkerOrders(drain=True, give_back=self._plan.now)
        try:
            ids = self._live(run, await self._watch.look())
            for worker in ids:
                with contextlib.suppress(UsageError):  # it left meanwhile
                    await self._watch.order(worker, orders)
        except StoreError as error:
            if self._plan.now:
                run.report.note = "not drained: the store cannot be reached; its tasks come back when the lease ends"
                return False
            what = str(error).splitlines()[0]
            raise HostError(
                Reason(f"no drain could be ordered: {what}", "--now ends workers without the store")
            ) from error
        run.report.workers = ids
        if ids:
            await self._gone(run)
        return bool(ids)

    async def _gone(self, run: HostRun) -> None:
        """Wait until no worker of the host is live: as long as its tasks take, or with `now` a short time."""

        def gone(workers: tuple[WorkerStatus, ...]) -> bool:
            live = self._live(run, workers)
            running = sum(worker.leases for worker in workers if worker.info.id in live)
            step = f"draining: {running} tasks run" if running else "draining"
            if run.report.state != step:
                run.now(step)
            return not live

        try:
            async with asyncio.timeout(NOW_S if self._plan.now else None):
                await self._watch.until(gone)
        except TimeoutError:
            run.report.note = f"did not give its tasks back within {NOW_S:.0f} s: ended by a signal"

    @staticmethod
    def _live(run: HostRun, workers: tuple[WorkerStatus, ...]) -> list[str]:
        """Workers that would obey an order; one that fell silent is left to the visit of its host."""
        name = placed_by(run.host.name)
        return [worker.info.id for worker in workers if worker.info.placed_by == name and worker.standing == "live"]
