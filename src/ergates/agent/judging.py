"""From the end of an attempt to its row in the ledger and the verdict on its task: `taskqueue/retry.py` decides."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from ergates.agent.outcomes import attempt_of, cost_of, outcome_of, peak_of, reason_of
from ergates.agent.peers import Peers
from ergates.agent.running import Running
from ergates.clock import Clock
from ergates.cluster.attempt import Attempt, Outcome
from ergates.cluster.job import JobSpec
from ergates.cluster.node import WorkerInfo
from ergates.cluster.task import JobId
from ergates.drivers.placers.slurm_records import PLACED_BY
from ergates.taskqueue.launching import Ended
from ergates.taskqueue.node_events import GiveBack
from ergates.taskqueue.retry import judge
from ergates.taskqueue.store import Lease, Returned, Verdict
from ergates.units import SECOND_NS, Nanoseconds

AFTER_TRANSFER_NS = 30 * SECOND_NS
"""A task whose files could not be carried, though it was tried for a while, waits for so long."""


class Judging:
    """Judges what ends on one node.

    Args:
        info: of its worker, as it is now.
        specs: of the jobs.
        clock: dates what never started.
        peers: the other workers, where there may be some: what this node cannot run, another one may.
    """

    def __init__(
        self,
        info: Callable[[], WorkerInfo],
        specs: Mapping[JobId, JobSpec],
        clock: Clock,
        peers: Peers | None,
    ) -> None:
        self._info, self._specs, self._clock, self._peers = info, specs, clock, peers
        self._random = random.Random(f"{info().id}/returns")

    @property
    def us(self) -> tuple[str, str]:
        """Our worker's id, and its host."""
        info = self._info()
        return info.id, info.host

    def ended(self, running: Running, ended: Ended) -> tuple[Attempt, Verdict]:
        """Of an attempt that ran, or should have."""
        lease, info = running.lease, self._info()
        peak = peak_of(ended, running.sampled_bytes, running.samples)
        outcome = outcome_of(ended, running.order, shared_end=shares_its_end(info.placed_by))
        wall_ns = max(0, ended.ended_ns - ended.started_ns) if ended.started_ns else 0
        cost = cost_of(
            wall_ns,
            running.holds.cpus_milli,
            info.capacity.cpus_milli,
            info.capacity.price_usd_micros_per_hour,
        )
        reason = reason_of(ended, outcome, running.order, peak[0], lease.spec.time_limit_ns)
        if lease.copy_of_host:
            copy = f"a copy of the attempt on {lease.copy_of_host}, which ran longer than its like"
            reason = f"{reason} ({copy})" if reason else copy
        attempt = attempt_of(
            ended,
            number=lease.attempt,
            outcome=outcome,
            reason=reason,
            worker=info.id,
            host=info.host,
            peak=peak,
            cost=cost,
            predicted_bytes=running.start.predicted_bytes,
        )
        floor = running.order.memory_floor_bytes if isinstance(running.order, GiveBack) else peak[0]
        return attempt, self._verdict(lease, outcome, attempt.reason, floor, peak[0])

    def unstarted(self, lease: Lease, outcome: Outcome, reason: str) -> tuple[Attempt, Verdict]:
        """Of one that no launcher was given."""
        info = self._info()
        attempt = Attempt(
            number=lease.attempt,
            outcome=outcome,
            worker=info.id,
            host=info.host,
            ended_ns=self._clock.now_ns(),
            reason=reason,
        )
        return attempt, self._verdict(lease, outcome, reason)

    def carried(
        self, lease: Lease, attempt: Attempt | None, outcome: Outcome | None, reason: str
    ) -> tuple[Attempt, Verdict]:
        """Of one whose inputs were fetched, or whose outputs were brought back.

        Args:
            lease: of it.
            attempt: what it came to before its outputs were brought; None: it has not started.
            outcome: of the transfer; None: all went well.
            reason: in words.
        """
        if attempt is None:
            attempt, verdict = self.unstarted(lease, outcome or Outcome.RETURNED, reason)
        else:
            if outcome is not None:
                attempt = replace(attempt, outcome=outcome, reason=reason)
            peak = attempt.usage.peak_bytes
            verdict = self._verdict(lease, attempt.outcome, attempt.reason, peak, peak)
        if outcome is Outcome.RETURNED and isinstance(verdict, Returned):
            # What cannot be reached from here may be from elsewhere, and not at once.
            at_ns = self._clock.now_ns() + int(AFTER_TRANSFER_NS * self._random.uniform(1.0, 1.25))
            return attempt, replace(verdict, not_before_ns=Nanoseconds(at_ns), avoid_host=self._info().host)
        return attempt, verdict

    def _verdict(self, lease: Lease, outcome: Outcome, reason: str, floor: int = 0, peak: int = 0) -> Verdict:
        info, peers = self._info(), self._peers
        return judge(
            lease,
            outcome,
            reason,
            floor,
            self._specs[lease.job].retry_limits,
            self._clock.now_ns(),
            info.host,
            self._random,
            peak_bytes=peak,
            capacity_bytes=info.capacity.memory_bytes,
            largest_bytes=None if peers is None else max(peers.largest_bytes, info.capacity.memory_bytes),
            elsewhere=peers is not None and peers.on_other_hosts > 0,
        )


def shares_its_end(placed_by: str) -> bool:
    """Whether what ends this worker (a batch system) ends its tasks by the same signal, and kills all soon after."""
    return placed_by.startswith(PLACED_BY)
