"""Simple rules for a node's memory: distComp's, fixed slots, and killing the newest and trying it again as it was.

They share one loop and differ in four numbers. None of them learns: what comes back comes back with the same requirement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from ergates.cluster.node import NodeCapacity
from ergates.taskqueue.memory import MemoryModel
from ergates.taskqueue.node_events import (
    AskForTasks,
    AttemptEnded,
    CheckPaths,
    DrainStarted,
    EndAttempt,
    GiveBack,
    HandBack,
    LeasesRevoked,
    NodeAction,
    NodeChanged,
    NodeEvent,
    NodeSampled,
    OffersSeen,
    PathsChecked,
    RefuseTask,
    RestEnded,
    RestStarted,
    StartAttempt,
    TasksLeased,
    WakeAt,
)
from ergates.taskqueue.node_settings import NodeSettings
from ergates.taskqueue.node_state import NodeState, Staged
from ergates.taskqueue.offers_known import OffersKnown
from ergates.taskqueue.running import Running
from ergates.taskqueue.store import Offer, PastPeak, Want
from ergates.units import Bytes, Nanoseconds, format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRule:
    """One rule of thumb.

    Args:
        accept_used_fraction: nothing starts while more than this share of the memory is in use.
        return_used_fraction: above this the newest attempt goes back; None never.
        accept_interval_ns: time between two starts.
        sample_ns: time between two looks at memory.
        jobs: attempts at once; None leaves it to cores.
    """

    accept_used_fraction: float
    return_used_fraction: float | None
    accept_interval_ns: int
    sample_ns: int
    jobs: int | None = None


DISTCOMP = NodeRule(
    # Its defaults, 80 and 40 GB free, as shares of a node of 256 GB; 32 tasks a worker, a look and a start every 2 s.
    accept_used_fraction=1 - 80 / 256,
    return_used_fraction=1 - 40 / 256,
    accept_interval_ns=2_000_000_000,
    sample_ns=2_000_000_000,
    jobs=32,
)
FIXED_SLOTS = NodeRule(accept_used_fraction=1e9, return_used_fraction=None, accept_interval_ns=0, sample_ns=100_000_000)
KILL_NEWEST = NodeRule(accept_used_fraction=0.9, return_used_fraction=0.95, accept_interval_ns=0, sample_ns=100_000_000)


class RuleOfThumb:
    """A node run by a `NodeRule`. Same events and actions as our own policy."""

    def __init__(
        self, capacity: NodeCapacity, settings: NodeSettings, rule: NodeRule, *, ends_ns: Nanoseconds | None = None
    ) -> None:
        self.capacity, self.rule = capacity, rule
        self._refuse_unfit = settings.refuse_unfit
        jobs = min((jobs for jobs in (settings.jobs, rule.jobs) if jobs is not None), default=None)
        self.state = NodeState(capacity, pin=settings.pin, jobs=jobs, ends_ns=ends_ns, gangs=settings.gangs)
        self._memory = MemoryModel(capacity.memory_bytes, settings)
        self._waits = OffersKnown(self.state, refuse_unfit=settings.refuse_unfit)
        self._offers: list[Offer] = []
        self._asked = self._draining = self._resting = False
        self._used_bytes = 0
        self._last_start_ns = -rule.accept_interval_ns
        self._actions: list[NodeAction] = []

    def handle(self, event: NodeEvent, now_ns: Nanoseconds) -> list[NodeAction]:
        """Take in one event; returns what to do, in order."""
        self._actions = []
        match event:
            case AttemptEnded(key=key):
                if self.state.end(key, now_ns) is None:
                    self.state.unstage(key)
            case TasksLeased(leases=leases):
                for lease in leases:
                    self.state.stage(lease, self._memory.sizing((lease.job, lease.task), lease.spec), now_ns)
                if self._draining or self._resting:
                    self._hand_back_staged()
            case OffersSeen(offers=offers):
                self._asked = False
                wanted_paths = self._waits.saw(offers, now_ns)
                if wanted_paths:
                    self._actions.append(CheckPaths(paths=wanted_paths))
                self._offers = self._waits.worth_leasing(now_ns)
            case NodeSampled():
                self._sampled(event, now_ns)
            case LeasesRevoked(keys=keys):
                for key in keys:
                    self._end(EndAttempt(key=key, reason="cancelled by the user"))
            case DrainStarted(give_back=give_back):
                self._drain(give_back)
            case RestStarted():
                self._resting = True
                self._hand_back_staged()
            case RestEnded():
                self._resting = False
            case PathsChecked(paths=paths, missing=missing):
                self.state.paths.checked(paths, missing, now_ns)
                self._offers = self._waits.worth_leasing(now_ns)
            case NodeChanged(capacity=capacity, jobs=jobs, ends_ns=ends_ns):
                self.capacity, self.state.ends_ns = capacity, ends_ns
                self.state.limit(capacity, jobs)
                self._offers = self._waits.worth_leasing(now_ns)
            case _:
                assert_never(event)
        if not (self._draining or self._resting):
            self._start_staged(now_ns)
            self._ask()
        return self._actions

    def learned(self) -> list[PastPeak]:
        """Nothing: these rules remember nothing."""
        return []

    def unfit_classes(self, now_ns: Nanoseconds) -> tuple[int, ...]:
        """Ids of offered classes that this node cannot serve as it is: for the next exchange."""
        return self._waits.unfit_classes(now_ns)

    def check_invariants(self) -> None:
        """Raises AssertionError."""
        self.state.check_invariants()

    def _sampled(self, event: NodeSampled, now_ns: int) -> None:
        self._used_bytes = event.used_bytes
        for key, used in event.attempts:
            if key in self.state.running:
                attempt = self.state.running[key]
                attempt.reached = max(attempt.reached, used)
        running = list(self.state.running.values())
        limit = self.rule.return_used_fraction
        full = limit is not None and event.used_bytes > limit * self.capacity.memory_bytes
        if full and running and not any(attempt.leaving for attempt in running):
            newest = running[-1]
            newest.leaving = True
            share = event.used_bytes / self.capacity.memory_bytes
            self._actions.append(
                GiveBack(
                    key=newest.key,
                    reason=f"given back at {format_bytes(newest.reached)}: the node was at {share:.0%} of its memory",
                    memory_floor_bytes=Bytes(0),
                    peak_bytes=Bytes(newest.reached),
                )
            )
        self._actions.append(WakeAt(at_ns=Nanoseconds(now_ns + self.rule.sample_ns)))

    def _start_staged(self, now_ns: int) -> None:
        for staged in list(self.state.staged):
            unfit = self.state.unfit(staged.requirement, now_ns)
            if unfit is not None:
                self.state.unstage(staged.key)
                refuse = RefuseTask(key=staged.key, reason=unfit, peak_bytes=Bytes(0))
                self._actions.append(refuse if self._refuse_unfit else HandBack(key=staged.key, reason=unfit))
            elif self._may_start(staged, now_ns):
                self._start(staged, now_ns)
            else:
                # Without attempts nobody samples; look again when the interval is over.
                again_ns = self._last_start_ns + self.rule.accept_interval_ns
                if again_ns > now_ns:
                    self._actions.append(WakeAt(at_ns=Nanoseconds(again_ns)))
                return

    def _may_start(self, staged: Staged, now_ns: int) -> bool:
        free = self._used_bytes <= self.rule.accept_used_fraction * self.capacity.memory_bytes
        in_time = now_ns - self._last_start_ns >= self.rule.accept_interval_ns
        return (free or not self.state.running) and in_time and self.state.slots.fits(staged.requirement)

    def _start(self, staged: Staged, now_ns: int) -> None:
        self.state.unstage(staged.key)
        place = self.state.start(Running(staged.key, staged.sizing, staged.priority, now_ns, False), staged.requirement)
        self._last_start_ns = now_ns
        self._actions.append(
            StartAttempt(
                key=staged.key,
                cpu_ids=place.slot.cpu_ids,
                indices=place.slot.indices,
                alternative=place.slot.alternative,
                basis="not predicted",
            )
        )

    def _drain(self, give_back: bool) -> None:
        self._draining = True
        self._hand_back_staged()
        for key in list(self.state.places) if give_back else []:
            self._end(HandBack(key=key, reason="the worker stops"))

    def _hand_back_staged(self) -> None:
        for staged in list(self.state.staged):
            self._end(HandBack(key=staged.key, reason="the worker starts nothing now"))

    def _end(self, action: EndAttempt | HandBack) -> None:
        place = self.state.places.get(action.key)
        if place is None:
            if self.state.unstage(action.key) is not None:
                self._actions.append(action)
        elif not place.queue[0].leaving:
            place.queue[0].leaving = True
            self._actions.append(action)

    def _ask(self) -> None:
        if self._asked:
            return
        wants = []
        ahead = len(self.state.staged)
        for offer in self._offers:
            count = min(offer.waiting, self.state.slots.free_count(offer.requirement, 64) + 1 - ahead)
            if count > 0:
                wants.append(Want(job=offer.job, class_id=offer.class_id, priority=offer.priority, count=count))
                ahead += count
        if wants:
            self._asked = True
            self._actions.append(AskForTasks(wants=tuple(wants)))
