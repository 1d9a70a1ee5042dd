"""How far a run is, how fast it goes and when it may end. Pure: snapshots in, one view out.

The rate is that of the last third of the run (at least the last ten seconds): old enough not to jump with every
task, young enough to follow a change. Time without an end counts, so a stalled run's estimate grows instead of
standing still. No estimate is given before there is something to base it on.
"""

from __future__ import annotations

from dataclasses import dataclass

from ergates.agent.observer import NodeSnapshot
from ergates.cluster.attempt import Outcome
from ergates.cluster.task_state import TERMINAL

_WINDOW_MIN_NS = 10 * 10**9
_WINDOW_FRACTION = 1 / 3
_SAMPLES_MAX = 256
_ESTIMATE_AFTER_NS = 2 * 10**9
_ESTIMATE_AFTER_ENDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressView:
    """All a display needs. `rate_per_s` and `eta_ns` are None while it is too early to say.

    Args:
        ended: tasks that are done, failed or cancelled, those of earlier runs of the job included.
        evicted: attempts given back or killed for memory.
        retried: attempts that failed and whose task was tried again.
    """

    total: int
    ended: int
    failed: int
    cancelled: int
    running: int
    frozen: int
    delayed: int
    evicted: int
    retried: int
    used_bytes: int
    capacity_bytes: int
    rate_per_s: float | None
    eta_ns: int | None
    elapsed_ns: int
    waiting_for: str


class ProgressState:
    """Feed it every snapshot; ask it for the view whenever a frame is due."""

    def __init__(self) -> None:
        self._samples: list[tuple[int, int]] = []
        self._snapshot: NodeSnapshot | None = None
        self.used_bytes_max = 0

    def observe(self, snapshot: NodeSnapshot) -> None:
        """Take a snapshot in; those without a job's status only count for memory."""
        self.used_bytes_max = max(self.used_bytes_max, snapshot.used_bytes)
        if snapshot.job is None:
            return
        self._snapshot = snapshot
        self._samples.append((snapshot.at_ns, _ended(snapshot)))
        if len(self._samples) > _SAMPLES_MAX:
            # Every other old sample goes; the first stays, it is the start of the run.
            self._samples = [self._samples[0], *self._samples[2:-1:2], self._samples[-1]]

    def view(self) -> ProgressView | None:
        """None before the first snapshot of a job."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.job is None:
            return None
        job = snapshot.job
        rate = self._rate()
        left = job.total - _ended(snapshot)
        memory_ends = job.outcomes.get(Outcome.EVICTED, 0) + job.outcomes.get(Outcome.OOM_KILLED, 0)
        failed = job.counts.get("failed", 0)
        return ProgressView(
            total=job.total,
            ended=_ended(snapshot),
            failed=failed,
            cancelled=job.counts.get("cancelled", 0),
            running=snapshot.running,
            frozen=snapshot.frozen,
            delayed=job.counts.get("delayed", 0),
            evicted=memory_ends,
            retried=_retried(job.outcomes, failed),
            used_bytes=snapshot.used_bytes,
            capacity_bytes=snapshot.capacity_bytes,
            rate_per_s=rate,
            eta_ns=round(left / rate * 1e9) if rate and left else None,
            elapsed_ns=snapshot.at_ns - self._samples[0][0],
            waiting_for=snapshot.waiting_for,
        )

    def _rate(self) -> float | None:
        first_ns, first_ended = self._samples[0]
        now_ns, ended = self._samples[-1]
        elapsed_ns = now_ns - first_ns
        if elapsed_ns < _ESTIMATE_AFTER_NS or ended - first_ended < _ESTIMATE_AFTER_ENDS:
            return None
        since_ns = now_ns - max(_WINDOW_MIN_NS, round(elapsed_ns * _WINDOW_FRACTION))
        start_ns, start_ended = first_ns, first_ended
        for at_ns, count in self._samples:
            if at_ns > since_ns:
                break
            start_ns, start_ended = at_ns, count
        if ended == start_ended:  # nothing ended in the window: fall back to the whole run
            start_ns, start_ended = first_ns, first_ended
        return (ended - start_ended) / (now_ns - start_ns) * 1e9


def _ended(snapshot: NodeSnapshot) -> int:
    assert snapshot.job is not None
    return sum(snapshot.job.counts.get(state, 0) for state in TERMINAL)


def _retried(outcomes: dict[str, int], failed_tasks: int) -> int:
    """Attempts that ended badly by the task's own doing, less the last ones of tasks that are failed for good."""
    own = (Outcome.FAILED, Outcome.SIGNALLED, Outcome.TIMED_OUT, Outcome.LOST, Outcome.NOT_STARTED, Outcome.TOO_BIG)
    return max(0, sum(outcomes.get(outcome, 0) for outcome in own) - failed_tasks)
